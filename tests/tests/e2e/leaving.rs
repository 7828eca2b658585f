//! A caller leaves, or the gateway does. The work stops at once on both sides of the gateway, and it is counted like
//! everybody else.

use anyhow::{Context, Result};
use futures::StreamExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use weir_tests::asking::{ask, client, metrics, metrics_until, post, post_to, question, read, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::{Ending, FaultUpstream};
use weir_tests::metrics_page::MetricsPage;
use weir_tests::wait::until;

use crate::{backend, embedded};

fn story(model: &str) -> String {
    with(question(model, "Tell me a story."), json!({"stream": true})).to_string()
}

/// A backend that is never given up on.
fn patient(url: &str) -> String {
    backend("cloud", url).replace("= 2000", "= 600000")
}

#[tokio::test]
async fn after_the_first_piece_the_upstream_is_let_go() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&patient(&upstream.base_url("hang")))?;
    let response = client()?.post(weir.url("/v1/chat/completions")).body(story("cloud")).send().await?;
    let mut pieces = response.bytes_stream();
    pieces.next().await.context("a first piece")??;
    drop(pieces);
    assert_eq!(upstream.ended(0).await?.ending, Ending::ClosedByCaller);
    metrics_until(&weir, "the caller's leaving is counted", |page| {
        page.sum("weir_in_flight", &[]) == 0.0
            && page.sum("weir_requests_total", &[("outcome", "cancelled"), ("backend", "cloud")]) == 1.0
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn before_the_first_piece_too() -> Result<()> {
    for (fault, stream) in [("silent", true), ("silent", false), ("silent-after-headers", true)] {
        let upstream = FaultUpstream::start().await?;
        let weir = Weir::start(&patient(&upstream.base_url(fault)))?;
        let body = with(question("cloud", "Tell me a story."), json!({"stream": stream}));
        let request = client()?.post(weir.url("/v1/chat/completions")).body(body.to_string()).send();
        let waiting = tokio::spawn(request);
        until("the upstream was asked", || async { (!upstream.seen().is_empty()).then_some(()) }).await?;
        waiting.abort();
        assert_eq!(upstream.ended(0).await?.ending, Ending::ClosedByCaller, "{fault}, stream {stream}");
        metrics_until(&weir, "nothing is left", |page| {
            page.sum("weir_in_flight", &[]) == 0.0
                && page.sum("weir_requests_total", &[("outcome", "cancelled")]) == 1.0
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn while_it_sends_its_body_too() -> Result<()> {
    let weir = embedded()?;
    let outcomes = [("{\"model\":", "cancelled"), ("zz\r\n", "invalid_request")];
    for (body, outcome) in outcomes {
        let mut socket = TcpStream::connect(weir.url("").trim_start_matches("http://")).await?;
        let framing = if outcome == "cancelled" { "content-length: 99" } else { "transfer-encoding: chunked" };
        socket
            .write_all(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n{body}").as_bytes())
            .await?;
        socket.shutdown().await?;
        metrics_until(&weir, outcome, |page| page.sum("weir_requests_total", &[("outcome", outcome)]) == 1.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn built_in_engines_stop_and_serve_the_next() -> Result<()> {
    let weir = embedded()?;
    for (count, model) in (1_u8..).zip(["diffusion", "ar"]) {
        let response = client()?.post(weir.url("/v1/chat/completions")).body(story(model)).send().await?;
        drop(response);
        metrics_until(&weir, "nothing is left", |page| {
            page.sum("weir_in_flight", &[]) == 0.0 && page.sum("weir_requests_total", &[]) == f64::from(2 * count - 1)
        })
        .await?;
        let next = ask(&weir, &with(question(model, "Sort these words: tea, fox"), json!({"max_tokens": 16}))).await?;
        assert_eq!(next.status, 200, "{}", next.text);
        metrics_until(&weir, "the next is counted", |page| {
            page.sum("weir_requests_total", &[]) == f64::from(2 * count)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_full_house_refuses_at_once_and_recovers() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = format!("[server]\nmax_in_flight = 1\n{}", patient(&upstream.base_url("silent")));
    let weir = Weir::start(&config)?;
    let waiting = tokio::spawn(client()?.post(weir.url("/v1/chat/completions")).body(story("cloud")).send());
    until("the first is at work", || async { (!upstream.seen().is_empty()).then_some(()) }).await?;
    let second = ask(&weir, &question("ar", "hello")).await?;
    assert_eq!((second.status, second.header("retry-after")), (503, "1"), "{}", second.text);
    waiting.abort();
    let served = || async {
        let reply = ask(&weir, &with(question("ar", "hello"), json!({"max_tokens": 4}))).await.ok()?;
        (reply.status == 200).then_some(())
    };
    until("there is room again", served).await
}

#[tokio::test]
async fn large_bodies_have_a_bound_together_and_give_their_room_back() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let server = "[server]\nmax_body_bytes = 1000000\nbody_memory_mb = 5\n";
    let weir = Weir::start(&format!("{server}{}", patient(&upstream.base_url("silent"))))?;
    let large = |model: &str| with(question(model, &"x".repeat(900_000)), json!({"stream": true})).to_string();
    let waiting = tokio::spawn(client()?.post(weir.url("/v1/chat/completions")).body(large("cloud")).send());
    until("the first is at work", || async { (!upstream.seen().is_empty()).then_some(()) }).await?;
    assert!(metrics(&weir).await?.sum("weir_body_bytes", &[]) > 3_600_000.0);
    for (path, status, kind) in
        [("/v1/chat/completions", 503, "overloaded_error"), ("/v1/messages", 529, "overloaded_error")]
    {
        let second = post_to(&weir, path, large("ar")).await?;
        assert_eq!((second.status, second.header("retry-after")), (status, "1"), "{}", second.text);
        assert_eq!(second.json()["error"]["type"].as_str(), Some(kind), "{}", second.text);
    }
    let small = ask(&weir, &with(question("ar", "hello"), json!({"max_tokens": 4}))).await?;
    assert_eq!(small.status, 200, "{}", small.text);
    // Few bytes, and more memory than there is: nothing to wait for.
    let parts = format!(r#"{{"model":"ar","messages":[],"junk":[{}0]}}"#, r#"{"a":0},"#.repeat(30_000));
    let never = post(&weir, parts).await?;
    assert_eq!((never.status, never.header("retry-after")), (413, ""), "{}", never.text);
    // Many small bodies of many parts are as much.
    let parts = format!(r#"{{"model":"cloud","messages":[],"junk":[{}0]}}"#, r#"{"a":0},"#.repeat(4_000));
    assert_eq!(post(&weir, parts).await?.status, 503);
    waiting.abort();
    let is_free = |page: &MetricsPage| page.sum("weir_body_bytes", &[]) == 0.0;
    let page = metrics_until(&weir, "its room is given back", is_free).await?;
    assert_eq!(page.sum("weir_denied_total", &[("tenant", "none"), ("by", "body_memory")]), 4.0);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_outlasts_the_stop_is_told_so() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    for fault in ["hang", "silent"] {
        let config = format!("[server]\nshutdown_grace_ms = 1\n{}", patient(&upstream.base_url(fault)));
        let weir = Weir::start(&config)?;
        let asked = upstream.seen().len();
        let request = client()?.post(weir.url("/v1/chat/completions")).body(story("cloud")).send();
        let answer = tokio::spawn(async move { read(request.await?).await });
        until("the upstream was asked", || async { (upstream.seen().len() > asked).then_some(()) }).await?;
        assert_eq!(tokio::task::spawn_blocking(move || weir.terminate()).await??, Some(0));
        let reply = answer.await??;
        assert!(!reply.cut && reply.text.contains("stopping"), "{fault}: cut {}: {}", reply.cut, reply.text);
        assert!(!reply.text.contains("[DONE]"), "{fault}: {}", reply.text);
    }
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_the_grace_and_answers_are_told() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&format!("[server]\nshutdown_grace_ms = 600000\n{}", patient(&upstream.base_url("hang"))))?;
    let response = client()?.post(weir.url("/v1/chat/completions")).body(story("cloud")).send().await?;
    weir.ask_to_stop()?;
    weir.said("a second signal ends them").await?;
    // One that comes at once says nothing new, so it is said until it is heard.
    let heard = || async {
        // By then it may have ended.
        let _ = weir.ask_to_stop();
        weir.log().contains("answers under way are ended").then_some(())
    };
    until("the second is heard", heard).await?;
    let reply = read(response).await?;
    assert!(reply.text.contains("stream_cut") && !reply.text.contains("[DONE]"), "{}", reply.text);
    Ok(())
}
