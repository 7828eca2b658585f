//! Everything a condition may name besides features, as tables, and the values of all of it for one question. Must never
//! know how a prediction or a family came about.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use cel::{Context, Env, Value};

use crate::facts::{BackendFacts, BackendRole};
use crate::features::{FeatureInfo, Features, Kind};
use crate::question::{Predicted, Question, WEEKDAYS};

/// The name under which the facts of the backends stand.
pub(super) const BACKENDS: &str = "backends";
/// The name under which predictions stand.
pub(super) const PREDICTED: &str = "predicted";

/// A name with its kind and meaning.
#[derive(Debug, Clone, Copy)]
pub struct VariableInfo {
    /// The name in conditions.
    pub name: &'static str,
    /// The type there.
    pub kind: Kind,
    /// The words it can be; empty where any text is possible, or it is no text.
    pub words: &'static [&'static str],
    /// What it means.
    pub meaning: &'static str,
}

const fn variable(name: &'static str, kind: Kind, meaning: &'static str) -> VariableInfo {
    VariableInfo { name, kind, words: &[], meaning }
}

/// Known about a request beside its features.
pub const VARIABLES: [VariableInfo; 5] = [
    VariableInfo {
        name: "family",
        kind: Kind::Text,
        words: &crate::classify::Family::WORDS,
        meaning: "task family of the asked text; `unsure` below the classifier's confidence",
    },
    variable("family_probability", Kind::Double, "calibrated probability of the family, 0 to 1"),
    variable("tenant", Kind::Text, "name of the tenant whose key it is; empty without tenants"),
    variable("hour", Kind::Int, "hour of the day, 0 to 23, UTC"),
    VariableInfo { name: "weekday", kind: Kind::Text, words: &WEEKDAYS, meaning: "day of the week, UTC" },
];

/// What is known of the backends of a role, as `backends.<role>.<fact>`.
pub const BACKEND_FACTS: [VariableInfo; 6] = [
    variable("present", Kind::Bool, "a backend of this role is configured"),
    variable("can_take", Kind::Bool, "one of them can take this request: size, images, parameters, tools"),
    variable("context_tokens", Kind::Int, "the largest window among them"),
    variable("takes_images", Kind::Bool, "one of them takes images"),
    variable("takes_tools", Kind::Bool, "one of them calls tools"),
    variable("local", Kind::Bool, "one of them is on this machine"),
];

/// What is predicted of a backend, as `predicted.<role or name>.<fact>`. Of a role: of the quickest that can take the
/// request. Times that nobody can tell yet are infinite, so that they are never the smaller ones.
pub const PREDICTED_FACTS: [VariableInfo; 8] = [
    variable("known", Kind::Bool, "there is a prediction"),
    variable("ttft_ms", Kind::Double, "milliseconds to the first content"),
    variable("ttft_low_ms", Kind::Double, "the same, lower end of the interval"),
    variable("ttft_high_ms", Kind::Double, "the same, upper end"),
    variable("total_ms", Kind::Double, "milliseconds to the end of the answer"),
    variable("total_low_ms", Kind::Double, "the same, lower end of the interval"),
    variable("total_high_ms", Kind::Double, "the same, upper end"),
    variable("error_rate", Kind::Double, "share of recent attempts that failed, 0 to 1"),
];

/// One thing a condition names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variable {
    /// A feature.
    Feature(&'static str),
    /// One of [`VARIABLES`].
    Known(&'static str),
    /// One of [`BACKEND_FACTS`].
    Backend(BackendRole, &'static str),
    /// One of [`PREDICTED_FACTS`].
    Predicted(String, &'static str),
}

impl Variable {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Variable::Feature(name) => feature(name).map_or(Kind::Bool, |info| info.kind),
            Variable::Known(name) => of(&VARIABLES, name).map_or(Kind::Text, |info| info.kind),
            Variable::Backend(_, fact) => of(&BACKEND_FACTS, fact).map_or(Kind::Bool, |info| info.kind),
            Variable::Predicted(_, fact) => of(&PREDICTED_FACTS, fact).map_or(Kind::Double, |info| info.kind),
        }
    }

    /// The words it can be; empty: any.
    pub(super) fn words(&self) -> &'static [&'static str] {
        match self {
            Variable::Feature(name) => feature(name).map_or(&[], |info| info.words),
            Variable::Known(name) => of(&VARIABLES, name).map_or(&[], |info| info.words),
            Variable::Backend(..) | Variable::Predicted(..) => &[],
        }
    }

    /// Its value for a question.
    pub(super) fn value(&self, question: &Question<'_>) -> Value {
        let none = || Value::Null;
        match self {
            Variable::Feature(name) => question.features.value(name).unwrap_or_else(none),
            Variable::Known(name) => known(name, question),
            Variable::Backend(role, fact) => RoleSeen::of(*role, &question.features, question.backends).fact(fact),
            Variable::Predicted(subject, fact) => predicted_fact(question.predicted_of(subject).as_ref(), fact),
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variable::Feature(name) | Variable::Known(name) => f.write_str(name),
            Variable::Backend(role, fact) => write!(f, "{BACKENDS}.{}.{fact}", role.as_str()),
            Variable::Predicted(subject, fact) if is_word(subject) => write!(f, "{PREDICTED}.{subject}.{fact}"),
            Variable::Predicted(subject, fact) => write!(f, "{PREDICTED}['{subject}'].{fact}"),
        }
    }
}

/// What CEL takes for one name.
fn is_word(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

pub(super) fn feature(name: &str) -> Option<&'static FeatureInfo> {
    crate::features::FEATURES.iter().find(|info| info.name == name)
}

pub(super) fn of<const N: usize>(table: &'static [VariableInfo; N], name: &str) -> Option<&'static VariableInfo> {
    table.iter().find(|info| info.name == name)
}

fn known(name: &str, question: &Question<'_>) -> Value {
    match name {
        "family" => question.family.as_ref().map_or("unsure", |family| family.name.as_ref()).into(),
        "family_probability" => Value::Float(question.family.as_ref().map_or(0.0, |family| family.probability)),
        "tenant" => question.tenant.into(),
        "hour" => Value::Int(i64::from(question.now.hour)),
        "weekday" => question.now.weekday().into(),
        _ => Value::Null,
    }
}

fn predicted_fact(predicted: Option<&Predicted>, fact: &str) -> Value {
    let Some(predicted) = predicted else {
        return match fact {
            "known" => false.into(),
            "error_rate" => Value::Float(0.0),
            _ => Value::Float(f64::INFINITY),
        };
    };
    match fact {
        "known" => true.into(),
        "ttft_ms" => Value::Float(predicted.ttft.expected_ms),
        "ttft_low_ms" => Value::Float(predicted.ttft.low_ms),
        "ttft_high_ms" => Value::Float(predicted.ttft.high_ms),
        "total_ms" => Value::Float(predicted.total.expected_ms),
        "total_low_ms" => Value::Float(predicted.total.low_ms),
        "total_high_ms" => Value::Float(predicted.total.high_ms),
        _ => Value::Float(predicted.error_rate),
    }
}

#[derive(Default, Clone, Copy)]
struct RoleSeen {
    present: bool,
    can_take: bool,
    context_tokens: u64,
    takes_images: bool,
    takes_tools: bool,
    local: bool,
}

impl RoleSeen {
    fn of(role: BackendRole, features: &Features, backends: &[BackendFacts]) -> Self {
        backends.iter().filter(|backend| backend.role == role).fold(RoleSeen::default(), |seen, backend| RoleSeen {
            present: true,
            can_take: seen.can_take || backend.obstacle(features).is_none(),
            context_tokens: seen.context_tokens.max(backend.context_tokens),
            takes_images: seen.takes_images || backend.takes_images,
            takes_tools: seen.takes_tools || backend.takes_tools,
            local: seen.local || backend.local,
        })
    }

    fn fact(&self, name: &str) -> Value {
        match name {
            "present" => self.present.into(),
            "can_take" => self.can_take.into(),
            "context_tokens" => Value::Int(i64::try_from(self.context_tokens).unwrap_or(i64::MAX)),
            "takes_images" => self.takes_images.into(),
            "takes_tools" => self.takes_tools.into(),
            _ => self.local.into(),
        }
    }
}

/// The values of `named` for one question, as a condition finds them.
pub(super) fn context(
    language: &Arc<Env>,
    named: &BTreeSet<Variable>,
    question: &Question<'_>,
) -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::clone(language));
    let mut nested: [HashMap<String, HashMap<String, Value>>; 2] = Default::default();
    for variable in named {
        let value = variable.value(question);
        match variable {
            Variable::Feature(name) | Variable::Known(name) => context.add_variable_from_value(*name, value),
            Variable::Backend(role, fact) => {
                nested[0].entry(role.as_str().to_owned()).or_default().insert((*fact).to_owned(), value);
            }
            Variable::Predicted(subject, fact) => {
                nested[1].entry(subject.clone()).or_default().insert((*fact).to_owned(), value);
            }
        }
    }
    let [backends, predicted] = nested;
    for (name, subjects) in [(BACKENDS, backends), (PREDICTED, predicted)] {
        if !subjects.is_empty() {
            let subjects: HashMap<String, Value> =
                subjects.into_iter().map(|(subject, facts)| (subject, facts.into())).collect();
            context.add_variable_from_value(name, Value::from(subjects));
        }
    }
    context
}
