//! Explanations over HTTP and at the terminal: the same words, nothing run, and true of what then happens.

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::client;
use weir_tests::binary::{self, Weir};
use weir_tests::openclaw_request;

fn call() -> Value {
    json!({
        "model": "auto",
        "messages": [{"role": "user", "content": "turn off the kitchen lights"}],
        "tools": [{"type": "function", "function": {"name": "set_light", "parameters": {"type": "object",
            "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}}}}}],
    })
}

async fn explain(weir: &Weir, query: &str, body: &Value) -> Result<(u16, Value)> {
    let response = client()?.post(weir.url(&format!("/v1/route/explain{query}"))).json(body).send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

#[tokio::test]
async fn an_explanation_is_true_of_what_then_happens_and_runs_nothing() -> Result<()> {
    let weir = Weir::start("")?;
    let (status, told) = explain(&weir, "", &call()).await?;
    assert_eq!(status, 200, "{told}");
    assert_eq!((&told["dialect"], &told["dialect_told_by"]), (&json!("openai_chat"), &json!("shape")));
    assert_eq!(told["features"]["tool_needed"], true);
    let rule = &told["rules"][0];
    assert_eq!((&rule["rule"], &rule["holds"], &rule["decides"]), (&json!("tool-call"), &json!(true), &json!(true)));
    assert_eq!(rule["because"][0], json!({"condition": "tool_needed", "holds": true}));
    assert_eq!(told["plan"]["attempts"][0]["backend"], "diffusion");
    assert!(!told.to_string().contains("kitchen"), "{told}");
    let page = client()?.get(weir.url("/metrics")).send().await?.text().await?;
    assert!(!page.contains("weir_requests_total{"), "nothing was counted as a request: {page}");

    let response = client()?.post(weir.url("/v1/chat/completions")).json(&call()).send().await?;
    assert_eq!(response.headers()["x-weir-reason"], told["plan"]["reason"].as_str().unwrap_or_default());
    Ok(())
}

#[tokio::test]
async fn dialects_are_said_or_told_and_mistakes_are_named() -> Result<()> {
    let weir = Weir::start("[policy]\nprofile = \"diffusion-first\"")?;
    let messages = json!({"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let (_, told) = explain(&weir, "?dialect=messages", &messages).await?;
    assert_eq!((&told["dialect"], &told["dialect_told_by"]), (&json!("anthropic_messages"), &json!("caller")));
    let (status, told) = explain(&weir, "?dialect=klingon", &messages).await?;
    assert_eq!((status, &told["error"]["param"]), (400, &json!("dialect")));
    let (status, _) = explain(&weir, "", &json!({"model": "nobody-has-it", "input": "x"})).await?;
    assert_eq!(status, 404);
    let (status, told) = explain(&weir, "", &json!({"model": "auto", "messages": 3})).await?;
    assert_eq!((status, &told["error"]["param"]), (400, &json!("messages")));

    // An agent's 53 KB come down to what the nano model's window takes, and what is left out is said.
    let agent = openclaw_request::request(7, "auto", "sort these words: pear, fig, plum");
    let (_, told) = explain(&weir, "", &agent).await?;
    assert!(told["condensed"]["left_out"]["tools"].as_array().map_or(0, Vec::len) > 7, "{told}");
    assert_eq!(told["plan"]["attempts"][0]["condensed"], true, "{told}");
    assert_eq!(told["agent"], "main");
    let response = client()?.post(weir.url("/v1/chat/completions")).json(&agent).send().await?;
    assert_eq!(response.headers()["x-weir-backend"], "diffusion", "the condensed request is what was sent");
    Ok(())
}

#[test]
fn the_terminal_says_the_same() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("call.json"), call().to_string())?;
    let run = |arguments: &[&str]| binary::run(dir.path(), arguments);
    let out = run(&["route", "explain", "call.json"])?;
    let text = String::from_utf8(out.stdout)?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("=> tool-call\n      true: tool_needed\n      true: !tail_is_tool_result\n"), "{text}");
    assert!(text.contains("  1. diffusion, mode speed, waits 4000 ms for the first content\n  2. ar\n"), "{text}");
    let out = run(&["route", "explain", "call.json", "--policy", "ar-first", "--json"])?;
    let told: Value = serde_json::from_slice(&out.stdout)?;
    assert_eq!(
        (&told["plan"]["rule"], &told["policy"]),
        (&json!("everything"), &json!("the embedded ar-first policy"))
    );
    for (arguments, said) in [
        (["route", "explain", "gone.json", "--policy", "fastest"], "gone.json"),
        (["route", "explain", "call.json", "--policy", "fastst"], "no such profile"),
        (["route", "explain", "call.json", "--dialect", "x"], "unknown dialect `x`"),
        (["route", "explain", "call.json", "--tenant", "x"], "no tenant is named `x`"),
    ] {
        let out = run(&arguments)?;
        let error = String::from_utf8(out.stderr)?;
        assert!(!out.status.success() && error.contains(said), "{arguments:?}: {error}");
    }
    Ok(())
}

#[test]
fn policies_are_checked_tested_and_laid_out_at_the_terminal() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let run = |arguments: &[&str]| -> Result<(bool, String)> {
        let out = binary::run(dir.path(), arguments)?;
        Ok((out.status.success(), String::from_utf8(out.stdout)? + &String::from_utf8(out.stderr)?))
    };
    let (fine, said) =
        run(&["policy", "test", "balanced", "fastest", "cheapest", "quality", "diffusion-first", "ar-first"])?;
    assert!(fine && said.ends_with(" 0 failed\n"), "{said}");
    let (fine, said) = run(&["policy", "check"])?;
    assert!(fine && said.contains("the embedded balanced policy: ok, rules: 6"), "{said}");
    let (_, profile) = run(&["policy", "show", "quality"])?;
    let own = profile
        .replace("attempts = [\n  { backend = \"role:ar\" },", "attempts = [{ backend = \"gpuu\" },")
        .replace("first = \"ar\"", "first = \"diffusion\"");
    std::fs::write(dir.path().join("own.toml"), &own)?;
    let (fine, said) = run(&["policy", "check", "own.toml"])?;
    assert!(!fine && said.contains("unknown backend `gpuu`"), "{said}");
    std::fs::write(dir.path().join("own.toml"), profile.replace("first = \"ar\"", "first = \"diffusion\""))?;
    let (fine, said) = run(&["policy", "test", "own.toml"])?;
    assert!(!fine && said.contains("first is `ar`, not `diffusion`"), "{said}");
    std::fs::write(dir.path().join("own.toml"), profile.replace("name = ", "name="))?;
    assert!(!run(&["policy", "fmt", "own.toml", "--check"])?.0);
    assert!(run(&["policy", "fmt", "own.toml"])?.0);
    assert_eq!(std::fs::read_to_string(dir.path().join("own.toml"))?, profile);
    let (fine, said) = run(&["policy", "words"])?;
    assert!(fine && said.contains("| `predicted.<subject>.total_ms` |"), "{said}");
    Ok(())
}
