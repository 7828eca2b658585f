//! The caller and the upstream speak the same dialect: what the upstream says comes through as it said it, fields and
//! events that nobody here knows too, apart from what the gateway owns.

use anyhow::Result;
use serde_json::{Value, json};
use tokio::net::TcpListener;
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

/// The base URL of an upstream that says this, whatever it is asked.
async fn saying(events: String) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let answer = move || async move { ([("content-type", "text/event-stream")], events) };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    Ok(url)
}

/// Answers that say nothing but what only their dialect has a word for, longer than what is kept of an answer that has
/// not begun.
fn own_words(dialect: Dialect) -> String {
    let long = "A".repeat(300_000);
    let named = |events: &[Value]| -> String {
        let numbered = events
            .iter()
            .enumerate()
            .map(|(at, event)| weir_tests::asking::with(event.clone(), json!({"sequence_number": at})));
        numbered
            .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
            .collect()
    };
    match dialect {
        Dialect::Responses => {
            let item = json!({"type": "image_generation_call", "id": "i", "status": "completed", "result": long});
            let patch =
                json!({"type": "custom_tool_call", "id": "t", "call_id": "c", "name": "patch", "input": "x_up"});
            named(&[
                json!({"type": "response.created", "response": {"id": "r", "model": "m", "status": "in_progress"}}),
                json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "image_generation_call", "id": "i"}}),
                json!({"type": "response.image_generation_call.partial_image", "output_index": 0, "partial_image_b64": long}),
                json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
                json!({"type": "response.output_item.added", "output_index": 1, "item": patch}),
                json!({"type": "response.custom_tool_call_input.delta", "output_index": 1, "delta": "x_up"}),
                json!({"type": "response.output_item.done", "output_index": 1, "item": patch}),
                json!({"type": "response.completed", "response": {"id": "r", "model": "m", "status": "completed", "output": [item, patch]}}),
            ])
        }
        Dialect::Messages => named(&[
            json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"q\":\"x_up\"}"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "web_search_tool_result", "content": [{"encrypted_content": long}]}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "message_delta", "delta": {"stop_reason": "pause_turn"}, "usage": {"output_tokens": 1}}),
            json!({"type": "message_stop"}),
        ]),
        _ => {
            let chunk = |delta: Value, reason: Value| {
                let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
                format!(
                    "data: {}\n\n",
                    json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})
                )
            };
            let image = chunk(json!({"images": [{"type": "image_url", "image_url": {"url": long}}]}), Value::Null);
            let call = json!([{"index": 0, "id": "c", "type": "custom", "custom": {"name": "patch", "input": "x_up"}}]);
            image
                + &chunk(json!({"tool_calls": call}), Value::Null)
                + &chunk(json!({}), json!("tool_calls"))
                + "data: [DONE]\n\n"
        }
    }
}

#[tokio::test]
async fn an_answer_in_its_dialects_own_words_is_not_empty_and_loses_nothing() -> Result<()> {
    let other = FaultUpstream::start().await?;
    for (dialect, kind) in SAME {
        let told = own_words(dialect);
        let mut config = "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n".to_owned();
        for (name, url) in [("own", saying(told.clone()).await?), ("other", other.base_url("fine"))] {
            config.push_str(&format!(
                "[[backend]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{url}\"\nmodel = \"m\"\n"
            ));
        }
        let weir = Weir::start(&config)?;
        let streamed = ask_at(&weir, dialect.path(), &dialect.question("own", "hi", true)).await?;
        assert!(streamed.text == told, "{kind}: {}", &streamed.text[..streamed.text.len().min(2000)]);
        let whole = ask_at(&weir, dialect.path(), &dialect.question("own", "hi", false)).await?;
        assert!(whole.status == 200 && whole.text.len() > 300_000 && whole.text.contains("x_up"), "{kind}");
    }
    assert_eq!(other.seen().len(), 0, "nobody else is asked");
    Ok(())
}

/// Weir's own ids mean the Weir that is asked, in front and behind.
#[tokio::test]
async fn one_weir_asks_another_for_its_own_choice() -> Result<()> {
    let behind = Weir::start("")?;
    let asks = |name: &str, model: &str| {
        let url = behind.url("/v1");
        format!("[[backend]]\nname = \"{name}\"\nbase_url = \"{url}\"\nmodel = \"{model}\"\n")
    };
    let config = "[engine.diffusion]\nenabled = false\n".to_owned() + &asks("far", "auto") + &asks("dllm", "diffusion");
    let weir = Weir::start(&config)?;
    let ask = |model: &'static str| {
        let body = Dialect::Chat.question(model, "Sort these words: lemon, apple, mirror", false);
        let weir = &weir;
        async move { ask_at(weir, Dialect::Chat.path(), &body).await }
    };
    for (model, backend, answers) in [
        ("auto", "far", "weir-nano-diffusion"),
        ("far", "far", "weir-nano-diffusion"),
        ("dllm", "dllm", "weir-nano-diffusion"),
    ] {
        let reply = ask(model).await?;
        assert_eq!((reply.status, reply.header("x-weir-backend")), (200, backend), "{model}: {}", reply.text);
        assert_eq!(reply.json()["model"], answers, "{model}");
    }
    let listed = weir_tests::asking::get(&weir, "/v1/models").await?.json();
    let ids: Vec<&str> = listed["data"].as_array().into_iter().flatten().filter_map(|one| one["id"].as_str()).collect();
    assert_eq!(ids, ["auto", "ar", "weir-nano-ar", "far", "dllm"]);
    Ok(())
}
