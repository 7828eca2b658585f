//! What a tenant may still do, at chosen times.

use super::*;

const START: u64 = 20_000 * DAY_US + 3_600_000_000;
const SECOND: u64 = 1_000_000;

fn wanted(lease: u64, tokens: u64) -> Wanted {
    Wanted { tokens, money: 0, lease, lease_us: 900 * SECOND }
}

fn taken(lease: u64, charged: u64, tokens: u64, money: u64) -> Taken {
    Taken { lease, charged, charged_money: 0, day: 20_000, tokens, money }
}

#[test]
fn requests_a_minute_come_back_one_by_one() {
    let limits = Limits { requests_per_minute: 60, ..Limits::default() };
    let mut account = Account::default();
    for at in 0..60 {
        let verdict = account.admit(&limits, wanted(at, 0), START);
        assert_eq!((verdict.refused, verdict.requests), (None, (59 - at, (at + 1) * SECOND)));
    }
    assert_eq!(account.admit(&limits, wanted(60, 0), START).refused, Some((Limit::Requests, SECOND)));
    assert_eq!(account.admit(&limits, wanted(60, 0), START + SECOND).refused, None);
    assert_eq!(account.admit(&limits, wanted(61, 0), START + SECOND).refused, Some((Limit::Requests, SECOND)));
}

#[test]
fn tokens_are_charged_by_estimate_and_corrected() {
    let limits = Limits { tokens_per_minute: 600, ..Limits::default() };
    let mut account = Account::default();
    assert_eq!(account.admit(&limits, wanted(1, 500), START).tokens, (100, 50 * SECOND));
    let used = Used { requests_left: 0, tokens_left: 100, concurrent: 1, day_tokens: 500, day_money: 0 };
    assert_eq!(account.used(&limits, START), used);
    assert_eq!(account.admit(&limits, wanted(2, 200), START).refused, Some((Limit::Tokens, 10 * SECOND)));
    account.settle(&limits, taken(1, 500, 100, 0), START);
    assert_eq!(account.admit(&limits, wanted(2, 200), START).tokens, (300, 30 * SECOND), "most came back");
    account.settle(&limits, taken(2, 200, 1000, 0), START);
    let debt = account.admit(&limits, wanted(3, 1), START);
    assert_eq!((debt.tokens.0, debt.refused), (0, Some((Limit::Tokens, 50 * SECOND + 100_000))));
}

#[test]
fn one_that_is_larger_than_a_minute_goes_when_nothing_is_owed() {
    let limits = Limits { tokens_per_minute: 600, ..Limits::default() };
    let mut account = Account::default();
    assert_eq!(account.admit(&limits, wanted(1, 6000), START).refused, None);
    assert_eq!(account.admit(&limits, wanted(2, 6000), START).refused, Some((Limit::Tokens, 600 * SECOND)));
    assert_eq!(account.admit(&limits, wanted(2, 6000), START + 600 * SECOND).refused, None);
}

#[test]
fn places_come_back_when_given_back_or_forgotten() {
    let limits = Limits { concurrent: 2, ..Limits::default() };
    let mut account = Account::default();
    let mut try_at = |lease, now| account.admit(&limits, wanted(lease, 0), now).refused.map(|(limit, _)| limit);
    assert_eq!((try_at(1, START), try_at(2, START)), (None, None));
    assert_eq!(try_at(3, START), Some(Limit::Concurrent));
    assert_eq!(try_at(3, START + 900 * SECOND), None, "a replica died and gave nothing back");
    let later = START + 900 * SECOND;
    account.settle(&limits, taken(3, 0, 0, 0), later);
    assert_eq!(account.used(&limits, later).concurrent, 0);
}

#[test]
fn what_was_taken_is_settled_once_however_often_it_is_said() {
    let mut account = Account::default();
    account.admit(&Limits::default(), wanted(1, 100), START);
    account.settle(&Limits::default(), taken(2, 100, 0, 0), START);
    assert_eq!(account.day_tokens, 100, "nobody was let in by this name");
    for _ in 0..2 {
        // After its lease has run out, too: what was taken was taken.
        account.settle(&Limits::default(), taken(1, 100, 30, 5), START + 1000 * SECOND);
        assert_eq!((account.day_tokens, account.day_money), (30, 5));
    }
}

#[test]
fn a_days_budget_ends_at_midnight() {
    let limits = Limits { tokens_per_day: 1000, money_per_day: 50, ..Limits::default() };
    let mut account = Account::default();
    assert_eq!(account.admit(&limits, wanted(1, 900), START).refused, None);
    account.settle(&limits, taken(1, 900, 999, 0), START);
    assert_eq!(account.admit(&limits, wanted(2, 10), START).refused, None, "something is left");
    account.settle(&limits, taken(2, 10, 1, 50), START);
    let midnight = DAY_US - 3_600_000_000;
    assert_eq!(account.admit(&limits, wanted(3, 1), START).refused, Some((Limit::DayTokens, midnight)));
    let money = Limits { tokens_per_day: 0, ..limits };
    assert_eq!(account.admit(&money, wanted(3, 1), START).refused, Some((Limit::DayMoney, midnight)));
    assert_eq!(account.admit(&limits, wanted(3, 1), START + midnight).refused, None);
    // What was charged yesterday is no credit today.
    account.settle(&limits, taken(3, 500, 0, 0), START + midnight);
    assert_eq!(account.day_tokens, 1);
    let (tomorrow, later) = (START + midnight, START + midnight + DAY_US);
    assert_eq!(account.admit(&limits, wanted(4, 10), tomorrow).refused, None);
    account.settle(&limits, Taken { day: tomorrow / DAY_US, ..taken(4, 10, 700, 0) }, later);
    assert_eq!(account.used(&limits, later).day_tokens, 700, "what began before midnight is no gift");
}

#[test]
fn those_under_way_have_their_money_put_aside() {
    let limits = Limits { money_per_day: 50, ..Limits::default() };
    let mut account = Account::default();
    let dear = |lease| Wanted { money: 30, ..wanted(lease, 0) };
    let mut refused = |lease| account.admit(&limits, dear(lease), START).refused;
    assert_eq!([1, 2, 3].map(&mut refused), [None, None, Some((Limit::DayMoney, BUSY_US))], "not until midnight");
    account.settle(&limits, Taken { charged_money: 30, ..taken(1, 0, 0, 3) }, START);
    assert_eq!((account.day_money, account.admit(&limits, dear(3), START).refused), (33, None));
    // What was put aside yesterday is no credit today.
    let tomorrow = START + DAY_US;
    account.settle(&limits, Taken { charged_money: 30, ..taken(2, 0, 0, 4) }, tomorrow);
    assert_eq!(account.used(&limits, tomorrow).day_money, 4);
}

#[test]
fn money_of_small_units_counts_in_full() {
    // 250 and 400, as a request costs in yen.
    let limits = Limits { money_per_day: 300_000_000, ..Limits::default() };
    let mut account = Account::default();
    let dear = |lease| Wanted { money: 250_000_000, ..wanted(lease, 0) };
    assert_eq!(account.admit(&limits, dear(1), START).refused, None);
    account.settle(&limits, Taken { charged_money: 250_000_000, ..taken(1, 0, 0, 400_000_000) }, START);
    assert_eq!(account.used(&limits, START).day_money, 400_000_000);
    assert!(matches!(account.admit(&limits, dear(2), START).refused, Some((Limit::DayMoney, _))));
}

#[test]
fn a_refused_request_takes_nothing() {
    let limits = Limits { concurrent: 1, requests_per_minute: 10, tokens_per_minute: 100, ..Limits::default() };
    let mut account = Account::default();
    account.admit(&limits, wanted(1, 10), START);
    let before = account.clone();
    assert!(account.admit(&limits, wanted(2, 10), START).refused.is_some());
    assert_eq!(account, before);
}

#[test]
fn without_limits_everything_goes_and_figures_have_a_bound() {
    let mut account = Account::default();
    for lease in 0..100 {
        assert_eq!(account.admit(&Limits::default(), wanted(lease, u64::MAX), START).refused, None);
        account.settle(&Limits::default(), taken(lease, u64::MAX, u64::MAX, u64::MAX), START);
    }
}

#[test]
fn a_clock_that_is_put_back_keeps_nobody_out() {
    let limits = Limits { requests_per_minute: 1, tokens_per_minute: 600, concurrent: 1, ..Limits::default() };
    let mut account = Account::default();
    assert_eq!(account.admit(&limits, wanted(1, 600), START).refused, None);
    // Two hours, as from a hardware clock that was taken for local time.
    let back = START - 7200 * SECOND;
    assert_eq!(account.admit(&limits, wanted(2, 1), back).refused, Some((Limit::Concurrent, BUSY_US)));
    account.settle(&limits, Taken { day: day(START), ..taken(1, 600, 600, 0) }, back);
    assert_eq!(account.admit(&limits, wanted(2, 1), back).refused, Some((Limit::Requests, 60 * SECOND)));
    assert_eq!(account.admit(&limits, wanted(2, 1), back + 60 * SECOND).refused, None, "as if it had gone on");
    assert_eq!(account.used(&limits, back + 960 * SECOND).concurrent, 0, "its lease has ended by then");
}
