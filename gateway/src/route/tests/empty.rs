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
