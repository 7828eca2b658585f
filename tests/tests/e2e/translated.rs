//! What an upstream is asked where the caller speaks its dialect, and where it does not: demands keep their meaning, and
//! what only one side knows comes through or is left out knowingly.

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::{ask_at, client, read};
use weir_tests::binary::Weir;
use weir_tests::dialects::Dialect;
use weir_tests::fault_upstream::FaultUpstream;

async fn gateway(upstream: &FaultUpstream) -> Result<Weir> {
    let mut config = "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n".to_owned();
    for kind in ["openai-chat", "openai-responses", "anthropic"] {
        let url = upstream.base_url("fine");
        config.push_str(&format!(
            "[[backend]]\nname = \"{kind}\"\nkind = \"{kind}\"\nbase_url = \"{url}\"\nmodel = \"m\"\ncontext_tokens = 32768\n"
        ));
    }
    Weir::start(&config)
}

/// What the upstream was asked for `body`.
async fn asked(weir: &Weir, upstream: &FaultUpstream, dialect: Dialect, body: &Value) -> Result<Value> {
    let reply = ask_at(weir, dialect.path(), body).await?;
    anyhow::ensure!(reply.status == 200, "{}", reply.text);
    Ok(upstream.seen().last().map(|seen| seen.body.clone()).unwrap_or_default())
}

#[tokio::test]
async fn betas_reach_an_upstream_of_the_same_dialect_only() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream).await?;
    for (kind, expect) in [("anthropic", "context-1m-2025-08-07,x-2026"), ("openai-chat", "")] {
        let body = Dialect::Messages.question(kind, "hi", false).to_string();
        let request = client()?.post(weir.url("/v1/messages?beta=true")).header("content-type", "application/json");
        let request = request.header("anthropic-beta", "context-1m-2025-08-07").header("anthropic-beta", "x-2026");
        let reply = read(request.body(body).send().await?).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(
            upstream.seen().last().map(|seen| seen.header("anthropic-beta").to_owned()).as_deref(),
            Some(expect)
        );
    }
    Ok(())
}

#[tokio::test]
async fn thinking_of_another_kind_of_backend_is_not_sent_to_one_that_would_refuse_it() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream).await?;
    let thought = |signature: &str| json!({"type": "thinking", "thinking": "hm", "signature": signature});
    let said = json!({"type": "text", "text": "so"});
    let body = json!({"model": "anthropic", "max_tokens": null, "messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": [thought("weir"), said]},
        {"role": "user", "content": "and"}, {"role": "assistant", "content": [thought("theirs"), said]},
        {"role": "user", "content": "go"}]});
    let asked = asked(&weir, &upstream, Dialect::Messages, &body).await?;
    assert_eq!(asked["messages"][1]["content"], json!([said]));
    assert_eq!(asked["messages"][3]["content"], json!([thought("theirs"), said]));
    assert!(asked["max_tokens"].is_u64(), "{asked}");
    Ok(())
}
