//! Runs a plan: attempts in order, fallback only before the first content, each under its first-content budget. Among
//! equals the best placed is asked; a backend that fails too often is left alone.
//! Must never choose an engine (that is `router-policies`) nor know a dialect (that is `api`).

mod answering;
mod asking;
mod balance;
mod continuing;
mod dice;
mod ending;
mod exhausted;
mod explained;
mod foresight;
mod form;
mod offers;
mod open;
mod plan;
mod policies;
mod run;
mod schemas;
mod standing;
mod sticky;
mod watch;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use weir_protocol::{ChatRequest, EngineError};
use weir_router_policies::canary::Arm;
use weir_router_policies::latency::Ask;
use weir_router_policies::policy::PIN;
use weir_router_policies::{BackendFacts, Predicted, Turn};

pub use self::asking::now as moment;
use self::asking::{Asking, Beside};
use self::dice::Dice;
use self::ending::{Ended, Ending};
pub use self::explained::Explained;
use self::explained::{CanaryShown, ShadowShown};
pub use self::foresight::Foresight;
pub(crate) use self::plan::serves;
pub use self::policies::Policies;
use self::run::{Given, Search};
pub use self::standing::{Standing, StandingView};
use self::sticky::Sticky;
use self::watch::Watch;
use crate::backends::{Backend, EventStream, Registry};
use crate::caller::ClientKind;
use crate::config::attempts::AttemptSettings;
use crate::config::latency::ForesightSettings;
use crate::metrics::{Flight, Metrics};
use crate::record::Record;
use crate::tenants::Charge;

/// What became of a request, for headers, logs and metrics: the same data everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteReport {
    /// `auto`, `diffusion`, `ar` or a backend's name: what the plan aims at.
    pub route: String,
    /// Why, one line, never with prompt text.
    pub reason: String,
    /// The backend that answers (or was tried last).
    pub backend: String,
    /// Attempts that failed before this one, as (backend, error kind).
    pub failed: Vec<(String, &'static str)>,
    /// Whether it got no tools but functions, though others were offered.
    pub left_out: bool,
}

impl RouteReport {
    /// The backend of this step is asked, or answers.
    fn names(&mut self, step: &open::Step) {
        self.backend.clone_from(&step.backend);
        self.left_out = step.left_out;
    }
}

/// An answer under way: its first event is known, so the report is true.
pub struct Answer {
    /// How it was routed.
    pub report: RouteReport,
    /// What the backend said about its rate limits, as header names and values.
    pub limits: Vec<(String, String)>,
    /// The events, `Started` first. Dropping them cancels the work.
    pub events: EventStream,
}

/// No attempt could answer.
#[derive(Debug)]
pub struct Refusal {
    /// How it was routed, when it came that far.
    pub report: Option<RouteReport>,
    /// The error to show.
    pub error: EngineError,
}

/// On whose behalf a request is planned.
#[derive(Default)]
pub struct Asker {
    /// What the client is.
    pub client: ClientKind,
    /// Backends and groups that may serve it; empty: all.
    pub backends: Arc<[String]>,
    /// What it costs a tenant.
    pub charge: Option<Charge>,
    /// What is kept of it.
    pub record: Option<Record>,
}

/// Plans requests and runs the plans.
pub struct Router {
    backends: Registry,
    facts: Vec<BackendFacts>,
    policies: Policies,
    metrics: Arc<Metrics>,
    ending: Arc<Ending>,
    sticky: Arc<Sticky>,
    foresight: Arc<Foresight>,
    settings: Arc<AttemptSettings>,
    dice: Arc<Dice>,
}

impl Router {
    /// A router over these backends, choosing by this policy, or these, and learning backends' times as `latency` says.
    pub fn new(
        backends: Registry,
        policies: impl Into<Policies>,
        settings: AttemptSettings,
        latency: ForesightSettings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (facts, policies) = (backends.facts(), policies.into());
        // Gateways that start together must not draw alike.
        let dice = Arc::new(Dice::new(uuid::Uuid::new_v4().as_u64_pair().0));
        let foresight = Foresight::new(latency, facts.clone());
        Router {
            foresight,
            backends,
            facts,
            policies,
            metrics,
            ending: Arc::new(Ending::new()),
            sticky: Arc::new(Sticky::new()),
            settings: Arc::new(settings),
            dice,
        }
    }

    /// What is learnt about backends' times.
    pub fn foresight(&self) -> &Arc<Foresight> {
        &self.foresight
    }

    /// What each of `facts` would need now.
    fn predicted(&self, facts: &[BackendFacts], ask: &Ask) -> Vec<Predicted> {
        let in_flight = |name: &str| {
            let standing = self.backends.by_name(name).map(|backend| backend.standing.in_flight());
            standing.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX))
        };
        self.foresight.predicted(facts, ask, in_flight)
    }

    /// Whether there is a canary (1), and whether it still decides (2: no more): for the gauge.
    pub fn canary_state(&self) -> i64 {
        self.policies.canary_state()
    }

    /// This router in the place of `old`, whose answers it can end, too, and whose conversations stay where they are.
    /// `same_canary`: it is the one that `old` has, beside the same live policy or another.
    pub fn succeeding(mut self, old: &Router, same_canary: bool, same_live: bool) -> Self {
        if same_canary {
            self.policies.keep_canary(&old.policies, same_live);
        }
        let (ending, sticky, dice) = (Arc::clone(&old.ending), Arc::clone(&old.sticky), Arc::clone(&old.dice));
        let foresight = self.foresight.succeeding(&old.foresight);
        Router { ending, sticky, dice, foresight, ..self }
    }

    /// Ends every answer that is under way, each with an error that its caller sees; those of routers before it, too.
    pub fn end_all(&self) {
        self.ending.now();
    }

    /// The backends behind it.
    pub fn backends(&self) -> &Registry {
        &self.backends
    }

    /// Who would be asked first. Counts nothing: for questions about a request that nobody makes.
    ///
    /// # Errors
    /// The model is unknown, or none of `backends` (empty: all) has it.
    pub fn first(&self, request: &ChatRequest, backends: &[String]) -> Result<&Backend, EngineError> {
        let nobody = |_: Turn| None;
        let facts = self.facts_of(backends);
        let predicts = |ask: &Ask| self.predicted(&facts, ask);
        let beside = Beside { tenant: "", now: moment(), stays_with: &nobody, predicts: &predicts };
        let plan = plan::plan(&self.backends, &facts, &self.policies, request, (&self.dice, beside))?;
        let first = self.backends.by_name(&plan.report.backend);
        first.ok_or_else(|| EngineError::internal("a plan without a backend"))
    }

    /// Explains where `request` would go for a tenant of this name. Counts and remembers nothing.
    ///
    /// # Errors
    /// The model is unknown, or none of `backends` (empty: all) has it.
    pub fn explain(&self, request: &ChatRequest, backends: &[String], tenant: &str) -> Result<Explained, EngineError> {
        let facts = self.facts_of(backends);
        let owner = plan::owner(&self.backends, &facts, &request.model)?;
        let stays_with = |turn: Turn| self.sticky.stays_with(turn);
        let predicts = |ask: &Ask| self.predicted(&facts, ask);
        let beside = Beside { tenant, now: moment(), stays_with: &stays_with, predicts: &predicts };
        let mut asking = Asking::of(request, owner, beside);
        let (arm, policy) = self.policies.deciding(asking.turn.conversation);
        asking.condense_for(request, policy);
        let decided = policy.decide(&asking.question(request, &facts));
        let shadow = self.policies.shadow(&decided).map(|shadow| {
            let live = asking.condensed.take();
            asking.condense_for(request, shadow);
            let plan = shadow.decide(&asking.question(request, &facts));
            asking.condensed = live;
            let difference = policies::difference(&decided, &plan);
            let first = plan.attempts.into_iter().next().map(|attempt| attempt.backend);
            ShadowShown { policy: shadow.origin().to_owned(), rule: plan.rule, route: plan.route, first, difference }
        });
        let rolled_back = self.policies.rolled_back();
        let canary = (self.policies.canary_state() > 0).then_some(CanaryShown { arm, rolled_back });
        Ok(Explained { canary, shadow, ..Explained::told(request, policy, &facts, asking) })
    }

    /// Those of the backends and groups of these names; of none, all.
    fn facts_of(&self, names: &[String]) -> Cow<'_, [BackendFacts]> {
        plan::named(&self.facts, names)
    }

    /// Decides who may answer, without asking anybody. From here on the request counts, whatever becomes of it.
    ///
    /// # Errors
    /// The model is unknown, or no backend that may serve the asker has it.
    #[expect(clippy::result_large_err, reason = "made once a request, and only to be rendered")]
    pub fn plan(&self, mut request: Arc<ChatRequest>, asker: Asker) -> Result<Box<Planned>, Refusal> {
        let Asker { client, backends, mut charge, record } = asker;
        let tenant = charge.as_ref().and_then(|charge| charge.tenant_name());
        let stays_with = |turn: Turn| self.sticky.stays_with(turn);
        let facts = self.facts_of(&backends);
        let predicts = |ask: &Ask| self.predicted(&facts, ask);
        let tenant = tenant.as_deref().unwrap_or_default();
        let beside = Beside { tenant, now: moment(), stays_with: &stays_with, predicts: &predicts };
        let mut plan = plan::plan(&self.backends, &facts, &self.policies, &request, (&self.dice, beside))
            .map_err(|error| self.unplanned(error, tenant, charge.as_mut()))?;
        self.probe(&mut plan);
        if plan.background && !request.background {
            Arc::make_mut(&mut request).background = true;
        }
        let record = record.unwrap_or_else(|| Record::counted_only(&self.metrics));
        // Who named the model had nothing decided.
        let arm = Some(plan.arm).filter(|_| plan.decision.rule != PIN);
        record.planned(&plan.decision, arm == Some(Arm::Canary));
        let flight = Flight::start(record, &plan.report.route, charge);
        let (settings, dice) = (Arc::clone(&self.settings), Arc::clone(&self.dice));
        let (sticky, foresight) = (Arc::clone(&self.sticky), Arc::clone(&self.foresight));
        let shadowed = plan.shadow.take().and_then(|shadow| self.shadowed(&request, &plan, shadow));
        let watch = self.policies.watch(&request, arm, shadowed, &self.metrics);
        Ok(Box::new(Planned {
            request,
            plan,
            flight,
            client,
            settings,
            dice,
            sticky,
            watch,
            foresight,
            ended: self.ending.ended(),
        }))
    }

    /// A request that nobody may or can answer costs nothing.
    fn unplanned(&self, error: EngineError, tenant: &str, charge: Option<&mut Charge>) -> Refusal {
        if let Some(charge) = charge {
            charge.failed();
        }
        if matches!(error, EngineError::Denied { .. }) {
            self.metrics.denied(tenant, "backend");
        }
        Refusal { report: None, error }
    }

    /// Whether one of `backends` (empty: all) may answer who asks for `model`.
    pub fn serves(&self, model: &str, backends: &[String]) -> bool {
        plan::find_owner(&self.backends, &self.facts_of(backends), model).is_some()
    }

    /// Once in a while the plan begins with a backend that was not seen lately, where the operator wants that.
    fn probe(&self, plan: &mut plan::Plan) {
        let names: Vec<&str> = plan.steps.iter().map(|step| step.backend.as_str()).collect();
        if let Some(at) = self.foresight.probe(&names).filter(|at| *at < plan.steps.len()) {
            let step = plan.steps.remove(at);
            plan.report.reason = format!("{}; {} first, to see how it does", plan.report.reason, step.backend);
            plan.report.names(&step);
            plan.steps.insert(0, step);
        }
    }

    /// Counts what the shadow decided; `Some`: what it would have asked, where that is another backend.
    fn shadowed(
        &self,
        request: &Arc<ChatRequest>,
        live: &plan::Plan,
        shadow: Box<plan::ShadowDecision>,
    ) -> Option<policies::Shadowed> {
        let difference = policies::difference(&live.decision, &shadow.plan);
        self.metrics.shadow_decided(&live.decision.route, &shadow.plan.route, difference);
        let is_sent = difference == "backend" && self.policies.samples(self.dice.fraction());
        let first = shadow.plan.attempts.first().filter(|_| is_sent)?;
        let backend = self.backends.by_name(&first.backend)?;
        let condensed = shadow.condensed.filter(|_| first.condensed).map(|condensed| Arc::new(condensed.request));
        let mut request = open::with_decoding(condensed.as_ref().unwrap_or(request), &first.decoding);
        // Nobody waits for it: real requests go first.
        Arc::make_mut(&mut request).background = true;
        let (service, standing) = (backend.service.clone(), Arc::clone(&backend.standing));
        Some(policies::Shadowed { service, standing, request })
    }
}

/// A request with its route, nothing tried yet: lets `api` send headers that name the route before the answer. In a box, since
/// each future it is handed to would have it twice.
pub struct Planned {
    request: Arc<ChatRequest>,
    plan: plan::Plan,
    flight: Flight,
    client: ClientKind,
    settings: Arc<AttemptSettings>,
    dice: Arc<Dice>,
    sticky: Arc<Sticky>,
    foresight: Arc<Foresight>,
    /// Where a canary or a shadow wants to know what becomes of it.
    watch: Option<Watch>,
    ended: Ended,
}

impl Planned {
    /// The route and why, before anybody answered: a backend is named only if no other can take its place.
    pub fn report(&self) -> RouteReport {
        let mut report = self.plan.report.clone();
        if self.plan.steps.len() > 1 {
            report.backend.clear();
            report.left_out = self.plan.steps.iter().all(|step| step.left_out);
        }
        report
    }

    /// How long a stream's headers wait for the first content, where the caller's kind of client has a wish of its own.
    pub fn hold_headers(&self) -> Option<Duration> {
        (self.client == ClientKind::OpenClaw)
            .then(|| Duration::from_millis(self.settings.exhausted.openclaw_hold_headers_ms))
    }

    /// Resolves when the first content is known (or the end, or a draft the caller asked for), so that
    /// [`Answer::report`] is true. Dropping the future, or later the events, cancels the work.
    ///
    /// # Errors
    /// No attempt could answer.
    pub async fn run(self: Box<Self>) -> Result<Answer, Refusal> {
        let (foresight, ask) = (self.foresight, self.plan.ask);
        let lesson = |standing: &Standing| foresight.lesson(standing, &ask);
        let given = Given {
            request: &self.request,
            class: self.plan.class,
            lesson: &lesson,
            settings: &self.settings,
            dice: &self.dice,
            ended: self.ended,
        };
        let search = Search::new(self.plan.steps, self.plan.report, self.flight, given);
        let answer = match (search.run().await, self.watch) {
            (Ok(answer), Some(watch)) => Ok(Answer { events: watch.over(answer.events), ..answer }),
            (Err(refusal), Some(watch)) => {
                watch.refused(&refusal.error);
                Err(refusal)
            }
            (answer, None) => answer,
        };
        let answer = answer.inspect(|answer| self.sticky.answered(self.plan.turn, &answer.report.backend));
        answer.map_err(|refusal| exhausted::told(refusal, self.client, &self.settings.exhausted))
    }
}
