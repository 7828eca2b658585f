//! The shape of a stream: chunks a strict client can read, the end exactly once, comments while nothing is ready.

use anyhow::Result;
use serde_json::json;
use weir_tests::asking::{ask, question, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::FaultUpstream;

use crate::{backend, embedded};

#[tokio::test]
async fn chunks_are_plain_and_end_once() -> Result<()> {
    let weir = embedded()?;
    for model in ["diffusion", "ar"] {
        let body =
            with(question(model, "Sort these words: lemon, apple, mirror"), json!({"stream": true, "max_tokens": 64}));
        let reply = ask(&weir, &body).await?;
        assert_eq!(reply.header("content-type"), "text/event-stream");
        let frames = reply.frames();
        assert!(frames.is_complete(), "{}", reply.text);
        assert!(frames.usages().is_empty(), "nobody asked for usage");
        let first = &frames.chunks[0];
        assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
        for chunk in &frames.chunks {
            assert_eq!(chunk["object"], "chat.completion.chunk");
            for key in ["id", "created", "model"] {
                assert_eq!(chunk[key], first[key], "the same in every chunk: {key}");
            }
            assert!(chunk.get("weir").is_none(), "nobody asked for drafts");
        }
    }
    Ok(())
}

#[tokio::test]
async fn drafts_come_when_asked_for_and_do_not_change_the_answer() -> Result<()> {
    let weir = embedded()?;
    let body = with(
        question("diffusion", "Sort these words: lemon, apple, mirror"),
        json!({"stream": true, "max_tokens": 64}),
    );
    let plain = ask(&weir, &body).await?.frames();
    let drafted = ask(&weir, &with(body, json!({"diffusion": {"drafts": true}}))).await?.frames();
    assert!(drafted.is_complete());
    assert!(drafted.chunks.iter().any(|chunk| chunk["weir"]["draft"]["snapshot"].is_string()), "{drafted:?}");
    assert_eq!(drafted.text(), plain.text());
    Ok(())
}

#[tokio::test]
async fn max_tokens_ends_with_length() -> Result<()> {
    let weir = embedded()?;
    for model in ["diffusion", "ar"] {
        let body =
            with(question(model, "Sort these words: lemon, apple, mirror, chair, honey"), json!({"max_tokens": 2}));
        let answer = ask(&weir, &body).await?.json();
        assert_eq!(answer["choices"][0]["finish_reason"], "length", "{model}: {answer}");
        assert_eq!(answer["usage"]["completion_tokens"], 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_slow_backend_is_bridged_with_comments_and_then_replaced() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = format!(
        "[server]\nkeep_alive_ms = 10\nhold_headers_ms = 10\n{}",
        backend("cloud", &upstream.base_url("silent"))
    );
    let weir = Weir::start(&config)?;
    let body = with(question("auto", "Tell me a story."), json!({"stream": true, "max_tokens": 16}));
    let reply = ask(&weir, &body).await?;
    let frames = reply.frames();
    assert!(frames.comments > 0 && frames.is_complete(), "{}", reply.text);
    assert_eq!(upstream.seen().len(), 1);
    Ok(())
}
