//! The caller and the upstream speak the same dialect: what the upstream says comes through as it said it, fields and
//! events that nobody here knows too, apart from what the gateway owns.

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::{Reply, ask_at, client, read};
use weir_tests::binary::Weir;
use weir_tests::dialects::{Dialect, End};
use weir_tests::fault_upstream::{ANSWER, FaultUpstream};

/// The conversations' dialects, and the kind of upstream that speaks each.
const SAME: [(Dialect, &str); 3] =
    [(Dialect::Chat, "openai-chat"), (Dialect::Responses, "openai-responses"), (Dialect::Messages, "anthropic")];

async fn gateway(upstream: &FaultUpstream) -> Result<Weir> {
    let mut config = "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n".to_owned();
    for (_, kind) in SAME {
        let url = upstream.base_url("extras");
        config.push_str(&format!(
            "[[backend]]\nname = \"{kind}\"\nkind = \"{kind}\"\nbase_url = \"{url}\"\nmodel = \"m-{kind}\"\n"
        ));
    }
    Weir::start(&config)
}

/// What the upstream says to the same question without the gateway.
async fn directly(upstream: &FaultUpstream, dialect: Dialect, body: &Value) -> Result<Reply> {
    let url = format!("{}{}", upstream.base_url("extras"), dialect.path().trim_start_matches("/v1"));
    read(client()?.post(url).header("content-type", "application/json").body(body.to_string()).send().await?).await
}

#[tokio::test]
async fn a_stream_comes_through_byte_by_byte() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream).await?;
    for (dialect, kind) in SAME {
        let body = dialect.question(kind, "hi", true);
        let direct = directly(&upstream, dialect, &body).await?;
        // Pings keep one connection alive, not the other.
        let wanted: Vec<&str> =
            direct.text.split_inclusive("\n\n").filter(|event| !event.starts_with("event: ping\n")).collect();
        let through = ask_at(&weir, dialect.path(), &body).await?;
        assert_eq!(through.text, wanted.concat(), "{kind}");
        assert!(through.text.contains("x_up"), "{kind}: {}", through.text);
    }
    Ok(())
}

#[tokio::test]
async fn usage_nobody_asked_for_is_taken_out_again() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream).await?;
    let body = json!({"model": "openai-chat", "messages": [{"role": "user", "content": "hi"}], "stream": true});
    let frames = ask_at(&weir, Dialect::Chat.path(), &body).await?.frames();
    assert!(frames.is_complete() && frames.text() == ANSWER, "{frames:?}");
    assert!(frames.chunks.iter().all(|chunk| chunk.get("usage").is_none() && chunk["x_up"]["kept"] == true));
    assert_eq!(upstream.seen()[0].body["stream_options"]["include_usage"], true);
    Ok(())
}

#[tokio::test]
async fn a_whole_answer_holds_what_the_stream_held() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream).await?;
    for (dialect, kind) in SAME {
        let reply = ask_at(&weir, dialect.path(), &dialect.question(kind, "hi", false)).await?;
        let heard = dialect.whole(&reply);
        assert_eq!(
            (heard.text.as_str(), heard.end, heard.tokens),
            (ANSWER, End::Whole, Some((11, 7))),
            "{}",
            reply.text
        );
        let whole = reply.json();
        let (id, places): (&str, &[&str]) = match dialect {
            Dialect::Chat => ("up-1", &["/x_up", "/choices/0/x_up", "/choices/0/message/x_up", "/usage/x_up"]),
            Dialect::Responses => ("resp_up1", &["/x_up"]),
            _ => ("msg_up1", &["/x_up", "/content/0/x_up", "/usage/x_up"]),
        };
        assert_eq!(whole["id"], id, "{whole}");
        for place in places {
            assert_eq!(whole.pointer(place), Some(&json!({"kept": true})), "{kind} {place}: {whole}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn callers_of_other_dialects_get_what_they_know() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream).await?;
    for (dialect, own) in SAME {
        for (_, kind) in SAME.into_iter().filter(|(_, kind)| *kind != own) {
            let reply = ask_at(&weir, dialect.path(), &dialect.question(kind, "hi", true)).await?;
            let heard = dialect.streamed(&reply);
            assert_eq!((heard.text.as_str(), heard.end), (ANSWER, End::Whole), "{kind}: {}", reply.text);
            assert!(!reply.text.contains("x_up"), "{kind}: {}", reply.text);
        }
    }
    Ok(())
}
