//! A request at its end, as data: what the request log and the spans are made from. Holds instants and the one wall
//! clock time they count from. Must never hold what was said: that goes to the request log alone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use weir_protocol::{Dialect, FinishReason, Origin, Usage};
use weir_router_policies::RoutePlan;

use super::attempts::{AttemptNote, Skipped};
use crate::caller::ClientKind;
use crate::traces::TraceContext;

/// The outcome of a request, and of an attempt, that brought a whole answer.
pub(crate) const FINISHED: &str = "finished";
/// The outcome of one whose caller left.
pub(crate) const CANCELLED: &str = "cancelled";

/// What a request asked for, once it could be read.
#[derive(Debug, Clone)]
pub(crate) struct AskedFor {
    /// The model as the caller wrote it.
    pub(crate) model: String,
    /// Whether that is known to be one of ours.
    pub(crate) is_ours: bool,
    /// Whether the answer was to be a stream.
    pub(crate) stream: bool,
    /// What kind of client asked.
    pub(crate) client: ClientKind,
    /// Which try of the same it said it is.
    pub(crate) attempt: Option<u32>,
    /// Where it said it comes from.
    pub(crate) origin: Origin,
}

/// A finished request.
#[derive(Debug)]
pub(crate) struct Closed {
    /// When its head came, by the wall clock.
    pub(crate) time: SystemTime,
    /// The same moment.
    pub(crate) started: Instant,
    /// When it was over.
    pub(crate) ended: Instant,
    /// When its body was there.
    pub(crate) body_read: Option<Instant>,
    /// About the memory that the request takes, for who keeps it.
    pub(crate) body_takes: usize,
    /// Its id.
    pub(crate) id: String,
    /// The trace it belongs to.
    pub(crate) trace: Option<TraceContext>,
    /// The dialect of its path.
    pub(crate) dialect: Dialect,
    /// Whose it was, where there are tenants.
    pub(crate) tenant: Option<Arc<str>>,
    /// What it asked for.
    pub(crate) asked: Option<AskedFor>,
    /// The decision, where it came so far.
    pub(crate) plan: Option<Arc<RoutePlan>>,
    /// Whether the canary's rules made it.
    pub(crate) by_canary: bool,
    /// What the plan aimed at, where one was followed.
    pub(crate) route: Option<String>,
    /// The backend that answered, or was tried last.
    pub(crate) backend: Option<String>,
    /// The model that said it answered.
    pub(crate) answered_model: Option<String>,
    /// What was tried, in order of start.
    pub(crate) attempts: Vec<Arc<AttemptNote>>,
    /// What was not.
    pub(crate) skipped: Vec<Skipped>,
    /// `finished`, `cancelled` (the caller left), or the kind of error.
    pub(crate) outcome: &'static str,
    /// Why it was not let in, where that is more than the kind of error.
    pub(crate) why: Option<String>,
    /// The status sent; `None` if the caller left before.
    pub(crate) status: Option<u16>,
    /// Why the answer ended.
    pub(crate) reason: Option<FinishReason>,
    /// When the first content came.
    pub(crate) first_content: Option<Instant>,
    /// What Weir itself added: see [`super::open`]. `None` where no answer began.
    pub(crate) overhead: Option<Duration>,
    /// What it took.
    pub(crate) usage: Option<Usage>,
    /// What it and all tried for it cost, in millionths, where backends have prices.
    pub(crate) money: Option<u64>,
}

impl Closed {
    /// The model asked for, where it is one of ours: any other text may be anything, a key included.
    pub(crate) fn own_model(&self) -> Option<&str> {
        let asked = self.asked.as_ref()?;
        (asked.is_ours || self.plan.is_some()).then_some(&asked.model)
    }

    /// Where the answer's waiting is counted from: the request was here.
    pub(crate) fn asked_at(&self) -> Instant {
        self.body_read.unwrap_or(self.started)
    }

    /// When the backend had said everything, where it did.
    pub(crate) fn answered_at(&self) -> Option<Instant> {
        let ends = self.attempts.iter().map(|note| note.ended());
        ends.rev().find(|end| end.outcome == FINISHED).map(|end| end.at)
    }

    /// A moment by the wall clock.
    pub(crate) fn wall(&self, at: Instant) -> SystemTime {
        self.time + at.saturating_duration_since(self.started)
    }
}
