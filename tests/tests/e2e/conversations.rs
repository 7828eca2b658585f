//! What backends really get: a condensed request for diffusion, the caller's own for everybody else; and one backend
//! from the user's words to the end of the tool loop they started.

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::client;
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::openclaw_request;

fn backend(name: &str, url: &str, more: &str) -> String {
    format!("[[backend]]\nname = {name:?}\nbase_url = {url:?}\nmodel = \"m\"\n{more}\n")
}

/// Both built-in engines off: only upstreams answer.
const UPSTREAMS_ONLY: &str = "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n";

async fn ask(weir: &Weir, body: &Value) -> Result<(String, String)> {
    let response = client()?.post(weir.url("/v1/chat/completions")).json(body).send().await?;
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let out = (header("x-weir-backend"), header("x-weir-reason"));
    anyhow::ensure!(response.status() == 200, "{}: {}", response.status(), response.text().await?);
    response.bytes().await?;
    Ok(out)
}

#[tokio::test]
async fn diffusion_gets_the_condensed_request_and_who_takes_over_gets_the_whole() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = "[policy]\nprofile = \"diffusion-first\"\n".to_owned()
        + UPSTREAMS_ONLY
        + &backend("dllm", &upstream.base_url("500"), "role = \"diffusion\"\ncontext_tokens = 4096")
        + &backend("gpu", &upstream.base_url("fine"), "");
    let weir = Weir::start(&config)?;
    let mut body = openclaw_request::request(3, "auto", "tell me something about bread");
    body["stream"] = json!(false);
    let (who, _) = ask(&weir, &body).await?;
    assert_eq!(who, "gpu");
    let seen = upstream.seen();
    let [condensed, whole] = &seen[..] else { panic!("two attempts, got {}", seen.len()) };
    let said = condensed.body["messages"].as_array().expect("messages");
    assert_eq!(said.len(), 2, "{}", condensed.body);
    assert!(said[0]["content"].as_str().is_some_and(|text| text.starts_with("You are an assistant.")));
    assert_eq!(said[1]["content"], "tell me something about bread");
    assert!(condensed.body["tools"].as_array().map_or(0, Vec::len) <= 4);
    assert!(condensed.body.to_string().len() < 8_000, "{}", condensed.body.to_string().len());
    assert!(condensed.body.get("metadata").is_none(), "nothing of the caller's body is passed on with it");
    assert_eq!(condensed.body["max_tokens"], 8192);
    assert_eq!(whole.body["messages"], body["messages"]);
    assert_eq!((&whole.body["tools"], &whole.body["metadata"]), (&body["tools"], &body["metadata"]));
    Ok(())
}

#[tokio::test]
async fn a_conversation_changes_its_backend_at_a_user_turn_only() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("rules.toml");
    let rule = |name: &str, when: &str, first: &str, second: &str| {
        format!(
            "[[rule]]\nname = {name:?}\n{when}route = \"ar\"\nreason = {name:?}\n\
             attempts = [{{ backend = {first:?} }}, {{ backend = {second:?} }}]\n"
        )
    };
    // Without staying, the second rule would move the conversation in the middle of a tool loop.
    let rules = rule("speaks-first", "when = \"tool_rounds == 0 && user_turns == 1\"\n", "a", "b")
        + &rule("later", "", "b", "a");
    std::fs::write(&file, rules)?;
    let config = format!("[policy]\nfile = {:?}\n", file.display().to_string())
        + UPSTREAMS_ONLY
        + &backend("a", &upstream.base_url("fine"), "")
        + &backend("b", &upstream.base_url("fine"), "");
    let weir = Weir::start(&config)?;
    let mut body = json!({"model": "auto", "messages": [
        {"role": "system", "content": "You help."}, {"role": "user", "content": "what is in notes.md?"}],
        "tools": [{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}]});
    let push = |body: &mut Value, message: Value| body["messages"].as_array_mut().expect("messages").push(message);
    assert_eq!(ask(&weir, &body).await?, ("a".into(), "speaks-first".into()));
    for round in 1..4 {
        let id = format!("call-{round}");
        let call = json!({"id": id, "type": "function", "function": {"name": "read", "arguments": "{}"}});
        push(&mut body, json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        push(&mut body, json!({"role": "tool", "tool_call_id": id, "content": "three lines"}));
        let (who, reason) = ask(&weir, &body).await?;
        assert_eq!((who.as_str(), reason.as_str()), ("a", "later; a goes on until the user speaks again"));
    }
    push(&mut body, json!({"role": "assistant", "content": "Three lines."}));
    push(&mut body, json!({"role": "user", "content": "and in todo.md?"}));
    assert_eq!(ask(&weir, &body).await?, ("b".into(), "later".into()));
    // Another conversation that begins in the middle of a loop has nobody to stay with.
    let mut other = body.clone();
    other["messages"][1]["content"] = json!("something else");
    other["messages"].as_array_mut().expect("messages").truncate(4);
    assert_eq!(ask(&weir, &other).await?, ("b".into(), "later".into()));
    Ok(())
}
