//! More attempts than one: who is asked beside, again or not at all, and what is said when nobody could answer.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_tests::asking::{Reply, ask, client, metrics_until, question, read, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::{ANSWER, FaultUpstream};

use crate::backend;

/// A gateway whose policy has one rule with these attempts, and no fallback for pinned backends.
fn gateway(config: &str, attempts: &[&str]) -> Result<Weir> {
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    let attempts: Vec<String> = attempts.iter().map(|name| format!("{{ backend = \"{name}\" }}")).collect();
    let rule = "[[rule]]\nname = \"all\"\nroute = \"ar\"\nreason = \"test\"\n";
    std::fs::write(&policy, format!("[pins]\nfallback = []\n\n{rule}attempts = [{}]\n", attempts.join(", ")))?;
    Weir::start(&format!("[policy]\nfile = {:?}\n\n{config}", policy.display().to_string()))
}

async fn tell(weir: &Weir, model: &str, stream: bool) -> Result<Reply> {
    ask(weir, &with(question(model, "Tell me a story."), json!({"stream": stream, "max_tokens": 16}))).await
}

async fn tell_as(weir: &Weir, header: (&str, &str), model: &str, stream: bool) -> Result<Reply> {
    let body = with(question(model, "Tell me a story."), json!({"stream": stream}));
    let request = client()?.post(weir.url("/v1/chat/completions")).header(header.0, header.1);
    read(request.json(&body).send().await.context("no response")?).await
}

#[tokio::test]
async fn openclaw_is_sent_elsewhere_when_nobody_can_answer() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let faults = ["401", "402", "500", "503", "silent"];
    let mut backends = String::new();
    for fault in faults {
        backends.push_str(&backend(&format!("up-{fault}"), &upstream.base_url(fault)));
    }
    let later = gateway(&backends, &["ar"])?;
    let missing = gateway(&format!("[exhausted]\nopenclaw = \"not_found\"\n\n{backends}"), &["ar"])?;
    for fault in faults {
        let model = format!("up-{fault}");
        for stream in [true, false] {
            let reply = tell_as(&later, ("user-agent", "OpenClaw/2026.9.6"), &model, stream).await?;
            assert_eq!((reply.status, reply.header("retry-after")), (429, "120"), "{fault}: {}", reply.text);
            let reply = tell_as(&missing, ("x-weir-client", "openclaw"), &model, stream).await?;
            assert_eq!(reply.status, 404, "{fault}: {}", reply.text);
            assert_eq!(reply.json()["error"]["code"], "model_not_found");
        }
    }
    let other = tell_as(&later, ("user-agent", "curl/8"), "up-500", false).await?;
    assert_eq!((other.status, other.json()["error"]["code"].as_str()), (502, Some("upstream_error")), "{}", other.text);
    Ok(())
}

#[tokio::test]
async fn a_dead_backend_is_left_alone_after_five_failures() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = format!("[attempts]\nretries = 0\n\n{}", backend("dead", &upstream.base_url("500")));
    let weir = gateway(&config, &["dead", "ar"])?;
    for _ in 0..8 {
        let reply = tell(&weir, "auto", true).await?;
        assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "ar"));
    }
    assert_eq!(upstream.seen().len(), 5, "three requests went past it");
    let page = metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == 8.0).await?;
    assert_eq!(page.sum("weir_breaker_state", &[("backend", "dead")]), 2.0);
    assert_eq!(page.sum("weir_skipped_total", &[("backend", "dead"), ("cause", "breaker_open")]), 3.0);
    assert_eq!(page.sum("weir_in_flight", &[]), 0.0);
    Ok(())
}

#[tokio::test]
async fn a_silent_backend_is_overtaken() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let backends = backend("slow", &upstream.base_url("silent")) + &backend("quick", &upstream.base_url("fine"));
    let weir = gateway(&format!("[attempts]\nhedge = true\nhedge_after_ms = 60\n\n{backends}"), &["slow", "quick"])?;
    for stream in [true, false] {
        let reply = tell(&weir, "auto", stream).await?;
        assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "quick"), "{}", reply.text);
        assert!(reply.text.contains(ANSWER) || reply.frames().text() == ANSWER, "{}", reply.text);
    }
    let page = metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == 2.0).await?;
    assert_eq!(page.sum("weir_hedges_total", &[("backend", "quick"), ("outcome", "won")]), 2.0);
    assert_eq!(page.sum("weir_in_flight", &[]), 0.0);
    assert_eq!(page.sum("weir_fallbacks_total", &[]), 0.0, "nobody failed");
    Ok(())
}

#[tokio::test]
async fn what_a_health_check_says_counts() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let checked = |name: &str, path: &str| {
        let check = format!("health = {{ path = \"{path}\", interval_ms = 20, failures = 1 }}\nfirst_content");
        backend(name, &upstream.base_url("fine")).replace("first_content", &check)
    };
    let weir = gateway(&(checked("ill", "/nowhere") + &checked("well", "/fine/v1/models")), &["ill", "well"])?;
    metrics_until(&weir, "the check has failed", |page| page.sum("weir_backend_up", &[("backend", "ill")]) == 0.0)
        .await?;
    let reply = tell(&weir, "auto", true).await?;
    assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "well"), "{}", reply.text);
    let reply = tell(&weir, "ill", true).await?;
    assert_eq!(reply.status, 200, "with nobody else it is asked all the same: {}", reply.text);
    Ok(())
}

#[tokio::test]
async fn equals_stand_in_for_each_other() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let member = |name: &str, url: &str| backend(name, url).replace("first_content", "group = \"pool\"\nfirst_content");
    let config = member("a", &FaultUpstream::refused_url().await?)
        + &member("b", &upstream.base_url("fine"))
        + &member("c", &upstream.base_url("503"));
    let weir = gateway(&config, &["pool"])?;
    for _ in 0..12 {
        let reply = tell(&weir, "pool", true).await?;
        assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "b"), "{}", reply.text);
    }
    Ok(())
}

/// Whoever answers in the end: the log-probabilities are those of its own text, and all of them.
#[tokio::test]
async fn log_probabilities_are_those_of_who_answers() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let hedged = "[attempts]\nhedge = true\nhedge_after_ms = 60\n\n";
    for (fault, settings) in [("silent", hedged), ("503", ""), ("cut-early", ""), ("cut-late", "")] {
        let config = format!("{settings}{}", backend("first", &upstream.base_url(fault)));
        for other in ["diffusion", "ar"] {
            let weir = gateway(&config, &["first", other])?;
            // From the one that is cut late a caller gets the answer whole.
            for stream in [true, false].into_iter().filter(|stream| !*stream || fault != "cut-late") {
                let body = with(
                    question("auto", "Sort these words: lemon, apple, mirror"),
                    json!({"stream": stream, "logprobs": true, "top_logprobs": 2}),
                );
                let reply = ask(&weir, &body).await?;
                assert_eq!((reply.status, reply.header("x-weir-backend")), (200, other), "{fault}: {}", reply.text);
                let choices: Vec<Value> = match stream {
                    true => reply.frames().chunks.iter().map(|chunk| chunk["choices"][0].clone()).collect(),
                    false => vec![reply.json()["choices"][0].clone()],
                };
                let (mut told, mut text) = (String::new(), String::new());
                for choice in &choices {
                    for token in choice["logprobs"]["content"].as_array().into_iter().flatten() {
                        told.push_str(token["token"].as_str().unwrap_or_default());
                        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(2), "{fault}: {token}");
                    }
                    text += choice[if stream { "delta" } else { "message" }]["content"].as_str().unwrap_or_default();
                }
                assert!(!text.is_empty() && told == text, "{fault} {other} {stream}: {told:?} of {text:?}");
            }
        }
    }
    Ok(())
}
