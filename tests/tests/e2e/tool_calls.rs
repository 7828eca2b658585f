//! Tool calls come out as tool calls, never as text, with arguments that are JSON.

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::{Reply, ask, question, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::{FaultUpstream, TOOL_ARGUMENTS};

use crate::{backend, embedded};

fn household() -> Value {
    let tool = |name: &str, about: &str, properties: Value| {
        let parameters = json!({"type": "object", "properties": properties});
        json!({"type": "function", "function": {"name": name, "description": about, "parameters": parameters}})
    };
    json!([
        tool("set_timer", "Start a countdown.", json!({"minutes": {"type": "integer"}})),
        tool(
            "set_light",
            "Switch the lights of a room on or off.",
            json!({"room": {"type": "string"}, "on": {"type": "boolean"}})
        ),
    ])
}

fn lights(model: &str) -> Value {
    with(question(model, "turn off the kitchen lights"), json!({"tools": household(), "temperature": 0}))
}

/// The calls of either form of answer: id, name, arguments.
fn calls(reply: &Reply, streamed: bool) -> Vec<(String, String, String)> {
    if streamed {
        return reply.frames().calls();
    }
    let answer = reply.json();
    let calls = answer["choices"][0]["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let function =
        |call: &Value| (text(&call["id"]), text(&call["function"]["name"]), text(&call["function"]["arguments"]));
    calls.iter().map(function).collect()
}

#[tokio::test]
async fn a_needed_call_comes_out_as_one() -> Result<()> {
    let weir = embedded()?;
    for model in ["auto", "diffusion", "ar"] {
        for stream in [false, true] {
            let reply = ask(&weir, &with(lights(model), json!({"stream": stream}))).await?;
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert!(!reply.text.contains("tool_call>"), "{model}: the model's own notation leaked: {}", reply.text);
            let calls = calls(&reply, stream);
            assert_eq!(calls.len(), 1, "{model}, stream {stream}: {}", reply.text);
            let (id, name, arguments) = &calls[0];
            assert!(!id.is_empty());
            assert_eq!(name, "set_light", "{model}");
            let arguments: Value = serde_json::from_str(arguments)?;
            assert!(arguments["room"].is_string() && arguments["on"].is_boolean(), "{model}: {arguments}");
            assert_eq!(arguments.as_object().map(|map| map.len()), Some(2), "{model}: {arguments}");
            if stream {
                let frames = reply.frames();
                assert!(frames.is_complete());
                assert_eq!(frames.finish_reasons(), ["tool_calls"]);
            } else {
                let choice = &reply.json()["choices"][0];
                assert_eq!(choice["finish_reason"], "tool_calls");
                assert!(choice["message"]["content"].is_null(), "{choice}");
            }
        }
    }
    Ok(())
}

/// The only test that depends on how well the shipped models are trained.
#[tokio::test]
async fn the_embedded_models_turn_off_the_kitchen_lights() -> Result<()> {
    let weir = embedded()?;
    for model in ["auto", "diffusion", "ar"] {
        let reply = ask(&weir, &lights(model)).await?;
        let calls = calls(&reply, false);
        let arguments: Value = serde_json::from_str(calls.first().map_or("null", |call| &call.2))?;
        assert_eq!(arguments, json!({"room": "kitchen", "on": false}), "{model}");
    }
    Ok(())
}

#[tokio::test]
async fn auto_sends_a_needed_call_to_diffusion() -> Result<()> {
    let weir = embedded()?;
    let reply = ask(&weir, &lights("auto")).await?;
    assert_eq!((reply.header("x-weir-route"), reply.header("x-weir-backend")), ("diffusion", "diffusion"));
    Ok(())
}

#[tokio::test]
async fn a_choice_of_none_is_kept() -> Result<()> {
    let weir = embedded()?;
    for model in ["diffusion", "ar"] {
        let reply = ask(&weir, &with(lights(model), json!({"tool_choice": "none", "max_tokens": 48}))).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(calls(&reply, false).is_empty(), "{model}: {}", reply.text);
    }
    Ok(())
}

#[tokio::test]
async fn an_upstreams_calls_come_through() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&backend("cloud", &upstream.base_url("tools")))?;
    for stream in [false, true] {
        let reply = ask(&weir, &with(lights("cloud"), json!({"stream": stream}))).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let expected = ("call_up1".to_owned(), "set_light".to_owned(), TOOL_ARGUMENTS.to_owned());
        assert_eq!(calls(&reply, stream), [expected]);
    }
    assert!(upstream.seen().iter().all(|seen| seen.body["tools"] == household()), "tools go upstream untouched");
    Ok(())
}
