//! An answer without a word: another backend is asked, and only if none has more to say does the caller get it.

use super::*;
use crate::config::attempts::OnEmpty;

fn silent() -> BackendService {
    backend(vec![started("a"), END])
}

#[tokio::test(start_paused = true)]
async fn the_next_backend_speaks_instead() {
    for request in [request(), streaming()] {
        let speaking = backend(vec![started("b"), text("hi"), END]);
        let ran = go(vec![step("a", silent()), step("b", speaking)], request).await;
        let (metrics, said) = ran.all().await;
        assert_eq!(said, "a:empty_answer <b>hi[stop]");
        counted(&metrics, r#"weir_fallbacks_total{cause="empty_answer",from="a",to="b"} 1"#);
        counted(&metrics, r#"weir_requests_total{backend="b",outcome="finished",route="auto"} 1"#);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_given_when_nobody_has_more_to_say() {
    let broken = || refusing(EngineError::Upstream { status: 500, message: String::new(), retry_after: None });
    let (metrics, said) = go(vec![step("a", silent()), step("b", broken())], streaming()).await.all().await;
    assert_eq!(said, "a:empty_answer b:upstream <a>[stop]");
    counted(&metrics, r#"weir_requests_total{backend="a",outcome="finished",route="auto"} 1"#);
    let (metrics, said) = go(vec![step("a", silent()), step("b", silent())], streaming()).await.all().await;
    assert_eq!(said, "a:empty_answer <a>[stop]");
    counted(&metrics, r#"weir_requests_total{backend="b",outcome="finished",route="auto"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_lone_backend_and_an_operator_may_keep_it() {
    let (_, said) = go(vec![step("a", silent())], request()).await.all().await;
    assert_eq!(said, "<a>[stop]");
    let keep = AttemptSettings { on_empty: OnEmpty::Keep, ..AttemptSettings::default() };
    let speaking = backend(vec![text("hi"), END]);
    let (_, said) = go_by(vec![step("a", silent()), step("b", speaking)], request(), &keep).await.all().await;
    assert_eq!(said, "<a>[stop]");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_had_no_room_is_no_empty_one() {
    let full = backend(vec![started("a"), Line::Say(Event::Finished { reason: FinishReason::Length })]);
    let (_, said) = go(vec![step("a", full), step("b", silent())], request()).await.all().await;
    assert_eq!(said, "<a>[length]");
}

#[tokio::test(start_paused = true)]
async fn a_stop_text_may_stand_at_the_beginning() {
    let sampling = weir_protocol::Sampling { stop: vec!["END".into()], ..Default::default() };
    let request = Arc::new(ChatRequest { sampling, ..ChatRequest::default() });
    let (_, said) = go(vec![step("a", silent()), step("b", backend(vec![text("hi"), END]))], request).await.all().await;
    assert_eq!(said, "<a>[stop]");
}

fn used(prompt_tokens: u64, completion_tokens: u64) -> Line {
    Line::Say(Event::Usage(Usage { prompt_tokens, completion_tokens, ..Usage::default() }))
}

#[tokio::test(start_paused = true)]
async fn its_backend_is_let_go_while_another_is_asked() {
    for last in [vec![text("hi"), END], vec![END]] {
        let quiet = step("a", silent());
        let standing = Arc::clone(&quiet.standing);
        let asked = BackendService::new(tower::service_fn(move |_: Attempt| {
            assert_eq!(standing.in_flight(), 0, "it holds its place");
            let events = last.clone().into_iter().map(|line| match line {
                Line::Say(event) => Ok(event),
                _ => Err(EngineError::Cancelled),
            });
            std::future::ready(Ok::<EventStream, EngineError>(Box::pin(stream::iter(events))))
        }));
        let (metrics, _) = go(vec![quiet, step("b", asked)], request()).await.all().await;
        counted(&metrics, r#"weir_in_flight{backend="a"} 0"#);
    }
}

#[tokio::test(start_paused = true)]
async fn what_it_cost_counts_once_whoever_answers() {
    let quiet = || step("a", backend(vec![started("a"), used(3, 1), END]));
    let speaking = backend(vec![text("hi"), used(5, 2), END]);
    let (metrics, said) = go(vec![quiet(), step("b", speaking)], request()).await.all().await;
    assert_eq!(said, "a:empty_answer <b>hi(usage)[stop]");
    counted(&metrics, r#"weir_tokens_total{backend="a",direction="input"} 3"#);
    counted(&metrics, r#"weir_tokens_total{backend="a",direction="output"} 1"#);
    counted(&metrics, r#"weir_tokens_total{backend="b",direction="input"} 5"#);

    let second = backend(vec![used(7, 1), END]);
    let (metrics, said) = go(vec![quiet(), step("b", second)], request()).await.all().await;
    assert_eq!(said, "a:empty_answer <b>(usage)[stop]");
    counted(&metrics, r#"weir_tokens_total{backend="a",direction="input"} 3"#);
    counted(&metrics, r#"weir_tokens_total{backend="b",direction="input"} 7"#);

    let broken = refusing(EngineError::Unauthorized { status: 401 });
    let (metrics, said) = go(vec![quiet(), step("b", broken)], request()).await.all().await;
    assert_eq!(said, "a:empty_answer b:unauthorized <a>(usage)[stop]");
    counted(&metrics, r#"weir_tokens_total{backend="a",direction="input"} 3"#);
}

#[tokio::test(start_paused = true)]
async fn what_it_cost_counts_when_the_caller_leaves_before_another_answers() {
    let quiet = step("a", backend(vec![used(3, 1), END]));
    let waits = Step { first_content: None, ..step("b", backend(vec![Line::Wait(1_000_000)])) };
    let metrics = Arc::new(Metrics::new().unwrap());
    let (request, settings) = (request(), AttemptSettings::default());
    let waiting = search(vec![quiet, waits], &request, &settings, &metrics);
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    counted(&metrics, r#"weir_tokens_total{backend="a",direction="input"} 3"#);
}
