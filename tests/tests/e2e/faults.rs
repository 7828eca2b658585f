//! An upstream misbehaves and nobody is left, or `auto` goes on. Which fault looks how is `fault_table`'s.

use anyhow::Result;
use serde_json::json;
use weir_tests::asking::{Reply, ask, post_to, question, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::FaultUpstream;

use crate::backend;

/// A gateway with a backend for each fault; whoever names a backend gets `fallback` after it.
async fn gateway(upstream: &FaultUpstream, faults: &[&str], fallback: &str) -> Result<Weir> {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    let rule = "[[rule]]\nname = \"all\"\nroute = \"ar\"\nreason = \"test\"\nattempts = [{ backend = \"ar\" }]\n";
    std::fs::write(&policy, format!("[pins]\nfallback = [{fallback}]\n\n{rule}"))?;
    let mut config = format!("[policy]\nfile = {:?}\n\n", policy.display().to_string());
    for fault in faults {
        let url = if *fault == "refused" { FaultUpstream::refused_url().await? } else { upstream.base_url(fault) };
        config.push_str(&backend(&name(fault), &url));
    }
    Weir::start(&config)
}

fn name(fault: &str) -> String {
    format!("up-{fault}")
}

async fn tell(weir: &Weir, fault: &str, stream: bool) -> Result<Reply> {
    ask(weir, &with(question(&name(fault), "Tell me a story."), json!({"stream": stream, "max_tokens": 16}))).await
}

#[tokio::test]
async fn auto_falls_back_too() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&backend("cloud", &upstream.base_url("500")))?;
    let reply = ask(&weir, &with(question("auto", "Tell me a story."), json!({"max_tokens": 16}))).await?;
    assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "ar"), "{}", reply.text);
    assert_eq!(reply.header("x-weir-route"), "ar");
    assert_eq!(upstream.seen().len(), 1, "asked once, not again and again");
    Ok(())
}

#[tokio::test]
async fn with_nobody_left_the_error_is_ours_to_word() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let expected: [(&str, u16, &str); 11] = [
        ("400", 400, "upstream_refused"),
        ("401", 502, "upstream_unauthorized"),
        ("402", 502, "upstream_unauthorized"),
        ("413", 400, "context_length_exceeded"),
        ("429", 429, "rate_limit_exceeded"),
        ("500", 502, "upstream_error"),
        ("503", 503, "upstream_overloaded"),
        ("529", 503, "upstream_overloaded"),
        ("html", 502, "upstream_error"),
        ("overflow", 400, "context_length_exceeded"),
        ("refused", 502, "upstream_error"),
    ];
    let faults = expected.map(|(fault, _, _)| fault);
    let weir = gateway(&upstream, &faults, "").await?;
    for (fault, status, code) in expected {
        for stream in [true, false] {
            let reply = tell(&weir, fault, stream).await?;
            assert_eq!(
                (reply.status, reply.json()["error"]["code"].as_str()),
                (status, Some(code)),
                "{fault}: {}",
                reply.text
            );
            if fault == "429" {
                assert_eq!(reply.header("retry-after"), "7");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_overload_is_told_in_anthropics_words() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream, &["503", "529"], "").await?;
    for fault in ["503", "529"] {
        for stream in [true, false] {
            let body = with(question(&name(fault), "Hi."), json!({"stream": stream, "max_tokens": 16}));
            let reply = post_to(&weir, "/v1/messages", body.to_string()).await?;
            assert_eq!(reply.status, 529, "{}", reply.text);
            assert_eq!(reply.json()["error"]["type"], "overloaded_error", "{}", reply.text);
        }
    }
    Ok(())
}
