//! A standing as the search for an answer meets it: what its tickets tell it, and that each is undone.

use super::*;
use crate::config::attempts::AttemptSettings;

fn standing(asking: AskingSettings) -> Arc<Standing> {
    Standing::new("a", &asking, &AttemptSettings::default().standing)
}

fn class() -> Class {
    Class::new("rule", 0)
}

fn broken() -> EngineError {
    EngineError::StreamCut { message: String::new() }
}

#[tokio::test(start_paused = true)]
async fn places_are_given_back_however_an_attempt_ends() {
    let standing = standing(AskingSettings { max_in_flight: Some(1), ..AskingSettings::default() });
    let now = Instant::now();
    for end in 0..3 {
        let mut ticket = standing.admit(&class(), Purpose::First, now).unwrap();
        let full = standing.admit(&class(), Purpose::First, now).err();
        assert_eq!(full, Some(Skip::Full(1)));
        // Nobody waits there.
        let told = full.expect("refused").error().to_string();
        assert_eq!(told, "no room for another request beside the 1 already there");
        assert_eq!((standing.in_flight(), standing.is_in(now)), (1, false));
        match end {
            0 => ticket.finished(now),
            1 => ticket.failed(&broken(), now),
            _ => {}
        }
        drop(ticket);
        assert_eq!((standing.in_flight(), standing.is_in(now)), (0, true));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_keeps_its_place_under_other_settings() {
    let asking = AskingSettings { max_in_flight: Some(1), ..AskingSettings::default() };
    let (old, now) = (standing(asking.clone()), Instant::now());
    let held = old.admit(&class(), Purpose::First, now).unwrap();
    let settings = AttemptSettings::default().standing;
    let new = Standing::following(Some(&old), "a", &asking, &settings);
    assert_eq!(new.admit(&class(), Purpose::First, now).err(), Some(Skip::Full(1)));
    drop(held);
    assert_eq!((new.in_flight(), new.admit(&class(), Purpose::First, now).is_ok()), (0, true));
    let more = AskingSettings { max_in_flight: Some(2), ..asking };
    let _held = new.admit(&class(), Purpose::First, now).unwrap();
    assert!(Standing::following(Some(&new), "a", &more, &settings).is_in(now), "another number begins anew");
}

#[tokio::test(start_paused = true)]
async fn only_what_speaks_against_it_opens_the_breaker() {
    let standing = standing(AskingSettings::default());
    let now = Instant::now();
    for _ in 0..10 {
        let full = EngineError::Overloaded { limit: 1, retry_after: None };
        standing.admit(&class(), Purpose::First, now).unwrap().failed(&full, now);
    }
    assert!(standing.is_in(now));
    for _ in 0..5 {
        standing.admit(&class(), Purpose::First, now).unwrap().failed(&broken(), now);
    }
    let skip = standing.admit(&class(), Purpose::First, now).expect_err("it is left alone");
    assert_eq!(skip, Skip::BreakerOpen(Duration::from_secs(5)));
    assert_eq!(skip.error().may_pass(), Some(Duration::from_secs(5)), "callers hear for how long");
    let later = now + Duration::from_secs(5);
    let left = standing.admit(&class(), Purpose::First, later).expect("the probe");
    assert!(standing.admit(&class(), Purpose::First, later).is_err(), "one probe at a time");
    assert!(!standing.is_in(later), "so that nobody pays for a hedge that is not made");
    drop(left);
    assert!(standing.is_in(later));
    standing.admit(&class(), Purpose::First, later).expect("the next probe").answered(later);
    assert!(standing.admit(&class(), Purpose::First, later).is_ok());
    assert_eq!(standing.view().opened, 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_it_asks_for_is_kept_up_to_a_minute() {
    let standing = standing(AskingSettings::default());
    let now = Instant::now();
    let day = EngineError::RateLimited { retry_after: Some(Duration::from_secs(86_400)) };
    standing.admit(&class(), Purpose::First, now).unwrap().failed(&day, now);
    assert_eq!(standing.admit(&class(), Purpose::First, now).err(), Some(Skip::RateLimited(PAUSE_MAX)));
    assert!(standing.admit(&class(), Purpose::First, now + PAUSE_MAX).is_ok());
}

#[tokio::test(start_paused = true)]
async fn health_checks_take_it_out_and_bring_it_back() {
    let standing = standing(AskingSettings::default());
    standing.checked(false);
    assert_eq!(standing.admit(&class(), Purpose::First, Instant::now()).err(), Some(Skip::Unhealthy));
    standing.checked(true);
    assert!(standing.admit(&class(), Purpose::First, Instant::now()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_worst_of_a_group_is_taken_out() {
    let group = [standing(AskingSettings::default()), standing(AskingSettings::default())];
    Standing::introduce(&group);
    let now = Instant::now();
    for turn in 0..12 {
        group[0].admit(&class(), Purpose::First, now).unwrap().finished(now);
        let mut ticket = group[1].admit(&class(), Purpose::First, now).unwrap();
        // Three good ones, then a bad one: neither five in a row nor half of them.
        if turn % 4 == 3 { ticket.failed(&broken(), now) } else { ticket.finished(now) }
    }
    assert_eq!((group[0].is_in(now), group[1].is_in(now)), (true, false));
    assert_eq!((group[1].view().ejections, group[1].view().breaker), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn who_always_loses_to_a_hedge_gets_a_slower_p95() {
    let standing = standing(AskingSettings::default());
    for _ in 0..20 {
        let mut ticket = standing.admit(&class(), Purpose::First, Instant::now()).unwrap();
        tokio::time::advance(Duration::from_millis(100)).await;
        ticket.finished(Instant::now());
    }
    assert_eq!(standing.p95(&class()), Some(Duration::from_millis(100)));
    for _ in 0..3 {
        let lost = standing.admit(&class(), Purpose::First, Instant::now()).unwrap();
        tokio::time::advance(Duration::from_millis(300)).await;
        drop(lost);
    }
    assert_eq!(standing.p95(&class()), Some(Duration::from_millis(300)));
}
