//! Tenants: who may ask, for what, and how much. [`key`]s say who, [`limits`] how much; the accounts lie in memory, or in
//! Redis where several gateways share them. State is kept apart from the config, so that a new config can take it over.
//! Must never keep, show or log a key, nor let a tenant see another.

mod charge;
mod directory;
pub mod key;
pub mod limits;
mod redis;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;
use weir_protocol::{ChatRequest, Denial, EngineError};

use self::charge::AtAccount;
pub use self::charge::Charge;
pub(crate) use self::directory::fits;
pub use self::directory::{Directory, Tenant};
use self::limits::{Account, Limits, Taken, Used, Verdict, Wanted};
use self::redis::RedisAccounts;
use crate::config::tenants::{OnStoreLoss, StoreSettings, TenantsSettings};
use crate::metrics::Metrics;

/// How long a request counts among those at once if its end is never heard of: longer than any answer may take.
const LEASE: Duration = Duration::from_secs(15 * 60);

/// How often Redis is told again what it was not there to hear.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// What questions about requests that nobody makes are called, in accounts and metrics.
const QUESTIONS: &str = "questions";

/// All tenants with their accounts.
pub struct Tenants {
    directory: Directory,
    store: StoreSettings,
    accounts: Accounts,
    prices: HashMap<String, Price>,
    metrics: Arc<Metrics>,
    /// Names leases; the upper half is this process's own.
    leases: Arc<AtomicU64>,
}

/// Money for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Price {
    /// Of the prompt.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
}

impl Price {
    /// Whether it is one.
    pub(crate) fn is_any(&self) -> bool {
        self.input > 0.0 || self.output > 0.0
    }
}

/// Shared with the configs before and after: a clone is the same accounts.
#[derive(Clone)]
struct Accounts {
    memory: Arc<Mutex<HashMap<Arc<str>, Account>>>,
    redis: Option<Arc<(RedisAccounts, OnStoreLoss)>>,
    /// How many requests Redis is still to hear the end of, those under way included.
    untold: watch::Sender<usize>,
}

/// How a tenant's rates stand, for response headers. Filled once, when the request is let in or refused.
pub type RatesSlot = Arc<OnceLock<RatesLeft>>;

/// See [`RatesSlot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatesLeft {
    /// The limits.
    pub limits: Limits,
    /// Requests left, and microseconds until all are back.
    pub requests: (u64, u64),
    /// Tokens left, likewise.
    pub tokens: (u64, u64),
}

impl Tenants {
    /// No tenant: everybody may ask for everything.
    pub fn none(metrics: Arc<Metrics>) -> Self {
        Tenants {
            directory: Directory::default(),
            store: StoreSettings::Memory,
            accounts: Accounts { memory: Arc::default(), redis: None, untold: watch::Sender::default() },
            prices: HashMap::new(),
            metrics,
            leases: Arc::default(),
        }
    }

    /// Those of the config. What tenants have taken so far is taken over from `before`.
    ///
    /// # Errors
    /// The Redis address is none.
    pub fn new(
        settings: &TenantsSettings,
        before: Option<&Tenants>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ::redis::RedisError> {
        let same_store = before.filter(|before| before.store == settings.store);
        let redis = match (&settings.store, same_store) {
            (_, Some(before)) => before.accounts.redis.clone(),
            (StoreSettings::Memory, None) => None,
            (StoreSettings::Redis { url, prefix, timeout, on_loss }, None) => {
                Some(Arc::new((RedisAccounts::new(url, prefix, *timeout)?, *on_loss)))
            }
        };
        let (memory, untold, leases) = match before {
            Some(Tenants { accounts: Accounts { memory, untold, .. }, leases, .. }) => {
                (Arc::clone(memory), untold.clone(), Arc::clone(leases))
            }
            // Lua counts exactly up to 2^53, and scripts get leases as text anyway. The last bits of an id are all drawn.
            None => {
                let own = uuid::Uuid::new_v4().as_u64_pair().1 & 0x1f_ffff;
                (Arc::default(), watch::Sender::default(), Arc::new(AtomicU64::new(own << 32)))
            }
        };
        Ok(Tenants {
            directory: Directory::new(&settings.tenants),
            store: settings.store.clone(),
            accounts: Accounts { memory, redis, untold },
            prices: settings.prices.clone(),
            metrics,
            leases,
        })
    }

    /// Who may ask.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Lets a tenant's request in; the charge is settled when it is dropped.
    ///
    /// # Errors
    /// The tenant may not name this model, or one of its limits is reached.
    pub async fn admit(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        request: &ChatRequest,
        left: &RatesSlot,
    ) -> Result<Charge, EngineError> {
        self.check_model(tenant, request)?;
        let (input, output) = (charge::prompt_tokens(request), charge::answer_tokens(request));
        let (tokens, money) = (input.saturating_add(output), self.money_at_most(tenant, request, input, output));
        let lease = self.leases.fetch_add(1, Ordering::Relaxed);
        let lease_us = u64::try_from(LEASE.as_micros()).unwrap_or(u64::MAX);
        let (verdict, shared) = self.decide(tenant, Wanted { tokens, money, lease, lease_us }).await?;
        // Set once: a request is let in once.
        let _ = left.set(RatesLeft { limits: tenant.limits, requests: verdict.requests, tokens: verdict.tokens });
        if let Some((limit, wait)) = verdict.refused {
            self.metrics.denied(&tenant.name, limit.as_str());
            let message = format!("this key's limit `{}` is reached", limit.as_str());
            return Err(denied(Denial::Limited, &message, Some(Duration::from_micros(wait))));
        }
        let (charged, charged_money, day) = (tokens, money, verdict.day);
        let taken = Taken { lease, charged, charged_money, day, tokens: 0, money: 0 };
        let untold = shared.then(|| Untold::new(&self.accounts.untold));
        let account = AtAccount { tenant: Arc::clone(tenant), taken, untold };
        Ok(Charge::new(Arc::clone(self), Some(account), input))
    }

    /// Counts what a request costs that is nobody's; `None` where nothing has a price.
    pub fn count(self: &Arc<Self>, request: &ChatRequest) -> Option<Charge> {
        self.has_prices().then(|| Charge::new(Arc::clone(self), None, charge::prompt_tokens(request)))
    }

    fn has_prices(&self) -> bool {
        self.prices.values().any(Price::is_any)
    }

    /// Lets a tenant ask about a request that nobody makes. Such questions have an account of their own under
    /// `requests_per_minute`: a client that counts before each request keeps all of its requests, and none is without limit.
    ///
    /// # Errors
    /// The tenant may not name this model, or has asked too much.
    pub async fn question(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        request: &ChatRequest,
        left: &RatesSlot,
    ) -> Result<(), EngineError> {
        self.check_model(tenant, request)?;
        if tenant.limits.requests_per_minute == 0 {
            return Ok(());
        }
        let account = Arc::new(tenant.asking());
        // Without a lease: Redis, asked again since its answer was lost with the connection, may count it twice. That is one
        // question less in that minute, which is less than a set of leases for questions would take.
        let (verdict, _) = self.decide(&account, Wanted { tokens: 0, money: 0, lease: 0, lease_us: 0 }).await?;
        // Set once: a question is let in once.
        let _ = left.set(RatesLeft { limits: account.limits, requests: verdict.requests, tokens: verdict.tokens });
        let Some((_, wait)) = verdict.refused else { return Ok(()) };
        self.metrics.denied(&tenant.name, QUESTIONS);
        let message = "this key's limit `requests_per_minute` is reached for questions about requests";
        Err(denied(Denial::Limited, message, Some(Duration::from_micros(wait))))
    }

    /// What these tokens may cost: by the price of the backend that the request names, else of the dearest that may
    /// answer, since nobody knows yet who will.
    fn money_at_most(&self, tenant: &Tenant, request: &ChatRequest, input: u64, output: u64) -> u64 {
        if tenant.limits.money_per_day == 0 {
            return 0;
        }
        if let Some(price) = self.prices.get(&request.model) {
            return charge::money(Some(price), input, output);
        }
        // A group's name says nothing about its members' prices.
        let all = tenant.backends.iter().any(|name| !self.prices.contains_key(name)) || tenant.backends.is_empty();
        let theirs = self.prices.iter().filter(|(name, _)| all || tenant.backends.contains(name));
        theirs.map(|(_, price)| charge::money(Some(price), input, output)).max().unwrap_or_default()
    }

    /// Whether the tenant may name the request's model.
    ///
    /// # Errors
    /// It may not.
    pub fn check_model(&self, tenant: &Tenant, request: &ChatRequest) -> Result<(), EngineError> {
        if tenant.may_name(&request.model) {
            return Ok(());
        }
        self.metrics.denied(&tenant.name, "model");
        let message = "this key may not ask for this model (`GET /v1/models` lists those it may)";
        Err(denied(Denial::Forbidden, message, None))
    }

    /// What a tenant has taken so far.
    ///
    /// # Errors
    /// Why its account's Redis does not tell.
    pub async fn used(&self, tenant: &Tenant) -> Result<Used, &'static str> {
        match self.accounts.redis.as_deref() {
            Some((redis, _)) => redis.used(&tenant.name, &tenant.limits, now()).await.map_err(|away| away.why),
            None => Ok(self.accounts.of(tenant, |account| account.used(&tenant.limits, now()))),
        }
    }

    /// Whether the accounts can be changed. Changes none of a tenant.
    ///
    /// # Errors
    /// Why their Redis takes no changes.
    pub async fn take_changes(&self) -> Result<(), &'static str> {
        match self.accounts.redis.as_deref() {
            Some((redis, _)) => redis.takes_changes().await.map_err(|away| away.why),
            None => Ok(()),
        }
    }

    /// Resolves when Redis has heard the end of every request, whichever config it began with. Those whose callers were cut
    /// are over only when their connections' threads get to it: they are waited for, too.
    pub async fn settled(&self) {
        // No error: the sender is here.
        let _ = self.accounts.untold.subscribe().wait_for(|count| *count == 0).await;
    }

    /// The decision, and whether it was made in Redis.
    async fn decide(self: &Arc<Self>, tenant: &Arc<Tenant>, wanted: Wanted) -> Result<(Verdict, bool), EngineError> {
        if let Some((redis, on_loss)) = self.accounts.redis.as_deref() {
            let mut unheard = Unheard {
                tenants: Arc::clone(self),
                tenant: Arc::clone(tenant),
                wanted,
                untold: Some(Untold::new(&self.accounts.untold)),
            };
            match redis.admit(&tenant.name, &tenant.limits, wanted, 0).await {
                Ok(verdict) => {
                    unheard.untold = None;
                    return Ok((verdict, true));
                }
                Err(away) if !away.may_be_done => unheard.untold = None,
                Err(_) => {}
            }
            drop(unheard);
            match on_loss {
                // Better each gateway by itself than nobody at all.
                OnStoreLoss::FailOpen => self.metrics.store_lost("fail_open"),
                OnStoreLoss::FailClosed => {
                    self.metrics.store_lost("fail_closed");
                    self.metrics.denied(&tenant.name, "store");
                    let message = "limits cannot be checked at the moment";
                    return Err(denied(Denial::Unchecked, message, Some(Duration::from_secs(1))));
                }
            }
        }
        let verdict = self.accounts.of(tenant, |account| account.admit(&tenant.limits, wanted, now()));
        Ok((verdict, false))
    }

    /// What a request took in the end.
    fn settle(self: Arc<Self>, tenant: Arc<Tenant>, taken: Taken, untold: Option<Untold>) {
        self.metrics.tenant_took(&tenant.name, taken.tokens);
        match untold {
            Some(untold) => self.tell(tenant, taken, untold),
            None => self.accounts.of(&tenant, |account| account.settle(&tenant.limits, taken, now())),
        }
    }

    /// Tells Redis what a request took, and again while it is away: a place that is not given back keeps its tenant out
    /// until its lease ends.
    fn tell(self: Arc<Self>, tenant: Arc<Tenant>, taken: Taken, untold: Untold) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let _untold = untold;
            let Some((redis, _)) = self.accounts.redis.as_deref() else { return };
            let until = Instant::now() + LEASE;
            while redis.settle(&tenant.name, &tenant.limits, taken, 0).await.is_err() {
                // The estimate stays, then; the lease has ended by itself.
                if Instant::now() >= until {
                    return self.metrics.store_lost("not_settled");
                }
                tokio::time::sleep(TELL_AGAIN).await;
            }
        });
    }
}

/// A request that Redis was asked to let in. Where nobody hears what it said, since it was too late or the caller left
/// meanwhile, it may have done so: it is told that the request is over.
struct Unheard {
    tenants: Arc<Tenants>,
    tenant: Arc<Tenant>,
    wanted: Wanted,
    /// `None`: there is nothing to tell.
    untold: Option<Untold>,
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let Some(untold) = self.untold.take() else { return };
        let Wanted { lease, tokens: charged, money: charged_money, .. } = self.wanted;
        let taken = Taken { lease, charged, charged_money, day: limits::day(now()), tokens: 0, money: 0 };
        Arc::clone(&self.tenants).tell(Arc::clone(&self.tenant), taken, untold);
    }
}

/// One request that Redis is still to hear the end of.
struct Untold(watch::Sender<usize>);

impl Untold {
    fn new(all: &watch::Sender<usize>) -> Self {
        all.send_modify(|count| *count += 1);
        Untold(all.clone())
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Accounts {
    fn of<T>(&self, tenant: &Tenant, work: impl FnOnce(&mut Account) -> T) -> T {
        // Each change is complete in itself, so what a panicking thread left is sound.
        let mut accounts = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        work(accounts.entry(Arc::clone(&tenant.name)).or_default())
    }
}

fn denied(denial: Denial, message: &str, retry_after: Option<Duration>) -> EngineError {
    EngineError::Denied { denial, message: message.to_owned(), retry_after }
}

/// Microseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
