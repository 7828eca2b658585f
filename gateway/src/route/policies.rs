//! The policies that decide: the live one, for a share of the conversations a canary, and a shadow beside them that only
//! says what it would have done. Must never let a caller see what a shadow's backend answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tower::ServiceExt;
use weir_protocol::{ChatRequest, EngineError};
use weir_router_policies::canary::{Arm, Canary, RolledBack};
use weir_router_policies::policy::PIN;
use weir_router_policies::{Policy, PolicyError, RoutePlan};

use super::standing::Standing;
use super::watch::{End, Seen, Watch};
use crate::backends::{Attempt, BackendService};
use crate::config::Settings;
use crate::metrics::Metrics;

/// Shadow requests that may be under way at once: they must not take the room of real ones.
const SHADOWS_AT_ONCE: usize = 2;
/// Longest a shadow request may take.
const SHADOW_LIMIT: Duration = Duration::from_secs(120);

/// See the module.
pub struct Policies {
    live: Policy,
    canary: Option<CanaryPolicy>,
    shadow: Option<ShadowPolicy>,
}

struct CanaryPolicy {
    policy: Policy,
    state: Arc<Mutex<Canary>>,
}

struct ShadowPolicy {
    policy: Policy,
    /// Share of the requests decided otherwise that are really sent.
    sample: f64,
    room: Arc<Semaphore>,
}

impl From<Policy> for Policies {
    /// Only a live one.
    fn from(live: Policy) -> Self {
        Policies { live, canary: None, shadow: None }
    }
}

impl Policies {
    /// Those of a config.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn of(settings: &Settings) -> Result<Self, PolicyError> {
        let canary = settings.trials.canary.as_ref().map(|canary| {
            let state = Arc::new(Mutex::new(Canary::new(canary.share, canary.rails)));
            canary.policy.parse().map(|policy| CanaryPolicy { policy, state })
        });
        let shadow = settings.trials.shadow.as_ref().map(|shadow| {
            let room = Arc::new(Semaphore::new(SHADOWS_AT_ONCE));
            shadow.policy.parse().map(|policy| ShadowPolicy { policy, sample: shadow.sample, room })
        });
        Ok(Policies { live: settings.policy.parse()?, canary: canary.transpose()?, shadow: shadow.transpose()? })
    }

    /// Takes over what the canary of `old`, which is the same, has shown, unless it was compared with another live policy;
    /// one that was given up stays so.
    pub(super) fn keep_canary(&mut self, old: &Policies, same_live: bool) {
        if let (Some(canary), Some(old)) = (&mut self.canary, &old.canary)
            && (same_live || lock(&old.state).rolled_back().is_some())
        {
            canary.state = Arc::clone(&old.state);
        }
    }

    /// All of them, the live one first.
    pub fn all(&self) -> impl Iterator<Item = &Policy> {
        let others = self.canary.iter().map(|canary| &canary.policy);
        std::iter::once(&self.live).chain(others).chain(self.shadow.iter().map(|shadow| &shadow.policy))
    }

    /// The one that decides for this conversation.
    pub(super) fn deciding(&self, conversation: u64) -> (Arm, &Policy) {
        match &self.canary {
            Some(canary) if lock(&canary.state).arm(conversation) == Arm::Canary => (Arm::Canary, &canary.policy),
            _ => (Arm::Live, &self.live),
        }
    }

    /// The one that only looks on, where the live one had something to decide: not of a model that the caller named, nor
    /// while a turn goes on with its backend.
    pub(super) fn shadow(&self, live: &RoutePlan) -> Option<&Policy> {
        let goes_on = live.stay.as_ref().is_some_and(|stay| stay.against.is_none());
        self.shadow.as_ref().filter(|_| live.rule != PIN && !goes_on).map(|shadow| &shadow.policy)
    }

    /// Whether a request decided otherwise is really sent, at this draw from [0, 1).
    pub(super) fn samples(&self, draw: f64) -> bool {
        self.shadow.as_ref().is_some_and(|shadow| draw < shadow.sample)
    }

    /// Why the canary was given up, if it was.
    pub(super) fn rolled_back(&self) -> Option<RolledBack> {
        lock(&self.canary.as_ref()?.state).rolled_back().cloned()
    }

    /// Whether there is a canary, and whether it still decides: for the gauge.
    pub(super) fn canary_state(&self) -> i64 {
        match &self.canary {
            None => 0,
            Some(canary) => 1 + i64::from(lock(&canary.state).rolled_back().is_some()),
        }
    }

    /// Watches a request for the canary's guard rails (`arm`: whose policy decided, if one did) and for the shadow, where
    /// either wants to know.
    pub(super) fn watch(
        &self,
        request: &Arc<ChatRequest>,
        arm: Option<Arm>,
        shadowed: Option<Shadowed>,
        metrics: &Arc<Metrics>,
    ) -> Option<Watch> {
        let canary = self.canary.as_ref().zip(arm).map(|(canary, arm)| (Arc::clone(&canary.state), arm));
        let sent = shadowed.and_then(|shadowed| self.send_later(shadowed, metrics));
        if canary.is_none() && sent.is_none() {
            return None;
        }
        let metrics = Arc::clone(metrics);
        let told = move |seen: Seen| {
            if let (Some((canary, arm)), Some(outcome)) = (canary, seen.outcome()) {
                metrics.canary_saw(arm.as_str(), outcome.failed);
                let given_up = lock(&canary).saw(arm, outcome);
                if let Some(RolledBack { by, canary, live }) = given_up {
                    metrics.canary_rolled_back(by);
                    tracing::warn!(
                        by,
                        canary,
                        live,
                        "the canary policy is rolled back: it does worse than the live one"
                    );
                }
            }
            if let Some(sent) = sent {
                // Nobody waits any more when the runtime ends.
                let _ = sent.send(seen);
            }
        };
        Some(Watch::new(request, Box::new(told)))
    }

    /// Sends the request to the shadow's choice once the live answer is over, for a sample.
    fn send_later(&self, shadowed: Shadowed, metrics: &Arc<Metrics>) -> Option<oneshot::Sender<Seen>> {
        let shadow = self.shadow.as_ref()?;
        let room = Arc::clone(&shadow.room);
        let (sender, live) = oneshot::channel();
        let metrics = Arc::clone(metrics);
        tokio::spawn(async move {
            // The comparison needs a whole answer on the live side.
            let Some(live) = live.await.ok().filter(|live: &Seen| live.end == End::Finished) else { return };
            // A place is for asking, not for waiting until the live answer is over.
            let Ok(_place) = room.try_acquire_owned() else { return metrics.shadow_sent("no_room") };
            if !shadowed.standing.is_in(Instant::now()) {
                return metrics.shadow_sent("skipped");
            }
            let other = ask(shadowed.service, shadowed.request).await;
            if let Some(tokens) = other.tokens {
                metrics.shadow_used(shadowed.standing.name(), tokens);
            }
            metrics.shadow_sent(match (other.end, other.broke_form) {
                (End::Finished, Some(true)) => "broke_form",
                (End::Finished, _) => "valid",
                (End::Cancelled, _) => "too_slow",
                (End::Failed | End::Refused, _) => "failed",
            });
            if other.end == End::Finished {
                if let (Some(other), Some(live)) = (other.ttft_ms, live.ttft_ms) {
                    metrics.shadow_ratio("ttft", other, live);
                }
                metrics.shadow_ratio("total", other.total_ms, live.total_ms);
                metrics.shadow_ratio("length", other.bytes as f64, live.bytes as f64);
            }
        });
        Some(sender)
    }
}

/// What the shadow would have asked.
pub(super) struct Shadowed {
    /// Its first backend.
    pub(super) service: BackendService,
    /// How that stands: one that real requests leave alone is left alone.
    pub(super) standing: Arc<Standing>,
    /// What it would have sent.
    pub(super) request: Arc<ChatRequest>,
}

/// Both decisions beside each other: `same`, another `backend`, or only another `rule`.
pub(super) fn difference(live: &RoutePlan, shadow: &RoutePlan) -> &'static str {
    let first = |plan: &RoutePlan| plan.attempts.first().map(|attempt| (attempt.backend.clone(), attempt.condensed));
    match (first(live) == first(shadow), live.rule == shadow.rule) {
        (false, _) => "backend",
        (true, false) => "rule",
        (true, true) => "same",
    }
}

async fn ask(service: BackendService, request: Arc<ChatRequest>) -> Seen {
    let out = Arc::new(Mutex::new(Seen::default()));
    let told = Arc::clone(&out);
    let watch = Watch::new(&request, Box::new(move |seen| *lock(&told) = seen));
    let answered = tokio::time::timeout(SHADOW_LIMIT, async move {
        match service.oneshot(Attempt { request, model: None, trace: Vec::new() }).await {
            Ok(events) => {
                let mut events = watch.over(events);
                while events.next().await.is_some_and(|event: Result<_, EngineError>| event.is_ok()) {}
            }
            Err(error) => watch.refused(&error),
        }
    });
    // Too slow: the watch was dropped in the middle, and says so.
    let _ = answered.await;
    *lock(&out)
}

/// What a panicking thread left is sound: each change is complete in itself.
fn lock<T>(state: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_router_policies::canary::{GuardRails, Outcome};

    fn policies() -> Policies {
        let policy = || Policy::parse(PROFILE, "p").expect("a policy");
        let rails = GuardRails { error_rise: 0.1, ttft_ratio: 2.0, invalid_rise: 0.1, min_requests: 4 };
        let state = Arc::new(Mutex::new(Canary::new(0.5, rails)));
        Policies { canary: Some(CanaryPolicy { policy: policy(), state }), ..policy().into() }
    }

    const PROFILE: &str = include_str!("../../../config/policies/ar-first.toml");

    /// Requests of this arm, all failed or all good; whether the canary was given up.
    fn saw(policies: &Policies, arm: Arm, failed: bool) -> bool {
        let mut state = lock(&policies.canary.as_ref().expect("a canary").state);
        let outcome = Outcome { failed, broke_form: None, ttft_ms: None };
        (0..4).any(|_| state.saw(arm, outcome).is_some())
    }

    #[test]
    fn a_canary_is_compared_with_the_policy_that_is_live_now() {
        let old = policies();
        assert!(!saw(&old, Arm::Live, false));
        let (mut same, mut other) = (policies(), policies());
        same.keep_canary(&old, true);
        other.keep_canary(&old, false);
        assert!(!saw(&other, Arm::Canary, true), "nothing is known of this live policy yet");
        assert!(saw(&same, Arm::Canary, true));
        let mut later = policies();
        later.keep_canary(&same, false);
        assert!(later.rolled_back().is_some(), "what was given up does not come back");
    }
}
