//! The main job: a request is routed, answered and described truthfully, whoever answers.

use anyhow::Result;
use serde_json::json;
use weir_tests::asking::{ask, get, metrics_until, question, with};
use weir_tests::fault_upstream::{ANSWER, ANSWERING_MODEL, FaultUpstream};

use crate::{backend, embedded};

#[tokio::test]
async fn each_route_answers_and_says_who_it_was() -> Result<()> {
    let weir = embedded()?;
    for (model, backends) in [("auto", vec!["diffusion", "ar"]), ("diffusion", vec!["diffusion"]), ("ar", vec!["ar"])] {
        let body = with(question(model, "Sort these words: lemon, apple, mirror"), json!({"max_tokens": 64}));
        let reply = ask(&weir, &body).await?;
        assert_eq!(reply.status, 200, "{model}: {}", reply.text);
        let answer = reply.json();
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
        assert!(["stop", "length"].contains(&answer["choices"][0]["finish_reason"].as_str().unwrap_or_default()));
        assert_eq!(reply.header("x-weir-route"), if model == "auto" { "diffusion" } else { model });
        assert!(!reply.header("x-weir-reason").is_empty());
        assert!(backends.contains(&reply.header("x-weir-backend")), "{model}: {}", reply.header("x-weir-backend"));
        assert!(!reply.header("x-request-id").is_empty());
        let named = answer["model"].as_str().unwrap_or_default();
        assert!(!named.is_empty() && named != "auto", "the model that answered, not the one asked for: {named}");
    }
    Ok(())
}

#[tokio::test]
async fn usage_is_exact_and_the_same_in_both_forms() -> Result<()> {
    let weir = embedded()?;
    for model in ["diffusion", "ar"] {
        let body =
            with(question(model, "Reverse these words: fox, red, tea"), json!({"max_tokens": 48, "temperature": 0}));
        let whole = ask(&weir, &body).await?.json();
        let usage = &whole["usage"];
        let number = |key: &str| usage[key].as_u64().unwrap_or(0);
        assert!(number("prompt_tokens") > 0 && number("completion_tokens") > 0, "{model}: {usage}");
        assert!(number("completion_tokens") <= 48);
        assert_eq!(number("total_tokens"), number("prompt_tokens") + number("completion_tokens"));
        assert_eq!(usage["diffusion"].is_object(), model == "diffusion", "{usage}");

        let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
        let frames = ask(&weir, &with(body, asked)).await?.frames();
        assert!(frames.is_complete());
        assert_eq!(frames.text(), whole["choices"][0]["message"]["content"].as_str().unwrap_or_default());
        let streamed = frames.usages();
        assert_eq!(streamed.len(), 1, "once, because it was asked for");
        for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(streamed[0][key], usage[key], "{model}: {key}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_upstream_answers_free_text_and_is_named() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = weir_tests::binary::Weir::start(&backend("cloud", &upstream.base_url("fine")))?;
    for stream in [false, true] {
        let reply = ask(&weir, &with(question("auto", "Tell me a story."), json!({"stream": stream}))).await?;
        assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "cloud"), "{}", reply.text);
        assert_eq!(reply.header("x-weir-route"), "ar");
        let (text, model) = if stream {
            let frames = reply.frames();
            assert!(frames.is_complete(), "{}", reply.text);
            (frames.text(), frames.chunks[0]["model"].clone())
        } else {
            let answer = reply.json();
            assert_eq!(answer["usage"]["total_tokens"], 18);
            (
                answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned(),
                answer["model"].clone(),
            )
        };
        assert_eq!(text, ANSWER);
        assert_eq!(model, ANSWERING_MODEL);
    }
    for seen in upstream.seen() {
        assert_eq!(seen.body["model"], "cloud-model");
    }
    Ok(())
}

#[tokio::test]
async fn models_and_probes_answer() -> Result<()> {
    let weir = embedded()?;
    let list = get(&weir, "/v1/models").await?.json();
    let ids: Vec<&str> =
        list["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str()).collect();
    for id in ["auto", "diffusion", "ar"] {
        assert!(ids.contains(&id), "{ids:?}");
    }
    for id in ids {
        assert_eq!(get(&weir, &format!("/v1/models/{id}")).await?.json()["id"], *id);
    }
    assert_eq!(get(&weir, "/v1/models/nobody").await?.status, 404);
    assert_eq!(get(&weir, "/healthz").await?.status, 200);
    assert_eq!(get(&weir, "/readyz").await?.status, 200);
    assert_eq!(get(&weir, "/v1/chat/completions").await?.status, 405);
    assert_eq!(get(&weir, "/nowhere").await?.json()["error"]["code"], "not_found");
    Ok(())
}

#[tokio::test]
async fn many_at_once_answer_as_one_alone() -> Result<()> {
    let weir = embedded()?;
    let prompts = ["Sort these words: lemon, apple, mirror", "Reverse these words: fox, red, tea", "turn on the lamp"];
    let body = |at: usize| {
        let model = if at.is_multiple_of(2) { "diffusion" } else { "ar" };
        with(question(model, prompts[at % prompts.len()]), json!({"max_tokens": 32, "temperature": 0}))
    };
    let content = |reply: weir_tests::asking::Reply| reply.json()["choices"][0]["message"].to_string();
    let mut alone = Vec::new();
    for at in 0..6 {
        alone.push(content(ask(&weir, &body(at)).await?));
    }
    let bodies: Vec<_> = (0..24).map(|at| body(at % 6)).collect();
    let together = futures::future::join_all(bodies.iter().map(|body| ask(&weir, body))).await;
    for (at, reply) in together.into_iter().enumerate() {
        assert_eq!(content(reply?), alone[at % 6], "request {at}");
    }
    metrics_until(&weir, "all are counted and none runs", |page| {
        page.sum("weir_requests_total", &[("outcome", "finished")]) == 30.0 && page.sum("weir_in_flight", &[]) == 0.0
    })
    .await?;
    Ok(())
}
