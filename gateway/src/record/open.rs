//! A request under way. Clones are the same record: the layer holds one, later the answer's body; the flight another.
//! When the last is dropped the record closes, so it closes exactly once whatever becomes of the request.
//!
//! **Overhead** is what Weir itself added: the time from the request's last byte to the response, less the time in which
//! an attempt (or the pause before a retry) was under way, and after that the time spent inside the body's polls. What a
//! slow caller takes to send or to read is in neither.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::time::Instant;
use weir_protocol::{ChatRequest, Dialect, EngineError, FinishReason, Usage};
use weir_router_policies::RoutePlan;

use super::Recorder;
use super::attempts::{AttemptNote, Skipped, why};
use super::closed::{AskedFor, Closed, FINISHED};
use super::content::AnswerSaid;
use crate::caller::ClientKind;
use crate::traces::TraceContext;

/// Longest name of an answering model that is kept: it is the upstream's word.
const MODEL_CHARS_MAX: usize = 256;

/// How a request ended that never came to an answer: the kind of its error, left among a response's extensions by whoever
/// renders the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome(pub &'static str);

/// See the module.
#[derive(Clone)]
pub struct Record(Arc<Open>);

struct Open {
    recorder: Arc<Recorder>,
    time: SystemTime,
    started: Instant,
    id: String,
    dialect: Dialect,
    trace: Option<TraceContext>,
    draft: Mutex<Draft>,
}

/// What is known so far.
#[derive(Default)]
struct Draft {
    tenant: Option<Arc<str>>,
    body_read: Option<Instant>,
    body_takes: usize,
    asked: Option<AskedFor>,
    content: Option<Arc<ChatRequest>>,
    plan: Option<Arc<RoutePlan>>,
    by_canary: bool,
    landing: Option<Landing>,
    refused: Option<&'static str>,
    why: Option<String>,
    status: Option<StatusCode>,
    waits: Waits,
    before_headers: Option<Duration>,
    polled: Duration,
}

/// What the flight knows at its end.
#[derive(Default)]
pub(crate) struct Landing {
    pub(crate) outcome: &'static str,
    pub(crate) route: Option<String>,
    pub(crate) backend: Option<String>,
    pub(crate) answered_model: Option<String>,
    pub(crate) attempts: Vec<Arc<AttemptNote>>,
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) reason: Option<FinishReason>,
    pub(crate) first_content: Option<Instant>,
    pub(crate) usage: Option<Usage>,
    pub(crate) money: Option<u64>,
    pub(crate) answer: Option<AnswerSaid>,
}

/// How long something outside was waited for.
#[derive(Default)]
struct Waits {
    under_way: u32,
    since: Option<Instant>,
    total: Duration,
}

impl Waits {
    fn until(&self, now: Instant) -> Duration {
        self.total + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

impl Record {
    /// A request begins.
    pub(crate) fn open(recorder: &Arc<Recorder>, id: &str, dialect: Dialect, trace: Option<TraceContext>) -> Self {
        Record(Arc::new(Open {
            recorder: Arc::clone(recorder),
            time: SystemTime::now(),
            started: Instant::now(),
            id: id.to_owned(),
            dialect,
            trace,
            draft: Mutex::default(),
        }))
    }

    /// One that no layer opened: it is counted, and nothing else.
    pub(crate) fn counted_only(metrics: &Arc<crate::metrics::Metrics>) -> Self {
        Record::open(&Arc::new(Recorder::counting(Arc::clone(metrics))), "", Dialect::default(), None)
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.0.recorder
    }

    /// The trace it belongs to.
    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        self.0.trace.as_ref()
    }

    fn draft(&self) -> MutexGuard<'_, Draft> {
        self.0.draft()
    }

    /// Whose it is.
    pub fn tenant(&self, name: &Arc<str>) {
        self.draft().tenant = Some(Arc::clone(name));
    }

    /// The body is here, whole, or is not waited for any more. As a request it takes so many bytes of memory.
    pub fn body_read(&self, takes: usize) {
        let mut draft = self.draft();
        (draft.body_read, draft.body_takes) = (Some(Instant::now()), takes);
    }

    /// The request could be read.
    pub(crate) fn asked(&self, request: &Arc<ChatRequest>, client: ClientKind) {
        let keeps_content = self.0.recorder.keeps_content();
        let mut draft = self.draft();
        draft.asked = Some(AskedFor {
            model: request.model.clone(),
            is_ours: false,
            stream: request.stream,
            client,
            attempt: request.hints.attempt,
            origin: request.hints.origin.clone(),
        });
        draft.content = keeps_content.then(|| Arc::clone(request));
    }

    /// It is decided who may answer, by the canary's rules or by the live ones.
    pub(crate) fn planned(&self, plan: &Arc<RoutePlan>, by_canary: bool) {
        let mut draft = self.draft();
        draft.plan = Some(Arc::clone(plan));
        draft.by_canary = by_canary;
    }

    /// Where the answer's waiting is counted from.
    pub(crate) fn asked_at(&self) -> Instant {
        self.draft().body_read.unwrap_or(self.0.started)
    }

    /// Something outside is waited for until the guard is dropped. Waits beside each other count once.
    pub(crate) fn waiting(&self) -> Waiting {
        let mut draft = self.draft();
        draft.waits.under_way += 1;
        if draft.waits.under_way == 1 {
            draft.waits.since = Some(Instant::now());
        }
        Waiting(self.clone())
    }

    /// The search for an answer and the answer are over.
    pub(crate) fn landed(&self, landing: Landing) {
        self.draft().landing = Some(landing);
    }

    /// The response begins; `refused` if it is an error.
    pub fn responded(&self, status: StatusCode, refused: Option<Outcome>) {
        let now = Instant::now();
        let since = self.asked_at();
        let mut draft = self.draft();
        draft.status = Some(status);
        draft.refused = refused.map(|Outcome(kind)| kind);
        draft.before_headers = Some(now.saturating_duration_since(since).saturating_sub(draft.waits.until(now)));
    }

    /// It is not let in, for this; `is_ours`: it asked for one of our models.
    pub(crate) fn because(&self, error: &EngineError, is_ours: bool) {
        let mut draft = self.draft();
        draft.why = why(error);
        if let Some(asked) = &mut draft.asked {
            asked.is_ours = is_ours;
        }
    }

    /// It is not let in, by this setting.
    pub(crate) fn by_setting(&self, name: &str) {
        self.draft().why = Some(format!("`{name}` is reached"));
    }

    /// The body is done with; its polls took so long.
    pub fn body_ended(&self, polled: Duration) {
        self.draft().polled += polled;
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Record").field(&self.0.id).finish()
    }
}

/// See [`Record::waiting`].
pub(crate) struct Waiting(Record);

impl Drop for Waiting {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut draft = self.0.draft();
        draft.waits.under_way = draft.waits.under_way.saturating_sub(1);
        if draft.waits.under_way == 0 {
            draft.waits.total = draft.waits.until(now);
            draft.waits.since = None;
        }
    }
}

impl Open {
    fn draft(&self) -> MutexGuard<'_, Draft> {
        // Each change is complete in itself, so what a panicking thread left is sound.
        self.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let draft = std::mem::take(&mut *self.draft());
        // What had no end of its own was given up by its caller, or by a fault of ours.
        let without_end = if std::thread::panicking() { "internal" } else { "cancelled" };
        let landed = draft.landing.is_some();
        let landing = draft.landing.unwrap_or_default();
        let outcome = match (landed.then_some(landing.outcome), draft.refused) {
            // The answer was there but could not be said in the caller's dialect.
            (Some(FINISHED), Some(refused)) => refused,
            (Some(outcome), _) => outcome,
            (None, refused) => refused.unwrap_or(without_end),
        };
        let said = draft.content.map(|request| (request, landing.answer.unwrap_or_default()));
        let closed = Closed {
            time: self.time,
            started: self.started,
            ended: Instant::now(),
            body_read: draft.body_read,
            body_takes: draft.body_takes,
            id: std::mem::take(&mut self.id),
            trace: self.trace.take(),
            dialect: self.dialect,
            tenant: draft.tenant,
            asked: draft.asked,
            plan: draft.plan,
            by_canary: draft.by_canary,
            route: landing.route,
            backend: landing.backend,
            answered_model: landing.answered_model.map(|model| model.chars().take(MODEL_CHARS_MAX).collect()),
            attempts: landing.attempts,
            skipped: landing.skipped,
            outcome,
            why: draft.why,
            status: draft.status.map(|status| status.as_u16()),
            reason: landing.reason,
            first_content: landing.first_content,
            overhead: draft.before_headers.map(|before| before + draft.polled),
            usage: landing.usage,
            money: landing.money,
        };
        self.recorder.closed(closed, said);
    }
}
