//! An upstream misbehaves. Before the first content the caller gets another backend's answer and notices nothing; after
//! it the stream ends as an error and never looks complete.

use anyhow::Result;
use serde_json::json;
use weir_tests::asking::{Reply, ask, metrics_until, question, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::{ANSWER, FaultUpstream};

use crate::backend;

/// Faults that show before any content, and the cause that is counted.
const BEFORE: [(&str, &str); 21] = [
    ("401", "unauthorized"),
    ("402", "unauthorized"),
    ("403", "unauthorized"),
    ("404", "upstream"),
    ("413", "context_too_long"),
    ("429", "rate_limited"),
    ("500", "upstream"),
    ("503", "upstream"),
    ("529", "upstream"),
    ("html", "upstream"),
    ("overflow", "context_too_long"),
    ("silent", "timeout"),
    ("silent-after-headers", "timeout"),
    ("cut-0", "stream_cut"),
    ("cut-100", "stream_cut"),
    ("cut-190", "stream_cut"),
    ("empty", "stream_cut"),
    ("error-first", "upstream"),
    ("refused", "upstream"),
    ("400", "upstream"),
    ("408", "upstream"),
];

/// Faults that show after some content.
const AFTER: [&str; 8] =
    ["cut-600", "cut-900", "no-finish", "done-only", "error-event", "malformed", "hang", "cut-1200"];

/// Strange but complete streams.
const HARMLESS: [&str; 7] = ["fine", "byte-by-byte", "crlf", "comments", "multi-line", "no-done", "plain-json"];

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
async fn before_the_first_content_another_backend_answers() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let faults = BEFORE.map(|(fault, _)| fault);
    let weir = gateway(&upstream, &faults, "{ backend = \"ar\" }").await?;
    for stream in [true, false] {
        let replies = futures::future::join_all(faults.iter().map(|fault| tell(&weir, fault, stream))).await;
        for (fault, reply) in faults.iter().zip(replies) {
            let reply = reply?;
            assert_eq!(reply.status, 200, "{fault}: {}", reply.text);
            assert!(!stream || reply.frames().is_complete(), "{fault}: {}", reply.text);
            assert!(!reply.text.contains("refused:"), "{fault}: the upstream's words came through");
        }
    }
    let page = metrics_until(&weir, "all are counted", |page| {
        page.sum("weir_requests_total", &[("outcome", "finished"), ("backend", "ar")]) == 2.0 * faults.len() as f64
    })
    .await?;
    for (fault, cause) in BEFORE {
        let labels = [("from", name(fault)), ("to", "ar".to_owned()), ("cause", cause.to_owned())];
        let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let counted = page.sum("weir_fallbacks_total", &labels);
        // Who asked to be left alone for a while is: the second request goes past it.
        let skipped = page.sum("weir_skipped_total", &[("backend", name(fault).as_str()), ("cause", "rate_limited")]);
        assert!(skipped == 0.0 || fault == "429", "{fault}");
        assert_eq!(
            counted + skipped,
            2.0,
            "{fault} as {cause}\n{}",
            weir_tests::asking::get(&weir, "/metrics").await?.text
        );
    }
    Ok(())
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
async fn after_the_first_content_the_stream_ends_as_an_error() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream, &AFTER, "{ backend = \"ar\" }").await?;
    for fault in AFTER {
        let reply = tell(&weir, fault, true).await?;
        let frames = reply.frames();
        assert!(reply.status == 200 && frames.is_broken_off(), "{fault}: {}", reply.text);
        let text = frames.text();
        assert!(!text.is_empty() && ANSWER.starts_with(&text), "{fault}: what came first was the upstream's: {text}");
        assert!(frames.errors()[0]["error"]["message"].is_string());
    }
    let page =
        metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == AFTER.len() as f64);
    let page = page.await?;
    assert_eq!(page.sum("weir_requests_total", &[("outcome", "finished")]), 0.0);
    assert_eq!(page.sum("weir_fallbacks_total", &[]), 0.0, "no other backend takes over in mid-answer");
    Ok(())
}

#[tokio::test]
async fn a_whole_answer_is_never_half() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream, &AFTER, "").await?;
    for fault in AFTER {
        let reply = tell(&weir, fault, false).await?;
        assert!(
            reply.status == 200 && fault == "done-only" || reply.status >= 500,
            "{fault}: {} {}",
            reply.status,
            reply.text
        );
    }
    Ok(())
}

#[tokio::test]
async fn strange_but_complete_streams_are_taken() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream, &HARMLESS, "").await?;
    for fault in HARMLESS {
        let reply = tell(&weir, fault, true).await?;
        assert!(reply.frames().is_complete(), "{fault}: {}", reply.text);
        assert_eq!(reply.frames().text(), ANSWER, "{fault}");
    }
    Ok(())
}

#[tokio::test]
async fn with_nobody_left_the_error_is_ours_to_word() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let expected: [(&str, u16, &str); 8] = [
        ("401", 502, "upstream_unauthorized"),
        ("402", 502, "upstream_unauthorized"),
        ("413", 400, "context_length_exceeded"),
        ("429", 429, "rate_limit_exceeded"),
        ("500", 502, "upstream_error"),
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
