//! What one tenant may still do: requests and tokens a minute, requests at once, tokens and money a day. A pure machine
//! that is told the time; `admit.lua` and `settle.lua` are the same arithmetic inside Redis, and a test holds them
//! together. Whole microseconds and millionths throughout, so that both come to the same number.
//!
//! The rates are kept as GCRA does (ITU-T I.371): one number, the time at which all that was taken is paid back. It
//! knows debts, which a token count that is corrected afterwards needs.

use std::collections::BTreeMap;

/// A minute, what the rates are over.
const WINDOW_US: u64 = 60_000_000;
const DAY_US: u64 = 86_400_000_000;
/// How long it is known that a lease that ran out was never settled: whoever settles it late is still heard, once.
const LATE_US: u64 = DAY_US;
/// Largest figure of a limit or a charge: products stay below 2^53, which is as far as Lua counts.
pub const FIGURE_MAX: u64 = 100_000_000;
/// Most money of one charge, in millionths: a hundred million. It is only added up, and a day's has room for it below 2^53.
pub const MONEY_MAX: u64 = 100_000_000_000_000;
/// What a caller waits whose requests at once are too many: nobody knows when one of them ends.
const BUSY_US: u64 = 1_000_000;

/// A tenant's limits; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests a minute.
    pub requests_per_minute: u64,
    /// Tokens in and out a minute.
    pub tokens_per_minute: u64,
    /// Requests at once.
    pub concurrent: u64,
    /// Tokens in and out a day (UTC).
    pub tokens_per_day: u64,
    /// Money a day (UTC), in millionths.
    pub money_per_day: u64,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Requests at once.
    Concurrent,
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
    /// Tokens a day.
    DayTokens,
    /// Money a day.
    DayMoney,
}

impl Limit {
    /// All, in the order in which they are asked: the place of each is its number in the scripts, from 1.
    pub const ALL: [Limit; 5] = [Limit::Concurrent, Limit::Requests, Limit::Tokens, Limit::DayTokens, Limit::DayMoney];

    /// Stable word for metrics and error codes.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Concurrent => "concurrent",
            Limit::Requests => "requests_per_minute",
            Limit::Tokens => "tokens_per_minute",
            Limit::DayTokens => "tokens_per_day",
            Limit::DayMoney => "money_per_day",
        }
    }
}

/// What a request wants to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Tokens, by estimate.
    pub tokens: u64,
    /// Money, by estimate, in millionths.
    pub money: u64,
    /// Names it among those at once.
    pub lease: u64,
    /// How long it counts among them if nobody gives it back; 0: it is over already, and never settled.
    pub lease_us: u64,
}

/// What a request took in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its lease.
    pub lease: u64,
    /// The estimate it was let in with.
    pub charged: u64,
    /// That of money, in millionths.
    pub charged_money: u64,
    /// The day it was charged to.
    pub day: u64,
    /// Tokens it really took.
    pub tokens: u64,
    /// Money, in millionths.
    pub money: u64,
}

/// A decision, and how the rates stand after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The limit that keeps it out, and the microseconds until it may be let in.
    pub refused: Option<(Limit, u64)>,
    /// Requests left in this minute, and the microseconds until all are back.
    pub requests: (u64, u64),
    /// Tokens left, likewise.
    pub tokens: (u64, u64),
    /// The day it is charged to.
    pub day: u64,
}

/// The day of a time.
pub(super) fn day(now: u64) -> u64 {
    now / DAY_US
}

/// What one tenant has taken, for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Requests left in this minute; means nothing without such a limit.
    pub requests_left: u64,
    /// Tokens left, likewise.
    pub tokens_left: u64,
    /// Requests in work.
    pub concurrent: u64,
    /// Tokens since midnight.
    pub day_tokens: u64,
    /// Money since midnight, in millionths.
    pub day_money: u64,
}

/// What one tenant has taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// When it was looked at last.
    seen: u64,
    requests_due: u64,
    tokens_due: u64,
    day: u64,
    day_tokens: u64,
    day_money: u64,
    leases: BTreeMap<u64, u64>,
}

impl Account {
    /// Lets a request in, or says what keeps it out. `now` in microseconds since 1970.
    pub fn admit(&mut self, limits: &Limits, wanted: Wanted, now: u64) -> Verdict {
        self.roll(now);
        let (tokens, money) = (wanted.tokens.min(FIGURE_MAX), wanted.money.min(MONEY_MAX));
        let wanted = Wanted { tokens, money, ..wanted };
        let refused = self.refused(limits, wanted, now);
        if refused.is_none() {
            self.requests_due = taken(self.requests_due, 1, limits.requests_per_minute, now);
            self.tokens_due = taken(self.tokens_due, wanted.tokens, limits.tokens_per_minute, now);
            self.day_tokens += wanted.tokens;
            self.day_money += wanted.money;
            if wanted.lease_us > 0 {
                self.leases.insert(wanted.lease, now + wanted.lease_us);
            }
        }
        Verdict {
            refused,
            requests: left(self.requests_due, limits.requests_per_minute, now),
            tokens: left(self.tokens_due, limits.tokens_per_minute, now),
            day: self.day,
        }
    }

    fn refused(&self, limits: &Limits, wanted: Wanted, now: u64) -> Option<(Limit, u64)> {
        if limits.concurrent > 0 && self.concurrent(now) >= limits.concurrent {
            return Some((Limit::Concurrent, BUSY_US));
        }
        if let Some(wait) = wait(self.requests_due, 1, limits.requests_per_minute, now) {
            return Some((Limit::Requests, wait));
        }
        if let Some(wait) = wait(self.tokens_due, wanted.tokens, limits.tokens_per_minute, now) {
            return Some((Limit::Tokens, wait));
        }
        // What is put aside for those under way may come back with any of them.
        let back = if self.concurrent(now) > 0 { BUSY_US } else { (self.day + 1) * DAY_US - now };
        if limits.tokens_per_day > 0 && self.day_tokens >= limits.tokens_per_day {
            return Some((Limit::DayTokens, back));
        }
        (limits.money_per_day > 0 && self.day_money >= limits.money_per_day).then_some((Limit::DayMoney, back))
    }

    /// Puts what was really taken in the place of the estimate. Once: who cannot know whether it was heard may say it again.
    pub fn settle(&mut self, limits: &Limits, taken: Taken, now: u64) {
        self.roll(now);
        if self.leases.remove(&taken.lease).is_none() {
            return;
        }
        let (real, charged) = (taken.tokens.min(FIGURE_MAX), taken.charged.min(FIGURE_MAX));
        if let Some(shift) = worth(real.abs_diff(charged), limits.tokens_per_minute) {
            self.tokens_due = match real < charged {
                true => self.tokens_due.saturating_sub(shift),
                false => self.tokens_due.max(now) + shift,
            };
        }
        // Over midnight all of it is today's: yesterday has nothing left to hold.
        self.day_tokens += real;
        self.day_money += taken.money.min(MONEY_MAX);
        if taken.day == self.day {
            self.day_tokens = self.day_tokens.saturating_sub(charged);
            self.day_money = self.day_money.saturating_sub(taken.charged_money.min(MONEY_MAX));
        }
    }

    /// As it lies in Redis, where `leases` are only counted.
    pub(super) fn used_of(figures: [u64; 5], leases: u64, limits: &Limits, now: u64) -> Used {
        let [requests_due, tokens_due, day, day_tokens, day_money] = figures;
        let (seen, leases_by_name) = (0, BTreeMap::new());
        let mut account =
            Account { seen, requests_due, tokens_due, day, day_tokens, day_money, leases: leases_by_name };
        Used { concurrent: leases, ..account.used(limits, now) }
    }

    /// What was taken until now.
    pub fn used(&mut self, limits: &Limits, now: u64) -> Used {
        self.roll(now);
        Used {
            requests_left: left(self.requests_due, limits.requests_per_minute, now).0,
            tokens_left: left(self.tokens_due, limits.tokens_per_minute, now).0,
            concurrent: self.concurrent(now),
            day_tokens: self.day_tokens,
            day_money: self.day_money,
        }
    }

    fn roll(&mut self, now: u64) {
        // A clock that was put back must not keep anybody out until it is where it was.
        let back = self.seen.saturating_sub(now);
        if back > 0 {
            let times = [&mut self.requests_due, &mut self.tokens_due];
            times.into_iter().chain(self.leases.values_mut()).for_each(|time| *time = time.saturating_sub(back));
        }
        self.seen = now;
        let day = day(now);
        if day != self.day {
            (self.day, self.day_tokens, self.day_money) = (day, 0, 0);
        }
        self.leases.retain(|_, until| *until + LATE_US > now);
    }

    fn concurrent(&self, now: u64) -> u64 {
        self.leases.values().filter(|until| **until > now).count() as u64
    }
}

/// The time in which `amount` comes back; `None` without a limit.
fn worth(amount: u64, per_minute: u64) -> Option<u64> {
    (amount * WINDOW_US).checked_div(per_minute)
}

/// How long until `amount` more may be taken. More than a whole minute's worth is let in when nothing is owed, since it
/// would wait for ever otherwise.
fn wait(due: u64, amount: u64, per_minute: u64, now: u64) -> Option<u64> {
    let worth = worth(amount, per_minute).filter(|_| due > now)?;
    let (after, most) = (due - now + worth, worth.max(WINDOW_US));
    (after > most).then(|| after - most)
}

fn taken(due: u64, amount: u64, per_minute: u64, now: u64) -> u64 {
    worth(amount, per_minute).map_or(due, |worth| due.max(now) + worth)
}

fn left(due: u64, per_minute: u64, now: u64) -> (u64, u64) {
    let owed = due.saturating_sub(now);
    (WINDOW_US.saturating_sub(owed) * per_minute / WINDOW_US, owed)
}

#[cfg(test)]
mod tests;
