//! The same gateway in each caller's own words: Anthropic messages, OpenAI responses, OpenAI completions. What a stream
//! may look like is `gateway/src/api`'s own tests' business; here it is the whole house that speaks.

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::{Reply, ask_at, get, post_to, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::{ANSWER, ANSWERING_MODEL, FaultUpstream, TOOL_ARGUMENTS};

use crate::{backend, embedded};

const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const COMPLETIONS: &str = "/v1/completions";
const SORT: &str = "Sort these words: lemon, apple, mirror";
const LIGHTS: &str = "turn off the kitchen lights";

/// What is asked in each of the two dialects of conversations.
fn asked(path: &str, model: &str, text: &str) -> Value {
    match path {
        MESSAGES => json!({"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": text}]}),
        _ => json!({"model": model, "max_output_tokens": 64, "input": text}),
    }
}

fn household(path: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}}});
    let about = "Switch the lights of a room on or off.";
    match path {
        MESSAGES => json!([{"name": "set_light", "description": about, "input_schema": schema}]),
        _ => json!([{"type": "function", "name": "set_light", "description": about, "parameters": schema}]),
    }
}

/// Text, calls (name, arguments) and why it ended, of a whole answer or of a stream's own last word on it.
#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    calls: Vec<(String, Value)>,
    end: String,
    tokens: (u64, u64),
}

fn said(path: &str, reply: &Reply, streamed: bool) -> Said {
    match (path, streamed) {
        (MESSAGES, false) => message(&reply.json()),
        (MESSAGES, true) => message(&gathered(reply)),
        (_, false) => response(&reply.json()),
        (_, true) => {
            let frames = reply.named_frames();
            let (name, last) = frames.last();
            assert!(frames.strange.is_empty() && name.starts_with("response."), "{}", reply.text);
            let said = response(&last["response"]);
            let deltas = frames.all("response.output_text.delta");
            let text: String = deltas.iter().filter_map(|delta| delta["delta"].as_str()).collect();
            assert_eq!(text, said.text, "the deltas are the text");
            said
        }
    }
}

fn message(body: &Value) -> Said {
    assert_eq!((&body["type"], &body["role"]), (&json!("message"), &json!("assistant")), "{body}");
    let blocks = || body["content"].as_array().into_iter().flatten();
    let calls = blocks().filter(|block| block["type"] == "tool_use");
    Said {
        text: blocks().filter_map(|block| block["text"].as_str()).collect(),
        calls: calls.map(|call| (text(&call["name"]), call["input"].clone())).collect(),
        end: text(&body["stop_reason"]),
        tokens: tokens(&body["usage"]),
    }
}

fn response(body: &Value) -> Said {
    assert_eq!(body["object"], "response", "{body}");
    let items = || body["output"].as_array().into_iter().flatten();
    let parts = items().filter_map(|item| item["content"].as_array()).flatten();
    let calls = items().filter(|item| item["type"] == "function_call");
    let arguments = |call: &Value| serde_json::from_str(&text(&call["arguments"])).unwrap_or_default();
    Said {
        text: parts.filter_map(|part| part["text"].as_str()).collect(),
        calls: calls.map(|call| (text(&call["name"]), arguments(call))).collect(),
        end: text(&body["status"]),
        tokens: tokens(&body["usage"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn tokens(usage: &Value) -> (u64, u64) {
    // Anthropic tells cached ones apart.
    let input = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
    (input.iter().filter_map(|key| usage[key].as_u64()).sum(), usage["output_tokens"].as_u64().unwrap_or(0))
}

/// A stream of messages put together as Anthropic's clients do it.
fn gathered(reply: &Reply) -> Value {
    let frames = reply.named_frames();
    assert!(frames.strange.is_empty(), "{}", reply.text);
    let mut body = frames.all("message_start")[0]["message"].clone();
    let mut blocks: Vec<Value> = Vec::new();
    let mut json_text = String::new();
    for (name, data) in &frames.events {
        match name.as_str() {
            "content_block_start" => {
                json_text.clear();
                blocks.push(data["content_block"].clone());
            }
            "content_block_delta" => {
                let (at, delta) = (data["index"].as_u64().unwrap_or(99) as usize, &data["delta"]);
                assert_eq!(at + 1, blocks.len(), "deltas are of the open block");
                if let Some(more) = delta["text"].as_str() {
                    blocks[at]["text"] = json!(text(&blocks[at]["text"]) + more);
                }
                if let Some(more) = delta["partial_json"].as_str() {
                    json_text.push_str(more);
                    blocks[at]["input"] = serde_json::from_str(&json_text).unwrap_or_default();
                }
            }
            "message_delta" => {
                body["stop_reason"] = data["delta"]["stop_reason"].clone();
                body["usage"] = data["usage"].clone();
            }
            _ => {}
        }
    }
    assert_eq!(frames.last().0, "message_stop");
    body["content"] = json!(blocks);
    body
}

#[tokio::test]
async fn each_route_answers_the_same_streamed_and_whole() -> Result<()> {
    let weir = embedded()?;
    for path in [MESSAGES, RESPONSES] {
        for model in ["auto", "diffusion", "ar"] {
            let body = with(asked(path, model, SORT), json!({"temperature": 0}));
            let whole = ask_at(&weir, path, &body).await?;
            assert_eq!(whole.status, 200, "{}", whole.text);
            assert!(!whole.header("x-weir-reason").is_empty());
            let once = said(path, &whole, false);
            assert!(["end_turn", "max_tokens", "completed", "incomplete"].contains(&once.end.as_str()), "{once:?}");
            assert!(!once.text.is_empty() && once.tokens.0 > 0 && once.tokens.1 > 0, "{once:?}");
            assert_ne!(whole.json()["model"], "auto", "the model that answered, not the one asked for");
            let streamed = ask_at(&weir, path, &with(body, json!({"stream": true}))).await?;
            assert_eq!(said(path, &streamed, true), once, "{path} {model}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn calls_come_out_as_calls_and_their_results_are_understood() -> Result<()> {
    let weir = embedded()?;
    for path in [MESSAGES, RESPONSES] {
        for stream in [false, true] {
            let tools = json!({"tools": household(path), "temperature": 0, "stream": stream});
            let reply = ask_at(&weir, path, &with(asked(path, "auto", LIGHTS), tools.clone())).await?;
            let said = said(path, &reply, stream);
            assert_eq!(said.calls.len(), 1, "{}", reply.text);
            assert_eq!(said.calls[0].0, "set_light");
            assert!(said.calls[0].1["room"].is_string() && said.calls[0].1["on"].is_boolean(), "{said:?}");
            assert_eq!(said.end, if path == MESSAGES { "tool_use" } else { "completed" });
        }
    }
    let result = json!({"model": "ar", "max_tokens": 8, "tools": household(MESSAGES), "messages": [
        {"role": "user", "content": LIGHTS},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "set_light", "input": {"on": false}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "done"}]},
    ]});
    assert_eq!(ask_at(&weir, MESSAGES, &result).await?.status, 200);
    let result = json!({"model": "ar", "max_output_tokens": 8, "tools": household(RESPONSES), "input": [
        {"role": "user", "content": LIGHTS},
        {"type": "function_call", "call_id": "c1", "name": "set_light", "arguments": "{\"on\":false}"},
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
    ]});
    assert_eq!(ask_at(&weir, RESPONSES, &result).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_chat_upstream_answers_in_every_dialect() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let config = backend("fine", &upstream.base_url("fine")) + &backend("tools", &upstream.base_url("tools"));
    let weir = Weir::start(&config)?;
    for path in [MESSAGES, RESPONSES] {
        for stream in [false, true] {
            let reply = ask_at(&weir, path, &with(asked(path, "fine", "hi"), json!({"stream": stream}))).await?;
            assert_eq!(reply.header("x-weir-backend"), "fine", "{}", reply.text);
            let fine = said(path, &reply, stream);
            assert_eq!((fine.text.as_str(), fine.tokens), (ANSWER, (11, 7)));
            assert!(reply.text.contains(ANSWERING_MODEL));
            let tools = json!({"tools": household(path), "stream": stream});
            let reply = ask_at(&weir, path, &with(asked(path, "tools", LIGHTS), tools)).await?;
            let arguments: Value = serde_json::from_str(TOOL_ARGUMENTS)?;
            assert_eq!(said(path, &reply, stream).calls, [("set_light".to_owned(), arguments)], "{}", reply.text);
        }
    }
    let text = ask_at(&weir, COMPLETIONS, &json!({"model": "fine", "prompt": "hi"})).await?.json();
    assert_eq!(text["choices"][0]["text"], ANSWER);
    for seen in upstream.seen() {
        let turn = &seen.body["messages"][0];
        assert_eq!(turn["role"], "user", "the upstream got its own dialect: {}", seen.body);
        assert!(seen.body["input"].is_null() && seen.body["prompt"].is_null(), "{}", seen.body);
    }
    Ok(())
}

#[tokio::test]
async fn images_go_to_whom_can_see_them() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&(backend("eyes", &upstream.base_url("fine")) + "takes_images = true\n"))?;
    let data = "iVBORw0KGgo=";
    let seen = json!({"model": "auto", "max_tokens": 8, "messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
    ]}]});
    assert_eq!(ask_at(&weir, MESSAGES, &seen).await?.header("x-weir-backend"), "eyes");
    let url = format!("data:image/png;base64,{data}");
    let seen = json!({"model": "auto", "input": [{"role": "user", "content": [
        {"type": "input_text", "text": "what is this?"},
        {"type": "input_image", "image_url": url},
    ]}]});
    assert_eq!(ask_at(&weir, RESPONSES, &seen).await?.header("x-weir-backend"), "eyes");
    for seen in upstream.seen() {
        let images = seen.body["messages"][0]["content"].to_string();
        assert!(images.contains("image_url") && images.contains(&url), "{images}");
    }
    Ok(())
}

#[tokio::test]
async fn what_breaks_off_is_an_error_in_the_callers_words() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&backend("cut", &upstream.base_url("cut-700")))?;
    let stream = json!({"stream": true});
    let reply = ask_at(&weir, MESSAGES, &with(asked(MESSAGES, "cut", "hi"), stream.clone())).await?;
    let frames = reply.named_frames();
    let (name, last) = frames.last();
    assert_eq!((name, &last["error"]["type"]), ("error", &json!("api_error")), "{}", reply.text);
    assert!(!frames.all("content_block_delta").is_empty() && frames.all("message_delta").is_empty());
    let reply = ask_at(&weir, RESPONSES, &with(asked(RESPONSES, "cut", "hi"), stream.clone())).await?;
    let frames = reply.named_frames();
    assert_eq!(frames.last().0, "response.failed", "{}", reply.text);
    assert_eq!((frames.all("error").len(), frames.all("response.completed").len()), (1, 0));
    let body = with(json!({"model": "cut", "prompt": "hi"}), stream);
    let reply = ask_at(&weir, COMPLETIONS, &body).await?;
    assert!(reply.frames().is_broken_off(), "{}", reply.text);
    Ok(())
}

#[tokio::test]
async fn refusals_have_the_shape_of_their_path() -> Result<()> {
    let weir = Weir::start("[server]\nmax_body_bytes = 2000\n")?;
    let anthropic = |reply: &Reply, status: u16, kind: &str| {
        assert_eq!(reply.status, status, "{}", reply.text);
        let body = reply.json();
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)), "{body}");
    };
    let unknown = ask_at(&weir, MESSAGES, &asked(MESSAGES, "nobody", "hi")).await?;
    anthropic(&unknown, 404, "not_found_error");
    assert!(!unknown.header("request-id").is_empty() && unknown.header("request-id") == unknown.header("x-request-id"));
    anthropic(&ask_at(&weir, MESSAGES, &json!({"messages": []})).await?, 400, "invalid_request_error");
    anthropic(&post_to(&weir, MESSAGES, "x".repeat(3000)).await?, 413, "request_too_large");
    anthropic(&get(&weir, MESSAGES).await?, 405, "invalid_request_error");
    anthropic(&get(&weir, "/v1/messages/batches").await?, 404, "not_found_error");
    let openai = |reply: &Reply, status: u16, param: Value| {
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (status, &param), "{}", reply.text);
    };
    openai(&ask_at(&weir, RESPONSES, &asked(RESPONSES, "nobody", "hi")).await?, 404, json!("model"));
    let stored = with(asked(RESPONSES, "ar", "hi"), json!({"previous_response_id": "resp_1"}));
    openai(&ask_at(&weir, RESPONSES, &stored).await?, 400, json!("previous_response_id"));
    openai(&ask_at(&weir, COMPLETIONS, &json!({"prompt": [1, 2]})).await?, 400, json!("prompt"));
    openai(&post_to(&weir, RESPONSES, "x".repeat(3000)).await?, 413, Value::Null);
    Ok(())
}

#[tokio::test]
async fn prompts_are_counted_as_answers_count_them() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&backend("cloud", &upstream.base_url("fine")))?;
    let messages = json!({"system": "Be brief.", "tools": household(MESSAGES), "tool_choice": {"type": "none"}});
    let responses = json!({"instructions": "Be brief.", "tools": household(RESPONSES), "tool_choice": "none"});
    for (path, count, more, object) in [
        (MESSAGES, "/v1/messages/count_tokens", messages, None),
        (RESPONSES, "/v1/responses/input_tokens", responses, Some("response.input_tokens")),
    ] {
        for model in ["diffusion", "ar"] {
            let body = with(asked(path, model, SORT), more.clone());
            let counted = ask_at(&weir, count, &body).await?.json();
            let answer = ask_at(&weir, path, &body).await?;
            assert_eq!(counted["input_tokens"].as_u64(), Some(said(path, &answer, false).tokens.0), "{model}");
            assert!(counted.get("weir").is_none(), "counted, not estimated");
            assert_eq!(counted["object"].as_str(), object);
        }
        let roughly = ask_at(&weir, count, &asked(path, "cloud", SORT)).await?.json();
        assert_eq!(roughly["weir"]["estimated"], true, "{roughly}");
        assert!(roughly["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0));
        assert!(upstream.seen().is_empty(), "nobody was asked");
        assert_eq!(ask_at(&weir, count, &asked(path, "nobody", SORT)).await?.status, 404);
    }
    Ok(())
}

#[tokio::test]
async fn a_text_is_gone_on_with_or_filled() -> Result<()> {
    let weir = embedded()?;
    for model in ["diffusion", "ar"] {
        // The nano models know no bare text and would end at once.
        let body = json!({
            "model": model, "prompt": "one, two, three,", "max_tokens": 12, "min_tokens": 4, "temperature": 0,
        });
        let whole = ask_at(&weir, COMPLETIONS, &body).await?;
        assert_eq!(whole.status, 200, "{}", whole.text);
        let whole = whole.json();
        assert_eq!(whole["object"], "text_completion");
        // Bare: the prompt's own tokens and no template around them.
        let bare = whole["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
        let gap = ask_at(&weir, COMPLETIONS, &with(body.clone(), json!({"suffix": " five"}))).await?.json();
        assert!(bare > 0 && bare < gap["usage"]["prompt_tokens"].as_u64().unwrap_or(0), "{whole} {gap}");
        let streamed = ask_at(&weir, COMPLETIONS, &with(body.clone(), json!({"stream": true}))).await?.frames();
        assert_eq!((streamed.finish_reasons().len(), streamed.done, streamed.errors().len()), (1, 1, 0));
        let choices = streamed.chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str());
        assert_eq!(Some(choices.collect::<String>().as_str()), whole["choices"][0]["text"].as_str());
        let echoed = ask_at(&weir, COMPLETIONS, &with(body, json!({"echo": true, "logprobs": null}))).await?.json();
        assert!(text(&echoed["choices"][0]["text"]).starts_with("one, two, three,"), "{echoed}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stop_text_is_named_and_drafts_come_in_every_dialect() -> Result<()> {
    let weir = embedded()?;
    let body = with(asked(MESSAGES, "diffusion", SORT), json!({"temperature": 0}));
    let plain = said(MESSAGES, &ask_at(&weir, MESSAGES, &body).await?, false).text;
    let stop = plain.chars().nth(plain.chars().count() / 2).map(String::from).unwrap_or_default();
    let stopped = ask_at(&weir, MESSAGES, &with(body.clone(), json!({"stop_sequences": [stop]}))).await?.json();
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(stop)));
    let drafts = json!({"stream": true, "diffusion": {"drafts": true}});
    let reply = ask_at(&weir, MESSAGES, &with(body, drafts.clone())).await?;
    assert!(!reply.named_frames().all("weir.draft").is_empty() && said(MESSAGES, &reply, true).text == plain);
    let reply = ask_at(&weir, RESPONSES, &with(asked(RESPONSES, "diffusion", SORT), drafts)).await?;
    assert!(!reply.named_frames().all("weir.draft").is_empty(), "{}", reply.text);
    Ok(())
}
