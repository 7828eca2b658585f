//! What an upstream is asked where the caller speaks its dialect, and where it does not: demands keep their meaning, and
//! what only one side knows comes through or is left out knowingly.

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::{ask_at, client, read};
use weir_tests::binary::Weir;
use weir_tests::dialects::Dialect;
use weir_tests::fault_upstream::FaultUpstream;

fn gateway(upstream: &FaultUpstream) -> Result<Weir> {
    gateway_with(upstream, "")
}

fn gateway_with(upstream: &FaultUpstream, more: &str) -> Result<Weir> {
    let mut config = format!("{more}[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n");
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
async fn demands_on_tools_and_forms_are_as_strict_as_the_caller_made_them() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream)?;
    let schema = json!({"type": "object"});
    for strict in [true, false] {
        let named = json!({"name": "thing", "schema": schema, "strict": strict});
        let function = json!({"name": "look", "parameters": schema, "strict": strict});
        let chat = |model: &str| {
            json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "service_tier": "flex", "user": "u",
                "tools": [{"type": "function", "function": function}],
                "response_format": {"type": "json_schema", "json_schema": named}})
        };
        let sent = asked(&weir, &upstream, Dialect::Chat, &chat("openai-responses")).await?;
        assert_eq!((&sent["tools"][0]["strict"], &sent["text"]["format"]["strict"]), (&json!(strict), &json!(strict)));
        assert_eq!((&sent["text"]["format"]["name"], &sent["service_tier"]), (&json!("thing"), &json!("flex")));
        let sent = asked(&weir, &upstream, Dialect::Chat, &chat("anthropic")).await?;
        assert_eq!(sent["tools"][0].get("strict"), strict.then_some(&json!(true)));
        let mut format = named.clone();
        format["type"] = json!("json_schema");
        let responses = json!({"model": "openai-chat", "input": "hi", "service_tier": "flex", "prompt_cache_key": "k",
            "tools": [{"type": "function", "name": "look", "parameters": schema, "strict": strict}], "text": {"format": format}});
        let sent = asked(&weir, &upstream, Dialect::Responses, &responses).await?;
        assert_eq!(sent["response_format"]["json_schema"], named);
        assert_eq!(sent["tools"][0]["function"].get("strict"), strict.then_some(&json!(true)));
        assert_eq!((&sent["service_tier"], sent.get("prompt_cache_key")), (&json!("flex"), None));
    }
    Ok(())
}

#[tokio::test]
async fn tools_that_only_a_server_runs_go_where_one_does_or_are_left_out_beside_functions() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let policy = tempfile::NamedTempFile::with_suffix(".toml")?;
    let order = "[{ backend = \"openai-chat\" }, { backend = \"openai-responses\" }]";
    let rule = format!("[[rule]]\nname = \"all\"\nroute = \"ar\"\nreason = \"test\"\nattempts = {order}\n");
    std::fs::write(policy.path(), format!("[pins]\nfallback = {order}\n\n{rule}"))?;
    let weir = gateway_with(&upstream, &format!("[policy]\nfile = {:?}\n", policy.path().display().to_string()))?;
    let function = json!({"type": "function", "name": "look", "parameters": {"type": "object"}});
    let group = json!({"type": "namespace", "name": "agents", "description": "d", "tools": [function]});
    let search = json!({"type": "web_search"});
    let body = |model: &str, tools: Value, choice: &str| {
        let (path, body) =
            ("/v1/responses", json!({"model": model, "input": "hi", "tools": tools, "tool_choice": choice}));
        let weir = &weir;
        async move { ask_at(weir, path, &body).await }
    };
    let names = |tools: &Value| {
        let tools = tools.as_array().into_iter().flatten();
        tools.map(|tool| tool["function"]["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    // Who was named does without them.
    let reply = body("openai-chat", json!([function, group, search]), "auto").await?;
    assert_eq!((reply.status, reply.header("x-weir-left-out")), (200, "tools"), "{}", reply.text);
    let seen = upstream.seen().last().map(|seen| seen.body.clone()).unwrap_or_default();
    assert_eq!(names(&seen["tools"]), ["look", "agents__look"]);
    // Who runs them goes first, and gets the caller's own words.
    let reply = body("auto", json!([function, search]), "auto").await?;
    assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "openai-responses"), "{}", reply.text);
    assert_eq!(reply.header("x-weir-left-out"), "");
    let seen = upstream.seen().last().map(|seen| seen.body.clone()).unwrap_or_default();
    assert_eq!(seen["tools"], json!([function, search]));
    let reply = body("auto", json!([function]), "auto").await?;
    assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "openai-chat"), "nothing to run");
    // What is demanded, or all there is, is not left out: whoever was named cannot, and another stands in.
    for (tools, choice) in [(json!([search]), "auto"), (json!([function, search]), "required")] {
        let reply = body("openai-chat", tools, choice).await?;
        assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "openai-responses"), "{}", reply.text);
    }
    Ok(())
}

#[tokio::test]
async fn texts_that_stand_apart_do_not_run_into_each_other() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream)?;
    let text = |text: &str| json!({"type": "text", "text": text});
    let body = json!({"model": "openai-chat", "max_tokens": 9, "system": [text("one"), text("two")], "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "ls", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [text("a.txt"), text("b.txt\n"), text("c")]}]}]});
    let sent = asked(&weir, &upstream, Dialect::Messages, &body).await?;
    assert_eq!(sent["messages"][0]["content"], "one\ntwo");
    assert_eq!(sent["messages"][3]["content"], "a.txt\nb.txt\nc");
    Ok(())
}

#[tokio::test]
async fn betas_reach_an_upstream_of_the_same_dialect_only() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = gateway(&upstream)?;
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
    let weir = gateway(&upstream)?;
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
