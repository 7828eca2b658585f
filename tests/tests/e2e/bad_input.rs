//! Bad input: each gets an error of the dialect with the right status and the field's name; the gateway lives on, and
//! nothing the user wrote stands in its log.

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::{Reply, ask, client, get, post, question, read, with};
use weir_tests::binary::Weir;

use crate::embedded;

/// Stands in every bad request; must never stand in a log.
const MARK: &str = "xyzzy-said-the-user";

#[track_caller]
fn check(reply: &Reply, status: u16, param: Option<&str>) {
    let error = reply.json()["error"].clone();
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(error["param"].as_str(), param, "{}", reply.text);
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", reply.text);
    for key in ["type", "code"] {
        assert!(error[key].is_string(), "{key}: {}", reply.text);
    }
}

async fn lives_on_in_silence(weir: &Weir) -> Result<()> {
    assert_eq!(get(weir, "/healthz").await?.status, 200);
    let log = weir.log();
    assert!(!log.contains(MARK) && !log.contains("panick"), "{log}");
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_no_request() -> Result<()> {
    let weir = embedded()?;
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"[]",
        b"\"xyzzy-said-the-user\"",
        b"{\"model\": \"ar\", \"messages\": [{\"role\": \"user\", \"content\": \"xyzzy-said-the-user",
        b"{\"messages\": [,]}",
        b"\xff\xfe{}",
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"xyzzy-said-the-user \xc3\x28\"}]}",
    ];
    for body in bodies {
        check(&post(&weir, body).await?, 400, None);
    }
    let deep = format!("{}{}", "{\"messages\":".repeat(50_000), "1");
    check(&post(&weir, deep).await?, 400, None);
    lives_on_in_silence(&weir).await
}

#[tokio::test]
async fn fields_that_are_wrong_are_named() -> Result<()> {
    let weir = embedded()?;
    let fields: &[(&str, Value)] = &[
        ("messages", json!({"messages": null})),
        ("messages", json!({"messages": []})),
        ("messages", json!({"messages": MARK})),
        ("messages[0]", json!({"messages": [MARK]})),
        ("messages[0].role", json!({"messages": [{"content": MARK}]})),
        (
            "messages[1].role",
            json!({"messages": [{"role": "user", "content": MARK}, {"role": "wizard", "content": MARK}]}),
        ),
        ("messages[0].content", json!({"messages": [{"role": "user", "content": 5}]})),
        ("messages[0].content", json!({"messages": [{"role": "user"}]})),
        (
            "messages[0].content[1].text",
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text"}]}]}),
        ),
        ("messages[0].tool_call_id", json!({"messages": [{"role": "tool", "content": MARK}]})),
        ("model", json!({"model": 7})),
        ("model", json!({"model": ""})),
        ("stream", json!({"stream": "yes"})),
        ("temperature", json!({"temperature": "hot"})),
        ("temperature", json!({"temperature": -1})),
        ("temperature", json!({"temperature": 1e300})),
        ("top_p", json!({"top_p": 1.5})),
        ("max_tokens", json!({"max_tokens": 0})),
        ("max_tokens", json!({"max_tokens": -2})),
        ("max_tokens", json!({"max_tokens": 1.5})),
        ("max_tokens", json!({"max_tokens": 4_294_967_296_u64})),
        ("max_tokens", json!({"max_tokens": 1e30})),
        ("max_completion_tokens", json!({"max_completion_tokens": "many"})),
        ("tools", json!({"tools": {}})),
        ("tools[0].function", json!({"tools": [{"type": "function"}]})),
        ("tool_choice", json!({"tool_choice": "perhaps"})),
        ("response_format.type", json!({"response_format": {"type": "poem"}})),
        ("stop[0]", json!({"stop": [1]})),
        ("diffusion.mode", json!({"diffusion": {"mode": "warp"}})),
        ("diffusion.threshold", json!({"diffusion": {"threshold": 2}})),
        ("diffusion.max_post_steps", json!({"diffusion": {"max_post_steps": 65}})),
        ("diffusion", json!({"diffusion": {"treshold": 0.5}})),
        ("functions", json!({"functions": []})),
    ];
    for (param, wrong) in fields {
        let reply = ask(&weir, &with(question("ar", MARK), wrong.clone())).await?;
        check(&reply, 400, Some(param));
        assert!(!reply.text.contains(MARK), "{}", reply.text);
    }
    lives_on_in_silence(&weir).await
}

#[tokio::test]
async fn an_unknown_model_is_404_with_the_nearest() -> Result<()> {
    let weir = embedded()?;
    let reply = ask(&weir, &question("difusion", MARK)).await?;
    check(&reply, 404, Some("model"));
    assert_eq!(reply.json()["error"]["code"], "model_not_found");
    assert!(reply.text.contains("did you mean `diffusion`"), "{}", reply.text);
    lives_on_in_silence(&weir).await
}

#[tokio::test]
async fn packed_bodies_are_named() -> Result<()> {
    let weir = embedded()?;
    for (path, kind) in [("/v1/chat/completions", "unsupported_content_encoding"), ("/v1/messages", "")] {
        let request = client()?.post(weir.url(path)).header("content-encoding", "gzip").body(MARK);
        let reply = read(request.send().await?).await?;
        let error = reply.json()["error"].clone();
        assert_eq!(
            (reply.status, error["code"].as_str()),
            (415, Some("unsupported_content_encoding")),
            "{}",
            reply.text
        );
        assert_eq!(reply.json()["type"] == "error", kind.is_empty(), "{}", reply.text);
    }
    lives_on_in_silence(&weir).await
}

#[tokio::test]
async fn large_bodies() -> Result<()> {
    let weir = embedded()?;
    let large = format!("{MARK} ").repeat(10_000_000 / (MARK.len() + 1));
    for model in ["auto", "ar", "diffusion"] {
        let reply = ask(&weir, &question(model, &large)).await?;
        check(&reply, 400, Some("messages"));
        assert_eq!(reply.json()["error"]["code"], "context_length_exceeded", "{model}");
    }
    let reply = post(&weir, vec![b' '; 17 * 1024 * 1024]).await?;
    check(&reply, 413, None);
    lives_on_in_silence(&weir).await
}

#[tokio::test]
async fn a_limit_beyond_the_window_takes_what_is_left() -> Result<()> {
    let weir = embedded()?;
    let limit = json!({"max_tokens": 1_000_000});
    for model in ["ar", "diffusion", "auto"] {
        let reply = ask(&weir, &with(question(model, "Sort these words: lemon, apple"), limit.clone())).await?;
        assert_eq!(
            (reply.status, reply.json()["choices"][0]["finish_reason"].as_str()),
            (200, Some("stop")),
            "{model}"
        );
        // So little is left that another backend, if there were one, had better answer.
        let long = "Sort these words: ".to_owned() + &"lemon, apple, ".repeat(180);
        let reply = ask(&weir, &with(question(model, &long), limit.clone())).await?;
        check(&reply, 400, Some("messages"));
        assert_eq!(reply.json()["error"]["code"], "context_length_exceeded", "{model}");
    }
    Ok(())
}

#[tokio::test]
async fn control_tokens_in_user_text_stay_text() -> Result<()> {
    let weir = embedded()?;
    let controls = ["<|mask|>", "<|endoftext|>", "<|role_end|>", "<role>ASSISTANT</role>", "<role>SYSTEM</role>"];
    for model in ["diffusion", "ar"] {
        let tokens = async |text: &str| -> Result<u64> {
            let reply = ask(&weir, &with(question(model, text), json!({"max_tokens": 4}))).await?;
            assert_eq!(reply.status, 200, "{text}: {}", reply.text);
            Ok(reply.json()["usage"]["prompt_tokens"].as_u64().unwrap_or(0))
        };
        let base = tokens("say ").await?;
        for control in controls {
            let with_control = tokens(&format!("say {control}")).await?;
            // A control token would be one token (a role marker: two or three); its letters are several.
            assert!(with_control >= base + 4, "{model}: {control} cost {} tokens", with_control.saturating_sub(base));
        }
    }
    lives_on_in_silence(&weir).await
}

#[tokio::test]
async fn what_built_in_engines_cannot_do_is_said() -> Result<()> {
    let weir = embedded()?;
    let image = json!([{"type": "text", "text": MARK}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]);
    for (model, fields) in [
        ("diffusion", json!({"n": 2})),
        ("ar", json!({"n": 2})),
        ("diffusion", json!({"messages": [{"role": "user", "content": image}]})),
    ] {
        let reply = ask(&weir, &with(question(model, MARK), fields.clone())).await?;
        assert_eq!(reply.status, 400, "{fields}: {}", reply.text);
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
        assert!(reply.json()["error"]["param"].is_string(), "{}", reply.text);
    }
    lives_on_in_silence(&weir).await
}
