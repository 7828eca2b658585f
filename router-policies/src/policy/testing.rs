//! Tests inside a policy file: given features or a request, the rule and the route expected. Must never ask a backend,
//! and must say what came instead of what was expected.

use serde_json::{Map, Value as Json};
use weir_protocol::{ChatRequest, Message, Role};

use super::Policy;
use super::diagnostic::nearest_help;
use super::foretold::{self, Foretold};
use super::variables::Variable;
use super::written::{WrittenExpect, WrittenTest};
use crate::classify::{Classifier, Family, Judged};
use crate::condense::{CondenseSettings, condense};
use crate::facts::{BackendFacts, BackendRole};
use crate::features::{FEATURES, Features};
use crate::plan::RoutePlan;
use crate::question::{CondensedSize, JudgedFamily, Moment, Predicted, Question, WEEKDAYS};
use crate::unwrap;

/// Whatever a test may give besides features.
const BESIDE: [&str; 8] = ["family", "family_probability", "tenant", "hour", "weekday", "model", "lot", "predicted"];

/// One test, checked.
#[derive(Debug)]
pub struct PolicyTest {
    /// What it says.
    pub name: String,
    /// The file it is in.
    pub origin: String,
    /// Line and column there.
    pub position: (usize, usize),
    /// Features given by hand, over those of the request.
    given: Map<String, Json>,
    beside: Beside,
    request: Option<TestRequest>,
    expect: WrittenExpectation,
}

/// The request a test is about.
#[derive(Debug, Clone, PartialEq)]
pub enum TestRequest {
    /// A user's text.
    Text(String),
    /// A request's body as JSON.
    Body(Json),
    /// A file with one, beside the policy file.
    File(std::path::PathBuf),
}

#[derive(Debug, Default)]
struct Beside {
    family: Option<JudgedFamily>,
    tenant: String,
    now: Moment,
    model: Option<String>,
    conversation: u64,
    predicted: Vec<Foretold>,
}

#[derive(Debug)]
struct WrittenExpectation {
    rule: Option<String>,
    route: Option<String>,
    first: Option<String>,
    attempts: Option<Vec<String>>,
    condensed: Option<bool>,
}

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    /// Its name.
    pub name: String,
    /// The file it is in.
    pub origin: String,
    /// Line and column there.
    pub position: (usize, usize),
    /// What came otherwise than expected; empty: it passed.
    pub problems: Vec<String>,
}

type Fault = (String, String);

impl PolicyTest {
    pub(super) fn of(written: &WrittenTest, origin: &str, position: (usize, usize)) -> Result<PolicyTest, Fault> {
        let given = written.given.as_ref().map(|given| given.get_ref().clone()).unwrap_or_default();
        let (beside, features): (toml::Table, toml::Table) =
            given.into_iter().partition(|(name, _)| BESIDE.contains(&name.as_str()));
        let beside = Beside::of(&beside)?;
        let features = features.into_iter().map(|(name, value)| feature(name, &value)).collect::<Result<_, _>>()?;
        if written.given.is_none() && written.request.is_none() {
            return Err(("there is neither `given` nor `request`".into(), "give features or a request".into()));
        }
        let request = match written.request.as_ref().map(|request| request.get_ref()) {
            None => None,
            Some(toml::Value::String(file)) if file.ends_with(".json") => {
                Some(TestRequest::File(super::files::beside(origin, file)))
            }
            Some(toml::Value::String(text)) => Some(TestRequest::Text(text.clone())),
            Some(body @ toml::Value::Table(_)) => Some(TestRequest::Body(json(body)?)),
            Some(_) => {
                return Err((
                    "`request` is no request".into(),
                    "a text, a file that ends in .json, or a body as a table".into(),
                ));
            }
        };
        let WrittenExpect { rule, route, first, attempts, condensed } = written.expect.get_ref();
        if rule.is_none() && route.is_none() && first.is_none() && attempts.is_none() && condensed.is_none() {
            return Err(("nothing is expected".into(), "expect a `rule`, a `route`, or `first`".into()));
        }
        Ok(PolicyTest {
            name: written.name.get_ref().clone(),
            origin: origin.to_owned(),
            position,
            given: features,
            beside,
            request,
            expect: WrittenExpectation {
                rule: rule.clone(),
                route: route.clone(),
                first: first.clone(),
                attempts: attempts.clone(),
                condensed: *condensed,
            },
        })
    }

    /// Runs it. `read` makes a request of a body or a file.
    fn run(
        &self,
        policy: &Policy,
        backends: &[BackendFacts],
        read: &dyn Fn(&TestRequest) -> Result<ChatRequest, String>,
    ) -> Vec<String> {
        let request = match &self.request {
            None => None,
            Some(TestRequest::Text(text)) => Some(ChatRequest {
                model: "auto".into(),
                messages: vec![Message::text(Role::User, text.as_str())],
                ..ChatRequest::default()
            }),
            Some(other) => match read(other) {
                Ok(request) => Some(request),
                Err(why) => return vec![format!("the request cannot be read: {why}")],
            },
        };
        let asked = request.as_ref().map(unwrap::asked);
        let features = match (&request, &asked) {
            (Some(request), Some(asked)) => Features::of_asked(request, asked),
            _ => Features::default(),
        };
        let Some(features) = overridden(&features, &self.given) else {
            return vec!["the features given are not of their types".to_owned()];
        };
        // As the gateway judges. Features alone are not judged: without a text there is nothing to judge by.
        let judged = || Some(Classifier::embedded().classify(asked.as_ref()?, &features).into());
        let family = self.beside.family.clone().or_else(judged);
        let strangers = foretold::strangers(&self.beside.predicted, backends);
        if !strangers.is_empty() {
            return strangers;
        }
        let foretold = |facts: &BackendFacts| foretold::of_backend(&self.beside.predicted, facts);
        let predicted: Vec<Predicted> = backends.iter().filter_map(foretold).collect();
        let condensed = policy.condenses().and_then(|settings| size(settings, request.as_ref(), &features));
        let model = self.beside.model.as_deref().or(request.as_ref().map(|request| request.model.as_str()));
        let question = Question {
            model: model.unwrap_or("auto"),
            family,
            predicted: &predicted,
            tenant: &self.beside.tenant,
            now: self.beside.now,
            conversation: self.beside.conversation,
            condensed,
            ..Question::about(features, backends)
        };
        self.expect.compare(&policy.decide(&question))
    }
}

/// What condensing makes of the request; of features alone, the most it can be.
fn size(settings: &CondenseSettings, request: Option<&ChatRequest>, features: &Features) -> Option<CondensedSize> {
    match request {
        Some(request) => condense(request, features, settings).map(|condensed| condensed.size),
        None => Some(CondensedSize { bytes: settings.max_bytes.min(features.prompt_bytes), tools: settings.max_tools }),
    }
}

impl WrittenExpectation {
    fn compare(&self, plan: &RoutePlan) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |what: &str, expected: &Option<String>, got: &str| {
            if let Some(expected) = expected.as_ref().filter(|expected| *expected != got) {
                problems.push(format!("{what} is `{got}`, not `{expected}` ({})", plan.reason));
            }
        };
        check("rule", &self.rule, &plan.rule);
        check("route", &self.route, &plan.route);
        let first = plan.attempts.first();
        check("first", &self.first, first.map_or("", |attempt| &attempt.backend));
        let names: Vec<&str> = plan.attempts.iter().map(|attempt| attempt.backend.as_str()).collect();
        if let Some(expected) = self.attempts.as_ref().filter(|expected| **expected != names) {
            problems.push(format!("attempts are {}, not {}", names.join(", "), expected.join(", ")));
        }
        let condensed = first.is_some_and(|attempt| attempt.condensed);
        if self.condensed.is_some_and(|expected| expected != condensed) {
            problems.push(format!("the first attempt is {}condensed", if condensed { "" } else { "not " }));
        }
        problems
    }
}

impl Beside {
    fn of(given: &toml::Table) -> Result<Self, Fault> {
        let mut out = Beside::default();
        let mut probability = None;
        for (name, value) in given {
            let wrong = |wanted: &str| (format!("`{name}` is no {wanted}"), String::new());
            let text = |wanted: &str| value.as_str().map(str::to_owned).ok_or_else(|| wrong(wanted));
            let number = || value.as_integer().and_then(|value| u64::try_from(value).ok());
            match name.as_str() {
                "family" => {
                    let word = text("family")?;
                    let Some(family) = Family::named(&word) else {
                        return Err((format!("unknown family `{word}`"), nearest_help(&word, Family::WORDS)));
                    };
                    out.family = Some(Judged::named(family).into());
                }
                "family_probability" => {
                    let share = value.as_float().or_else(|| Some(number()? as f64));
                    let share = share.filter(|share| (0.0..=1.0).contains(share));
                    probability = Some(share.ok_or_else(|| wrong("probability from 0.0 to 1.0"))?);
                }
                "tenant" => out.tenant = text("tenant")?,
                "model" => out.model = Some(text("model")?),
                "hour" => {
                    let hour = number().and_then(|hour| u8::try_from(hour).ok()).filter(|hour| *hour < 24);
                    out.now.hour = hour.ok_or_else(|| wrong("hour from 0 to 23"))?;
                }
                "weekday" => {
                    let day = value.as_str().and_then(|day| WEEKDAYS.iter().position(|known| *known == day));
                    let day = day.and_then(|day| u8::try_from(day).ok());
                    out.now.day = day.ok_or_else(|| wrong("weekday: mon, tue, …"))?;
                }
                "lot" => out.conversation = number().ok_or_else(|| wrong("number"))?,
                _ => out.predicted = foretold::read(value)?,
            }
        }
        if let Some(probability) = probability {
            let Some(family) = &mut out.family else {
                return Err(("`family_probability` is given without `family`".into(), "give a `family`, too".into()));
            };
            family.probability = probability;
        }
        Ok(out)
    }
}

/// A feature given by hand, of its type.
fn feature(name: String, value: &toml::Value) -> Result<(String, Json), Fault> {
    let Some(info) = FEATURES.iter().find(|info| info.name == name) else {
        let known = FEATURES.iter().map(|info| info.name).chain(BESIDE);
        return Err((format!("unknown feature `{name}`"), nearest_help(&name, known)));
    };
    let value = json(value)?;
    let mut probe = Map::new();
    probe.insert(name.clone(), value.clone());
    match overridden(&Features::default(), &probe) {
        Some(_) => Ok((name, value)),
        None if info.words.is_empty() => Err((format!("`{name}` takes {}", info.kind.in_words()), String::new())),
        None => Err((format!("`{name}` is never that"), format!("known: {}", info.words.join(", ")))),
    }
}

fn overridden(features: &Features, given: &Map<String, Json>) -> Option<Features> {
    let mut all = serde_json::to_value(features).ok()?;
    let members = all.as_object_mut()?;
    members.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
    serde_json::from_value(all).ok()
}

fn json(value: &toml::Value) -> Result<Json, Fault> {
    serde_json::to_value(value).map_err(|_| ("a date is no JSON".to_owned(), "write it as a text".to_owned()))
}

impl Policy {
    /// Runs every test inside the file. `read` makes a request of a body or a file.
    pub fn run_tests(
        &self,
        backends: &[BackendFacts],
        read: &dyn Fn(&TestRequest) -> Result<ChatRequest, String>,
    ) -> Vec<TestOutcome> {
        let run = |test: &PolicyTest| TestOutcome {
            name: test.name.clone(),
            origin: test.origin.clone(),
            position: test.position,
            problems: test.run(self, backends, read),
        };
        self.tests.iter().map(run).collect()
    }

    /// The backends that tests stand on where no config says others: the two built-in ones, a small window for diffusion
    /// and a large one for AR, which takes everything; and one like that for each backend that the policy asks or judges by.
    pub fn test_backends(&self) -> Vec<BackendFacts> {
        let facts = |name: &str, role, context_tokens, takes_all| BackendFacts {
            name: name.to_owned(),
            group: None,
            role,
            context_tokens,
            takes_images: takes_all,
            takes_tools: true,
            honours_unsupported: takes_all,
            local: true,
            bytes_per_token: 4.0,
        };
        let mut out = vec![
            facts(BackendRole::Diffusion.as_str(), BackendRole::Diffusion, 4096, false),
            facts(BackendRole::Ar.as_str(), BackendRole::Ar, 131_072, true),
        ];
        let roles = BackendRole::ALL.map(BackendRole::as_str);
        let judged = self.named.iter().filter_map(|variable| match variable {
            Variable::Predicted(subject, _) if !roles.contains(&subject.as_str()) => Some(subject.as_str()),
            _ => None,
        });
        for name in self.backends().into_iter().chain(judged) {
            if out.iter().all(|known| known.name != name) {
                out.push(facts(name, BackendRole::Ar, 131_072, true));
            }
        }
        out
    }
}
