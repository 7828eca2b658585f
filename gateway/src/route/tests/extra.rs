//! More than one attempt at a time, or at one backend: hedges, retries, and those that are not made at all.

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::*;
use crate::config::attempts::{HedgeSettings, StandingSettings};
use crate::route::standing::Purpose;

fn broken() -> EngineError {
    EngineError::Upstream { status: 503, message: String::new(), retry_after: None }
}

fn after(ms: u64, said: &str) -> BackendService {
    backend(vec![Line::Wait(ms), text(said), END])
}

/// Fails so often, then answers.
fn recovering(failures: usize, error: EngineError) -> BackendService {
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(failures));
    BackendService::new(tower::service_fn(move |_: Attempt| {
        let fails = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        let error = error.clone();
        async move {
            if fails {
                return Err(error);
            }
            let events = [Event::TextDelta("well".into()), Event::Finished { reason: FinishReason::Stop }];
            Ok::<EventStream, EngineError>(Box::pin(stream::iter(events.map(Ok))))
        }
    }))
}

fn patient(name: &str, service: BackendService) -> Step {
    Step { first_content: None, ..step(name, service) }
}

/// Hedges after 100 ms, unless the p95 is known.
fn hedging() -> AttemptSettings {
    let hedge = HedgeSettings { unknown: Some(Duration::from_millis(100)), earliest: Duration::from_millis(20) };
    AttemptSettings { retries: 0, hedge: Some(hedge), ..AttemptSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_is_overtaken_and_cancelled() {
    let slow = patient("slow", after(1_000_000, "slow"));
    let standing = Arc::clone(&slow.standing);
    let ran = go_by(vec![slow, patient("b", after(10, "b"))], request(), &hedging()).await;
    assert_eq!(ran.result.as_ref().map(|answer| answer.report.backend.as_str()).ok(), Some("b"));
    assert_eq!(standing.in_flight(), 0, "the loser is let go at once");
    let (metrics, out) = ran.all().await;
    assert_eq!(out, "<b>b[stop]");
    counted(&metrics, r#"weir_hedges_total{backend="b",outcome="won"} 1"#);
    counted(&metrics, r#"weir_requests_total{backend="b",outcome="finished",route="auto"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_first_that_answers_after_all_cancels_the_hedge() {
    let steps = vec![patient("a", after(150, "a")), patient("b", after(1_000_000, "b"))];
    let (metrics, out) = go_by(steps, request(), &hedging()).await.all().await;
    assert_eq!(out, "<a>a[stop]");
    counted(&metrics, r#"weir_hedges_total{backend="b",outcome="lost"} 1"#);
    counted(&metrics, r#"weir_requests_total{backend="a",outcome="finished",route="auto"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_quick_first_has_no_hedge_and_a_lone_one_neither() {
    for steps in [vec![patient("a", after(99, "a")), patient("b", after(0, "b"))], vec![patient("a", after(500, "a"))]]
    {
        let (metrics, out) = go_by(steps, request(), &hedging()).await.all().await;
        assert_eq!(out, "<a>a[stop]");
        assert!(!metrics.render(&Scrape::default()).unwrap().contains("weir_hedges_total{"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_p95_of_the_class_decides_once_it_is_known() {
    let first = patient("a", after(70, "a"));
    for _ in 0..20 {
        let mut ticket = first.standing.admit(&Class::new("rule", 0), Purpose::First, Instant::now()).unwrap();
        tokio::time::advance(Duration::from_millis(40)).await;
        ticket.finished(Instant::now());
    }
    let steps = vec![first, patient("b", after(0, "b"))];
    let (_, out) = go_by(steps, request(), &hedging()).await.all().await;
    assert_eq!(out, "<b>b[stop]", "hedged after 40 ms, not after 100");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_whose_caller_leaves_is_counted_too() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let steps = vec![patient("a", after(1_000_000, "a")), patient("b", after(1_000_000, "b"))];
    let (request, settings) = (request(), hedging());
    let waiting = search(steps, &request, &settings, &metrics);
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    counted(&metrics, r#"weir_hedges_total{backend="b",outcome="cancelled"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_must_be_paid_for() {
    let steps = || {
        let mut second = patient("b", after(0, "b"));
        second.standing = Standing::new(
            "b",
            &AskingSettings::default(),
            &StandingSettings { extra_burst: 0, ..AttemptSettings::default().standing },
        );
        vec![patient("a", after(500, "a")), second]
    };
    let (metrics, out) = go_by(steps(), request(), &hedging()).await.all().await;
    assert_eq!(out, "<a>a[stop]");
    counted(&metrics, r#"weir_hedges_total{backend="b",outcome="not_paid"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_waits_for_a_place_and_goes_past_who_cannot_pay_or_fails() {
    let lone = AskingSettings { max_in_flight: Some(1), ..AskingSettings::default() };
    let mut full = patient("b", after(0, "b"));
    full.standing = Standing::new("b", &lone, &AttemptSettings::default().standing);
    let held = full.standing.admit(&Class::new("rule", 0), Purpose::First, Instant::now()).unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(220)).await;
        drop(held);
    });
    let begin = Instant::now();
    let (_, out) = go_by(vec![patient("a", after(5_000, "a")), full], request(), &hedging()).await.all().await;
    assert_eq!((out.as_str(), begin.elapsed().as_millis() / 10), ("<b>b[stop]", 25));

    let mut poor = patient("b", after(0, "b"));
    let none = StandingSettings { extra_burst: 0, ..AttemptSettings::default().standing };
    poor.standing = Standing::new("b", &AskingSettings::default(), &none);
    let steps =
        vec![patient("a", after(500, "a")), poor, patient("c", refusing(broken())), patient("d", after(0, "d"))];
    let (metrics, out) = go_by(steps, request(), &hedging()).await.all().await;
    assert_eq!(out, "c:upstream <d>d[stop]");
    counted(&metrics, r#"weir_hedges_total{backend="b",outcome="not_paid"} 2"#);
    counted(&metrics, r#"weir_hedges_total{backend="c",outcome="failed"} 1"#);
    counted(&metrics, r#"weir_hedges_total{backend="d",outcome="won"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn when_the_first_fails_the_hedge_goes_on() {
    let dies = backend(vec![Line::Wait(150), Line::Fail(broken())]);
    let (metrics, out) =
        go_by(vec![patient("a", dies), patient("b", after(300, "b"))], request(), &hedging()).await.all().await;
    assert_eq!(out, "a:upstream <b>b[stop]");
    counted(&metrics, r#"weir_fallbacks_total{cause="upstream",from="a",to="b"} 1"#);
    counted(&metrics, r#"weir_hedges_total{backend="b",outcome="won"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_once_more_when_nobody_is_left() {
    let settings = AttemptSettings::default();
    let (metrics, out) = go_by(vec![step("a", recovering(1, broken()))], request(), &settings).await.all().await;
    assert_eq!(out, "a:upstream <a>well[stop]");
    counted(&metrics, r#"weir_retries_total{backend="a"} 1"#);

    let ran = go_by(vec![step("a", recovering(2, broken()))], request(), &settings).await;
    assert_eq!(ran.result.err().unwrap().report.unwrap().failed.len(), 2, "one round, not for ever");
    let hopeless = EngineError::Upstream { status: 404, message: String::new(), retry_after: None };
    let ran = go_by(vec![step("a", recovering(1, hopeless))], request(), &settings).await;
    assert_eq!(ran.result.err().unwrap().report.unwrap().failed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_backend_with_retries_of_its_own_is_tried_again_before_the_next() {
    let first = Step { retries: 2, ..step("a", recovering(2, broken())) };
    let (metrics, out) = go(vec![first, step("b", after(0, "b"))], request()).await.all().await;
    assert_eq!(out, "a:upstream a:upstream <a>well[stop]");
    counted(&metrics, r#"weir_retries_total{backend="a"} 2"#);
}

#[tokio::test(start_paused = true)]
async fn a_wait_the_backend_asks_for_is_kept_or_not_waited_for() {
    let limited = |ms| EngineError::RateLimited { retry_after: Some(Duration::from_millis(ms)) };
    let settings = AttemptSettings::default();
    let begin = Instant::now();
    let (_, out) = go_by(vec![step("a", recovering(1, limited(700)))], request(), &settings).await.all().await;
    assert_eq!(out, "a:rate_limited <a>well[stop]");
    assert!(begin.elapsed() >= Duration::from_millis(700));

    let begin = Instant::now();
    let refusal = go_by(vec![step("a", recovering(1, limited(7000)))], request(), &settings).await.result.err();
    assert_eq!(refusal.unwrap().error, limited(7000));
    assert_eq!(begin.elapsed(), Duration::ZERO);

    let begin = Instant::now();
    let both = ["a", "b"].map(|name| step(name, recovering(2, limited(700)))).into();
    assert!(go_by(both, request(), &settings).await.result.is_err());
    assert!(begin.elapsed() < Duration::from_millis(800), "they are waited for together");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_gets_it() {
    let asks = |ms| {
        let retry_after = Some(Duration::from_millis(ms));
        EngineError::Upstream { status: 503, message: String::new(), retry_after }
    };
    let begin = Instant::now();
    let (_, out) =
        go_by(vec![step("a", recovering(1, asks(700)))], request(), &AttemptSettings::default()).await.all().await;
    assert_eq!(out, "a:upstream <a>well[stop]");
    assert!(begin.elapsed() >= Duration::from_millis(700));
    let busy = step("a", recovering(1, asks(7000)));
    let standing = Arc::clone(&busy.standing);
    let refusal = go_by(vec![busy], request(), &AttemptSettings::default()).await.result.err();
    assert_eq!(refusal.unwrap().error, asks(7000), "longer than anybody waits");
    let skip = standing.admit(&Class::new("rule", 0), Purpose::First, Instant::now()).err();
    assert_eq!(skip.map(|skip| skip.as_str()), Some("rate_limited"), "others leave it alone, too");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_multiplied() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let dead = BackendService::new(tower::service_fn(move |_: Attempt| {
        counting.fetch_add(1, Relaxed);
        async { Err::<EventStream, _>(broken()) }
    }));
    // Without the breaker, which would keep most of them away altogether.
    let stubborn = StandingSettings { failures: u32::MAX, rate: 1.1, ..AttemptSettings::default().standing };
    let standing = Standing::new("a", &AskingSettings::default(), &stubborn);
    let settings = AttemptSettings { retries: 5, ..AttemptSettings::default() };
    for _ in 0..100 {
        let step = Step { standing: Arc::clone(&standing), ..step("a", dead.clone()) };
        assert!(go_by(vec![step], request(), &settings).await.result.is_err());
    }
    let asked = asked.load(Relaxed);
    assert!((120..=130).contains(&asked), "100 requests, a burst of 10 and a fifth of them: {asked}");
}

#[tokio::test(start_paused = true)]
async fn who_failed_too_often_is_not_asked() {
    let dead = step("a", refusing(broken()));
    for _ in 0..5 {
        let class = Class::new("rule", 0);
        dead.standing.admit(&class, Purpose::First, Instant::now()).unwrap().failed(&broken(), Instant::now());
    }
    let (metrics, out) = go(vec![dead, step("b", after(0, "b"))], request()).await.all().await;
    assert_eq!(out, "a:breaker_open <b>b[stop]");
    counted(&metrics, r#"weir_skipped_total{backend="a",cause="breaker_open"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn with_nobody_else_a_failed_check_is_not_believed() {
    let unwell = step("a", after(0, "well"));
    unwell.standing.checked(false);
    let (_, out) = go(vec![unwell], request()).await.all().await;
    assert_eq!(out, "a:unhealthy <a>well[stop]");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_speaks_against_its_backend_and_a_caller_that_leaves_does_not() {
    let cut = step("a", backend(vec![text("half")]));
    let standing = Arc::clone(&cut.standing);
    for round in 1..=5 {
        let again = Step { standing: Arc::clone(&standing), ..step("a", backend(vec![text("half")])) };
        let ran = go(vec![again], streaming()).await;
        if round % 2 == 0 {
            drop(ran.result);
        } else {
            assert_eq!(ran.all().await.1, "<a>half!stream_cut");
        }
    }
    assert!(standing.is_in(Instant::now()), "three of five failed");
    for _ in 0..2 {
        let again = Step { standing: Arc::clone(&standing), ..step("a", backend(vec![text("half")])) };
        go(vec![again], streaming()).await.all().await;
    }
    assert!(!standing.is_in(Instant::now()));
    assert_eq!(standing.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_was_too_slow_for_a_budget_is_still_asked_by_those_without_one() {
    let slow = || after(300, "slow but well");
    let standing = Arc::clone(&step("a", slow()).standing);
    let hasty = || Step { standing: Arc::clone(&standing), ..step("a", slow()) };
    for _ in 0..5 {
        assert!(go(vec![hasty()], request()).await.result.is_err());
    }
    let refusal = go(vec![hasty()], request()).await.result.err().unwrap();
    assert_eq!(refusal.report.unwrap().failed, [("a".to_owned(), "breaker_open")]);
    let (_, out) = go(vec![Step { first_content: None, ..hasty() }], request()).await.all().await;
    assert_eq!(out, "<a>slow but well[stop]");
}

#[tokio::test(start_paused = true)]
async fn who_lost_stands_in_where_the_winner_breaks_off() {
    let breaks = |ms| backend(vec![Line::Wait(ms), text("half"), Line::Wait(1), Line::Fail(broken())]);
    let steps = vec![patient("a", breaks(150)), patient("b", after(200, "b"))];
    let (metrics, out) = go_by(steps, request(), &hedging()).await.all().await;
    assert_eq!(out, "a:upstream <b>b[stop]", "the hedge was given up, but its backend was not");
    counted(&metrics, r#"weir_hedges_total{backend="b",outcome="lost"} 1"#);
    counted(&metrics, r#"weir_fallbacks_total{cause="upstream",from="a",to="b"} 1"#);

    // The first one was asked before: that is a retry, and paid for.
    let steps = || vec![patient("a", after(200, "a")), patient("b", breaks(1))];
    let (metrics, out) = go_by(steps(), request(), &hedging()).await.all().await;
    assert_eq!(out, "b:upstream <a>a[stop]");
    counted(&metrics, r#"weir_retries_total{backend="a"} 1"#);
    let mut poor = steps();
    let none = StandingSettings { extra_burst: 0, extra_ratio: 0.0, ..AttemptSettings::default().standing };
    poor[0].standing = Standing::new("a", &AskingSettings::default(), &none);
    assert!(go_by(poor, request(), &hedging()).await.result.is_err());
}

#[tokio::test(start_paused = true)]
async fn only_retries_that_are_made_are_counted() {
    let last = || Step { retries: 1, ..step("a", refusing(broken())) };
    let nearly = last();
    for _ in 0..4 {
        let class = Class::new("rule", 0);
        nearly.standing.admit(&class, Purpose::First, Instant::now()).unwrap().failed(&broken(), Instant::now());
    }
    let (metrics, out) = go(vec![nearly, step("b", after(0, "b"))], request()).await.all().await;
    assert_eq!(out, "a:upstream a:breaker_open <b>b[stop]");
    assert!(!metrics.render(&Scrape::default()).unwrap().contains("weir_retries_total{"), "it was left alone by then");
}
