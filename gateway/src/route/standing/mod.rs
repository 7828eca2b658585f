//! How each backend stands: whether it may be asked now, what one more attempt would cost, and how it has done. Fed by
//! guards only ([`Ticket`]); the machines in here are told the time and do no IO.

mod breaker;
mod budget;
mod cost;
mod health;
mod latencies;
mod outlier;
mod ticket;
mod window;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use weir_protocol::EngineError;

use self::breaker::{Breaker, Gate, Shown};
use self::budget::Budget;
use self::cost::Cost;
use self::health::Health;
use self::latencies::Latencies;
use self::outlier::Peer;
use crate::config::attempts::{AskingSettings, StandingSettings};

pub(crate) use self::latencies::Class;
pub(crate) use self::ticket::Ticket;

/// Longest time a backend's own `Retry-After` keeps requests from it.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// One backend's standing, shared by everybody who asks it.
#[derive(Debug)]
pub struct Standing {
    name: String,
    max_in_flight: Option<usize>,
    places: Option<Arc<Semaphore>>,
    in_flight: Arc<AtomicUsize>,
    state: Mutex<State>,
    /// The others of its group; another config may bring others.
    peers: RwLock<Vec<Weak<Standing>>>,
    /// Whether an operator took it out.
    is_drained: AtomicBool,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    budget: Budget,
    cost: Cost,
    latencies: Latencies,
    health: Health,
    paused_until: Option<Instant>,
    ejections: u64,
    /// Whether the breaker opened over budgets of plans, not over failures.
    is_only_slow: bool,
}

/// What an attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The first one at this backend: it earns a part of an extra one.
    First,
    /// A retry or a hedge, paid for with [`Standing::spend`].
    Extra,
    /// A first one without a time budget: it may ask a backend that is only too slow for those who have one.
    Patient,
    /// A first one that does not believe the health check.
    DespiteHealth,
}

/// Why a backend is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// It failed too often lately.
    BreakerOpen(Duration),
    /// Its health check fails.
    Unhealthy,
    /// It asked to be left alone.
    RateLimited(Duration),
    /// As many attempts are under way as it may have.
    Full(usize),
    /// An operator took it out.
    Drained,
}

impl Skip {
    /// Stable word for metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Skip::BreakerOpen(_) => "breaker_open",
            Skip::Unhealthy => "unhealthy",
            Skip::RateLimited(_) => "rate_limited",
            Skip::Full(_) => "full",
            Skip::Drained => "drained",
        }
    }

    /// What a caller is told when nobody else can answer.
    pub(crate) fn error(self) -> EngineError {
        let left_alone =
            |message: &str, retry_after| EngineError::Upstream { status: 0, message: message.into(), retry_after };
        match self {
            Skip::BreakerOpen(wait) => {
                // While one tries it nobody knows how long.
                let known = Some(wait).filter(|wait| !wait.is_zero());
                left_alone("it failed too often lately and is left alone for a while", known)
            }
            Skip::Unhealthy => left_alone("its health check fails", None),
            Skip::RateLimited(wait) => EngineError::RateLimited { retry_after: Some(wait) },
            Skip::Drained => left_alone("an operator has taken it out", None),
            Skip::Full(limit) => EngineError::Overloaded { limit: limit as u64, retry_after: None },
        }
    }
}

/// A standing as the dashboards show it.
#[derive(Debug, Clone, PartialEq)]
pub struct StandingView {
    /// The backend.
    pub backend: String,
    /// 0 closed, 1 half open, 2 open.
    pub breaker: i64,
    /// How often the breaker opened.
    pub opened: u64,
    /// How often the group's others were so much better that it was taken out.
    pub ejections: u64,
    /// Whether its health check is well, or there is none.
    pub healthy: bool,
    /// Extra attempts it may cost now.
    pub budget: f64,
    /// Peak EWMA of the time to the first content, in seconds.
    pub latency_seconds: Option<f64>,
    /// Attempts under way.
    pub in_flight: usize,
    /// Whether an operator took it out.
    pub drained: bool,
    /// How long its own `Retry-After` still keeps requests from it.
    pub paused: Option<Duration>,
}

impl Standing {
    /// A good one.
    pub fn new(name: &str, asking: &AskingSettings, settings: &StandingSettings) -> Arc<Self> {
        Standing::following(None, name, asking, settings)
    }

    /// A good one, for a backend that was asked under other settings before: what is still under way there takes its
    /// places here, too, if their number is the same.
    pub fn following(
        old: Option<&Standing>,
        name: &str,
        asking: &AskingSettings,
        settings: &StandingSettings,
    ) -> Arc<Self> {
        let now = Instant::now();
        let failures = asking.health.as_ref().map_or(1, |health| health.failures);
        let fresh = || asking.max_in_flight.map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))));
        let same = old.filter(|old| old.max_in_flight == asking.max_in_flight);
        Arc::new(Standing {
            name: name.to_owned(),
            max_in_flight: asking.max_in_flight,
            places: same.map_or_else(fresh, |old| old.places.clone()),
            in_flight: old.map_or_else(Arc::default, |old| Arc::clone(&old.in_flight)),
            state: Mutex::new(State {
                breaker: Breaker::new(settings.clone(), now),
                budget: Budget::new(settings.extra_ratio, settings.extra_burst),
                cost: Cost::default(),
                latencies: Latencies::default(),
                health: Health::new(failures),
                paused_until: None,
                ejections: 0,
                is_only_slow: false,
            }),
            peers: RwLock::default(),
            is_drained: AtomicBool::new(false),
        })
    }

    /// Makes the members of a group known to each other, in the place of those they knew.
    pub fn introduce(members: &[Arc<Standing>]) {
        for (own, member) in members.iter().enumerate() {
            let others = members.iter().enumerate().filter(|(other, _)| *other != own);
            let others = others.map(|(_, other)| Arc::downgrade(other)).collect();
            *member.peers.write().unwrap_or_else(PoisonError::into_inner) = others;
        }
    }

    /// An operator takes the backend out, or brings it back; what is under way goes on.
    pub fn drain(&self, drained: bool) {
        self.is_drained.store(drained, Ordering::Relaxed);
    }

    /// Whether an operator took it out.
    pub fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    /// The backend.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete in itself, so what a panicking thread left is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for an attempt.
    pub(crate) fn admit(self: &Arc<Self>, class: &Class, purpose: Purpose, now: Instant) -> Result<Ticket, Skip> {
        if self.is_drained() {
            return Err(Skip::Drained);
        }
        let place = match &self.places {
            None => None,
            Some(places) => match Arc::clone(places).try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => return Err(Skip::Full(self.max_in_flight.unwrap_or_default())),
            },
        };
        let mut state = self.state();
        if let Some(until) = state.paused_until.filter(|until| *until > now) {
            return Err(Skip::RateLimited(until - now));
        }
        if !state.health.is_well() && purpose != Purpose::DespiteHealth {
            return Err(Skip::Unhealthy);
        }
        let probe = match state.breaker.gate(now) {
            Gate::Pass => false,
            Gate::Probe => true,
            Gate::Shut(_) if purpose == Purpose::Patient && state.is_only_slow => false,
            Gate::Shut(wait) => return Err(Skip::BreakerOpen(wait)),
        };
        if matches!(purpose, Purpose::First | Purpose::Patient) {
            state.budget.earn();
        }
        drop(state);
        Ok(Ticket::new(Arc::clone(self), class.clone(), now, probe, place))
    }

    /// Pays for an extra attempt.
    pub(crate) fn spend(&self) -> bool {
        self.state().budget.spend()
    }

    /// Whether [`Standing::admit`] would let a request through. Reserves nothing.
    pub(crate) fn is_in(&self, now: Instant) -> bool {
        let full = self.places.as_ref().is_some_and(|places| places.available_permits() == 0);
        let state = self.state();
        let paused = state.paused_until.is_some_and(|until| until > now);
        !full && !paused && !self.is_drained() && state.health.is_well() && state.breaker.lets_in(now)
    }

    /// Attempts under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What one more attempt would cost; of equals the least is best.
    pub(crate) fn cost(&self, now: Instant) -> f64 {
        self.state().cost.of(self.in_flight(), now)
    }

    /// The time to the first content that 19 of 20 requests of this class keep.
    pub(crate) fn p95(&self, class: &Class) -> Option<Duration> {
        self.state().latencies.p95(class)
    }

    /// A health check came back.
    pub(crate) fn checked(&self, well: bool) {
        if self.state().health.checked(well) {
            tracing::warn!(backend = %self.name, well, "health check changed");
        }
    }

    fn answered(&self, class: &Class, took: Duration, probe: bool, now: Instant) {
        let mut state = self.state();
        state.latencies.seen(class, took);
        state.cost.seen(took, now);
        state.breaker.answered(probe, now);
    }

    fn finished(&self, now: Instant) {
        self.state().breaker.finished(now);
    }

    fn failed(&self, error: &EngineError, over_budget: bool, probe: bool, now: Instant) {
        let mut state = self.state();
        if let EngineError::RateLimited { retry_after: Some(wait) }
        | EngineError::Upstream { retry_after: Some(wait), .. } = error
        {
            state.paused_until = Some(now + (*wait).min(PAUSE_MAX));
        }
        if !error.speaks_against_backend() {
            // It lives: that is all a probe wants to know.
            state.breaker.answered(probe, now);
            return;
        }
        let opened = state.breaker.failed(probe, now);
        if opened {
            state.is_only_slow = over_budget;
        }
        drop(state);
        if opened {
            tracing::warn!(backend = %self.name, error = error.kind(), "failed too often: left alone for a while");
        } else {
            self.compare(now);
        }
    }

    /// Takes the backend out if its equals do so much better. Never holds two locks.
    fn compare(&self, now: Instant) {
        let peers: Vec<Arc<Standing>> = {
            let known = self.peers.read().unwrap_or_else(PoisonError::into_inner);
            known.iter().filter_map(Weak::upgrade).collect()
        };
        if peers.is_empty() {
            return;
        }
        let peers: Vec<Peer> = peers
            .iter()
            .map(|peer| {
                let is_in = peer.is_in(now);
                Peer { counts: peer.state().breaker.counts(now), is_in }
            })
            .collect();
        let mut state = self.state();
        let own = state.breaker.counts(now);
        if state.breaker.shown(now) == Shown::Closed && outlier::stands_out(own, &peers) {
            state.breaker.open(now);
            state.is_only_slow = false;
            state.ejections += 1;
            drop(state);
            tracing::warn!(backend = %self.name, "fails more often than its equals: left alone for a while");
        }
    }

    /// An attempt ended without a verdict. `waited`: how long, if nothing had come yet.
    fn left(&self, class: &Class, waited: Option<Duration>, probe: bool) {
        let mut state = self.state();
        state.breaker.let_go(probe);
        // Slower than this: without it, a backend that always loses to its hedge would keep its good name.
        if let Some(waited) = waited.filter(|waited| state.latencies.p95(class).is_some_and(|p95| *waited > p95)) {
            state.latencies.seen(class, waited);
            state.cost.seen(waited, Instant::now());
        }
    }

    /// As it is now.
    pub fn view(&self) -> StandingView {
        let now = Instant::now();
        let state = self.state();
        StandingView {
            backend: self.name.clone(),
            breaker: match state.breaker.shown(now) {
                Shown::Closed => 0,
                Shown::HalfOpen => 1,
                Shown::Open => 2,
            },
            opened: state.breaker.opened(),
            ejections: state.ejections,
            healthy: state.health.is_well(),
            budget: state.budget.left(),
            latency_seconds: state.cost.shown(now),
            in_flight: self.in_flight(),
            drained: self.is_drained(),
            paused: state.paused_until.and_then(|until| until.checked_duration_since(now)),
        }
    }
}
