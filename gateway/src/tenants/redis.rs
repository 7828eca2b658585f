//! The accounts in Redis, so that the same limits hold across replicas: one script for each decision. Must never make a
//! caller wait for a Redis that is away: after a failure it is left alone for a moment.

mod why;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisResult, Script, ScriptInvocation};
use tokio::time::Instant;

use super::limits::{Account, FIGURE_MAX, Limit, Limits, MONEY_MAX, Taken, Used, Verdict, Wanted};
use crate::config::Secret;

/// Whose account is written to see whether it can be: no tenant's name has a space.
const NOBODY: &str = "a look";

/// How long a Redis that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct RedisAccounts {
    client: Client,
    connection: Mutex<Connection>,
    /// Held by who opens it: one at a time.
    opening: tokio::sync::Mutex<()>,
    admit: Script,
    settle: Script,
    prefix: String,
    timeout: Duration,
}

#[derive(Default)]
struct Connection {
    open: Option<Open>,
    /// How many were opened so far.
    opened: u64,
    away_until: Option<Instant>,
}

/// Commands of all requests share it.
#[derive(Clone)]
struct Open {
    /// Tells it from the one before.
    number: u64,
    shared: MultiplexedConnection,
    /// Whether it was there already: it may have been closed since.
    is_old: bool,
}

/// What Redis is asked. No closures: of those that may be called twice the compiler cannot tell whether their futures are `Send`.
enum Question<'a> {
    Deciding(&'a ScriptInvocation<'a>),
    Reading(&'a Pipeline),
}

impl Question<'_> {
    async fn put<T: FromRedisValue>(&self, mut connection: MultiplexedConnection) -> RedisResult<T> {
        match self {
            Question::Deciding(call) => call.invoke_async(&mut connection).await,
            Question::Reading(call) => call.query_async(&mut connection).await,
        }
    }
}

/// Redis did not answer in time, or not as it should.
#[derive(Debug, thiserror::Error)]
#[error("the limits' Redis is away: {why}")]
pub(super) struct Away {
    /// Whether it was asked, and may have done it without our hearing of it.
    pub(super) may_be_done: bool,
    /// What it did, in words.
    pub(super) why: &'static str,
}

impl RedisAccounts {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// The address is none.
    pub(super) fn new(url: &Secret, prefix: &str, timeout: Duration) -> RedisResult<Self> {
        Ok(RedisAccounts {
            client: Client::open(url.expose())?,
            connection: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            admit: Script::new(concat!(include_str!("clock.lua"), include_str!("admit.lua"))),
            settle: Script::new(concat!(include_str!("clock.lua"), include_str!("settle.lua"))),
            prefix: prefix.to_owned(),
            timeout,
        })
    }

    /// The keys of a tenant; the braces keep them on one node of a cluster.
    fn keys(&self, tenant: &str) -> (String, String) {
        (format!("{}:{{{tenant}}}:account", self.prefix), format!("{}:{{{tenant}}}:leases", self.prefix))
    }

    /// `now` 0: the clock of Redis, the same for all replicas.
    pub(super) async fn admit(&self, tenant: &str, limits: &Limits, wanted: Wanted, now: u64) -> Result<Verdict, Away> {
        let (account, leases) = self.keys(tenant);
        let mut call = self.admit.key(account);
        call.key(leases).arg(now).arg(wanted.tokens.min(FIGURE_MAX)).arg(wanted.lease);
        call.arg(wanted.lease_us)
            .arg(wanted.money.min(MONEY_MAX))
            .arg(limits.requests_per_minute)
            .arg(limits.tokens_per_minute);
        call.arg(limits.concurrent).arg(limits.tokens_per_day).arg(limits.money_per_day);
        let said: (usize, u64, u64, u64, u64, u64, u64) = self.ask(Question::Deciding(&call)).await?;
        let (limit, wait, requests, requests_back, tokens, tokens_back, day) = said;
        let refused = limit.checked_sub(1).and_then(|at| Some((*Limit::ALL.get(at)?, wait)));
        Ok(Verdict { refused, requests: (requests, requests_back), tokens: (tokens, tokens_back), day })
    }

    pub(super) async fn settle(&self, tenant: &str, limits: &Limits, taken: Taken, now: u64) -> Result<(), Away> {
        let (account, leases) = self.keys(tenant);
        let mut call = self.settle.key(account);
        call.key(leases).arg(now).arg(taken.lease).arg(taken.charged.min(FIGURE_MAX)).arg(taken.day);
        call.arg(taken.tokens.min(FIGURE_MAX))
            .arg(taken.money.min(MONEY_MAX))
            .arg(limits.tokens_per_minute)
            .arg(taken.charged_money.min(MONEY_MAX));
        self.ask(Question::Deciding(&call)).await
    }

    /// Whether what requests take can be written: the account of nobody is, and forgotten after two days as all are.
    pub(super) async fn takes_changes(&self) -> Result<(), Away> {
        let nothing = Taken { lease: 0, charged: 0, charged_money: 0, day: 0, tokens: 0, money: 0 };
        self.settle(NOBODY, &Limits::default(), nothing, 0).await
    }

    /// What a tenant has taken until `now`. Changes nothing.
    pub(super) async fn used(&self, tenant: &str, limits: &Limits, now: u64) -> Result<Used, Away> {
        let (account, leases) = self.keys(tenant);
        let mut call = redis::pipe();
        call.cmd("HMGET").arg(account).arg(&["requests", "tokens", "day", "day_tokens", "day_money"]);
        call.cmd("ZCOUNT").arg(leases).arg(format!("({now}")).arg("+inf");
        let (figures, leases): (Vec<Option<u64>>, u64) = self.ask(Question::Reading(&call)).await?;
        let figure = |at: usize| figures.get(at).copied().flatten().unwrap_or_default();
        Ok(Account::used_of([0, 1, 2, 3, 4].map(figure), leases, limits, now))
    }

    /// Asks, but waits no longer than the config says. What is asked may be asked twice, and must then be done once.
    async fn ask<T: FromRedisValue>(&self, question: Question<'_>) -> Result<T, Away> {
        if self.connection().away_until.is_some_and(|until| Instant::now() < until) {
            return Err(Away { may_be_done: false, why: "it failed a moment ago" });
        }
        let is_asked = AtomicBool::new(false);
        let asked = async {
            let open = self.open().await?;
            is_asked.store(true, Ordering::Relaxed);
            match question.put(open.shared).await {
                // Redis hangs up on who was idle for long, and on everybody when it is started anew: that is not away.
                Err(error) if open.is_old && error.is_connection_dropped() => {
                    self.forget(open.number);
                    question.put(self.open().await?.shared).await
                }
                answer => answer,
            }
        };
        let answer = tokio::time::timeout(self.timeout, asked).await;
        let is_asked = is_asked.into_inner();
        let why = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            // Not its own words: they may quote the address with its password.
            Ok(Err(error)) => {
                let why = why::in_words(&error, is_asked);
                tracing::warn!(why, kind = ?error.kind(), code = error.code(), "the limits' Redis failed");
                // It is there for all the others.
                if is_asked && why::is_of_one_account(error) {
                    return Err(Away { may_be_done: false, why });
                }
                why
            }
            Err(_) => {
                tracing::warn!(timeout = ?self.timeout, "the limits' Redis did not answer in time");
                why::TOO_SLOW
            }
        };
        let mut connection = self.connection();
        connection.open = None;
        connection.away_until = Some(Instant::now() + PAUSE);
        Err(Away { may_be_done: is_asked, why })
    }

    async fn open(&self) -> RedisResult<Open> {
        let _alone = self.opening.lock().await;
        let known = self.connection().open.clone();
        if let Some(open) = known {
            return Ok(Open { is_old: true, ..open });
        }
        // Whoever waits says how long: the client's own limits would end waits that the config allows.
        let patient = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let shared = self.client.get_multiplexed_async_connection_with_config(&patient).await?;
        let mut connection = self.connection();
        let number = connection.opened + 1;
        let open = Open { number, shared, is_old: false };
        if connection.away_until.is_some() {
            tracing::info!("the limits' Redis is reached again");
        }
        *connection = Connection { open: Some(open.clone()), opened: number, away_until: None };
        Ok(open)
    }

    /// Opens another the next time, unless that was done meanwhile.
    fn forget(&self, number: u64) {
        let mut connection = self.connection();
        connection.open = connection.open.take().filter(|open| open.number != number);
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // Each change is complete in itself, so what a panicking thread left is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_config_says_for_a_redis_that_says_nothing() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Secret::new(format!("redis://{}", silent.local_addr().unwrap()));
        let redis = RedisAccounts::new(&url, "test", Duration::from_secs(10)).unwrap();
        let ask = async |later| {
            tokio::time::sleep(Duration::from_millis(later)).await;
            let started = Instant::now();
            assert!(redis.used("a", &Limits::default(), 0).await.is_err());
            started.elapsed().as_secs()
        };
        // The last one comes when it is known already.
        assert_eq!(tokio::join!(ask(0), ask(5000), ask(10_500)), (10, 10, 0));
    }
}
