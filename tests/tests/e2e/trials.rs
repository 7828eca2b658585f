//! Policies beside the live one: a shadow that is counted and never shown, a canary that gives itself up, and a request
//! log decided again.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_tests::asking::{client, metrics_until};
use weir_tests::binary::{self, Weir};
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::{request_log, wait};

use crate::backend;

fn ask(text: &str) -> Value {
    json!({"model": "auto", "max_tokens": 8, "temperature": 0, "messages": [
        {"role": "system", "content": "Answer."}, {"role": "user", "content": text},
        {"role": "assistant", "content": "?"}, {"role": "user", "content": text}]})
}

async fn send(weir: &Weir, session: &str, body: &Value) -> Result<(u16, String, Value)> {
    let request = client()?.post(weir.url("/v1/chat/completions")).header("x-weir-session", session);
    let response = request.json(body).send().await?;
    let backend =
        response.headers().get("x-weir-backend").and_then(|name| name.to_str().ok()).unwrap_or_default().to_owned();
    Ok((response.status().as_u16(), backend, response.json().await?))
}

async fn page(weir: &Weir) -> Result<String> {
    Ok(client()?.get(weir.url("/metrics")).send().await?.text().await?)
}

#[tokio::test]
async fn a_shadow_is_counted_and_compared_and_never_shown() -> Result<()> {
    let config = "[policy]\nprofile = \"ar-first\"\n[policy.shadow]\npolicy = \"diffusion-first\"\nsample = 1.0";
    let weir = Weir::start(config)?;
    let (status, backend, answer) = send(&weir, "s", &ask("hello")).await?;
    assert_eq!((status, backend.as_str()), (200, "ar"), "{answer}");
    assert_eq!(answer["model"], "weir-nano-ar");
    let decided = r#"weir_shadow_decisions_total{difference="backend",live="ar",shadow="diffusion"} 1"#;
    let text = page(&weir).await?;
    assert!(text.contains(decided), "{text}");
    wait::until("the shadow's answer is compared", || async {
        let text = page(&weir).await.unwrap_or_default();
        let sent = text.contains(r#"weir_shadow_sent_total{outcome="valid"} 1"#);
        (sent && text.contains(r#"weir_shadow_ratio_count{what="total"} 1"#)).then_some(())
    })
    .await?;
    let used = |direction| [("backend", "diffusion"), ("direction", direction)];
    metrics_until(&weir, "its tokens are counted", |page| {
        ["input", "output"].iter().all(|direction| page.sum("weir_shadow_tokens_total", &used(direction)) > 0.0)
    })
    .await?;
    // It is no request of anybody's.
    assert!(page(&weir).await?.contains(r#"weir_requests_total{backend="ar",outcome="finished",route="ar"} 1"#));
    let told = client()?.post(weir.url("/v1/route/explain")).json(&ask("hello")).send().await?;
    let told: Value = told.json().await?;
    assert_eq!((&told["shadow"]["first"], &told["shadow"]["difference"]), (&json!("diffusion"), &json!("backend")));
    Ok(())
}

/// Upstreams of both roles and no engine of our own.
fn upstreams(upstream: &FaultUpstream) -> String {
    "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n".to_owned()
        + &backend("gpu", &upstream.base_url("fine"))
        + &backend("dllm", &upstream.base_url("fine")).replacen(
            "[[backend]]\n",
            "[[backend]]\nrole = \"diffusion\"\n",
            1,
        )
}

#[tokio::test]
async fn a_shadow_leaves_alone_who_is_drained() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = "[policy]\nprofile = \"ar-first\"\n[policy.shadow]\npolicy = \"diffusion-first\"\nsample = 1.0\n\
                  [admin]\nlisten = \"127.0.0.1:0\"\nkey_env = \"SHADOW_TEST_KEY\"\n"
        .to_owned()
        + &upstreams(&upstream);
    let key = "an-admin-key-of-this-test";
    let weir = Weir::start_with(&config, &[("SHADOW_TEST_KEY", key)])?;
    let order = client()?.post(weir.admin_url("/admin/backends/dllm/drain").await?).bearer_auth(key);
    assert_eq!(order.send().await?.status(), 200);
    assert_eq!(send(&weir, "s", &ask("hello")).await?.1, "gpu");
    let skipped = [("outcome", "skipped")];
    metrics_until(&weir, "the shadow is skipped", |page| page.sum("weir_shadow_sent_total", &skipped) == 1.0).await?;
    assert_eq!(upstream.seen().len(), 1, "only the live one's");
    Ok(())
}

#[tokio::test]
async fn only_what_a_policy_decided_counts_for_it() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = "[policy]\nprofile = \"ar-first\"\n[policy.shadow]\npolicy = \"diffusion-first\"\n\
                  [policy.canary]\npolicy = \"ar-first\"\nshare = 1.0\n\
                  [request_log]\nenabled = true\nfile = \"requests.jsonl\"\n"
        .to_owned()
        + &upstreams(&upstream);
    let weir = Weir::start(&config)?;
    let mut body = ask("turn off the lights");
    send(&weir, "s", &body).await?;
    // The same turn goes on with its backend: nothing to be decided.
    let messages = body["messages"].as_array_mut().context("messages")?;
    messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}));
    messages.push(json!({"role": "tool", "tool_call_id": "1", "content": "done"}));
    send(&weir, "s", &body).await?;
    // Nor is there where the caller names who shall answer.
    let mut named = ask("hello");
    named["model"] = json!("gpu");
    send(&weir, "t", &named).await?;
    let lines = request_log::lines_until(&weir.folder().join("requests.jsonl"), 3).await?;
    let arms: Vec<&Value> = lines.iter().map(|line| &line["arm"]).collect();
    assert_eq!(arms, [&json!("canary"), &json!("canary"), &Value::Null]);
    let text = page(&weir).await?;
    for line in [
        r#"weir_shadow_decisions_total{difference="backend",live="ar",shadow="diffusion"} 1"#,
        r#"weir_canary_requests_total{arm="canary",outcome="finished"} 2"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains(r#"difference="same""#) && !text.contains(r#"difference="rule""#), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_canary_that_fails_gives_itself_up() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("new.toml");
    std::fs::write(
        &file,
        "[[rule]]\nname = \"all\"\nroute = \"new\"\nreason = \"a new backend\"\nattempts = [{ backend = \"gone\" }]\n",
    )?;
    // Nobody listens on port 9 of this machine.
    let config = format!(
        "[policy]\nprofile = \"ar-first\"\n[policy.canary]\npolicy = {:?}\nshare = 0.5\nmin_requests = 6\n\
         [[backend]]\nname = \"gone\"\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\nrole = \"diffusion\"\n",
        file.display().to_string()
    );
    let weir = Weir::start(&config)?;
    assert!(page(&weir).await?.contains("weir_canary_state 1"));
    let (mut failed, mut rounds) = (0, 0);
    while !page(&weir).await?.contains("weir_canary_state 2") {
        let (status, ..) = send(&weir, &format!("conversation-{rounds}"), &ask("hello")).await?;
        failed += usize::from(status != 200);
        rounds += 1;
        assert!(rounds < 60, "the canary is not given up: {}", page(&weir).await?);
    }
    assert!((6..30).contains(&failed), "{failed} of {rounds}");
    assert!(page(&weir).await?.contains(r#"weir_canary_rolled_back_total{by="errors"} 1"#));
    weir.said("the canary policy is rolled back").await?;
    for conversation in 0..8 {
        let (status, backend, _) = send(&weir, &format!("later-{conversation}"), &ask("hello")).await?;
        assert_eq!((status, backend.as_str()), (200, "ar"), "the live policy decides for everybody again");
    }
    let told: Value = client()?.post(weir.url("/v1/route/explain")).json(&ask("x")).send().await?.json().await?;
    assert_eq!(told["canary"]["rolled_back"]["by"], "errors", "{told}");
    Ok(())
}

#[tokio::test]
async fn a_recorded_log_is_decided_again() -> Result<()> {
    let weir = Weir::start("[request_log]\nenabled = true\nfile = \"requests.jsonl\"")?;
    for _ in 0..6 {
        send(&weir, "s", &ask("tell me about bread")).await?;
        let mut named = ask("tell me about bread");
        named["model"] = json!("diffusion");
        send(&weir, "s", &named).await?;
    }
    let log = weir.folder().join("requests.jsonl");
    wait::until("twelve lines are written", || async {
        std::fs::read_to_string(&log).ok().filter(|text| text.lines().count() == 12)
    })
    .await?;
    let run = |arguments: &[&str]| binary::run(weir.folder(), arguments);
    let out = run(&["route", "replay", "requests.jsonl", "--policy", "diffusion-first", "--html", "report.html"])?;
    let text = String::from_utf8(out.stdout)?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("6 decided again, 6 move (100.0 %); 6 named their model"), "{text}");
    assert!(text.contains("otherwise → ar") && text.contains("otherwise → diffusion"), "{text}");
    assert!(!text.contains("first content unknown"), "the log has measured diffusion: {text}");
    let report = std::fs::read_to_string(weir.folder().join("report.html"))?;
    assert!(report.contains("<svg") && report.contains("<polyline") && !report.contains("bread"), "{report}");
    let out = run(&["route", "replay", "requests.jsonl", "--json"])?;
    let told: Value = serde_json::from_slice(&out.stdout)?;
    assert_eq!((&told["requests"], &told["moved"]), (&json!(6), &json!(0)), "the same policy moves nothing: {told}");
    let out = run(&["route", "replay", "weir.toml"])?;
    assert!(String::from_utf8(out.stderr)?.contains("no line of it is a request's"));
    Ok(())
}
