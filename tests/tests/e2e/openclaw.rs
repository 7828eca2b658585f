//! OpenClaw's requests: 53 KB around a few words. They reach the AR upstream without loss, and the few words alone
//! decide the route.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::{Reply, ask};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::{ANSWER, FaultUpstream};
use weir_tests::openclaw_request;

use crate::backend;

const TEXTS: [&str; 6] = [
    "Tell me a story about a lighthouse.",
    "hi",
    "Sort these words: lemon, apple, mirror, chair",
    "Solve this sudoku: 1..4/3.../.14./..21",
    "send a message to Tom that dinner is ready",
    "What is the capital of France?",
];

async fn weir_with_upstream() -> Result<(Weir, FaultUpstream)> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&backend("cloud", &upstream.base_url("fine")))?;
    Ok((weir, upstream))
}

#[tokio::test]
async fn nothing_is_lost_on_the_way_to_the_upstream() -> Result<()> {
    let (weir, upstream) = weir_with_upstream().await?;
    let sent = openclaw_request::request(1, "auto", TEXTS[0]);
    let reply = ask(&weir, &sent).await?;
    assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "cloud"), "{}", reply.text);
    let frames = reply.frames();
    assert!(frames.is_complete() && frames.text() == ANSWER, "{}", reply.text);
    assert_eq!(frames.usages().len(), 1, "it was asked for");
    let arrived = upstream.ended(0).await?.body;
    assert_eq!(arrived["model"], "cloud-model");
    for (key, value) in sent.as_object().into_iter().flatten().filter(|(key, _)| *key != "model") {
        assert_eq!(&arrived[key], value, "{key} changed on the way");
    }
    let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<BTreeSet<_>>());
    assert_eq!(keys(&arrived), keys(&sent), "nothing added");
    Ok(())
}

/// The same request with the bare text and without the internal-context message.
fn unwrapped(seed: u64, text: &str) -> Value {
    let mut request = openclaw_request::request(seed, "auto", text);
    let system = request["messages"][0].clone();
    request["messages"] = json!([system, {"role": "user", "content": text}]);
    request
}

/// Route and reason, without the sizes a reason may state: the wrapping has a size.
fn decision(reply: &Reply) -> (String, String) {
    let reason: String = reply.header("x-weir-reason").chars().filter(|c| !c.is_ascii_digit()).collect();
    (reply.header("x-weir-route").to_owned(), reason)
}

#[tokio::test]
async fn only_the_persons_words_decide() -> Result<()> {
    let (weir, _upstream) = weir_with_upstream().await?;
    let mut routes = Vec::new();
    for text in TEXTS {
        let wrapped = ask(&weir, &openclaw_request::request(2, "auto", text)).await?;
        assert_eq!(wrapped.status, 200, "{text}: {}", wrapped.text);
        assert_eq!(
            decision(&wrapped),
            decision(&ask(&weir, &unwrapped(2, text)).await?),
            "{text}: the wrapping decided"
        );
        let other = ask(&weir, &openclaw_request::request(3, "auto", text)).await?;
        assert_eq!(decision(&wrapped), decision(&other), "{text}: the system prompt or the tools' words decided");
        routes.push(decision(&wrapped).0);
    }
    assert_eq!(routes[0], "ar");
    assert!(routes.iter().any(|route| route != "ar"), "routes differ by text: {routes:?}");
    Ok(())
}

#[tokio::test]
async fn too_long_for_the_embedded_models_goes_to_the_upstream_silently() -> Result<()> {
    let (weir, upstream) = weir_with_upstream().await?;
    for (count, model) in ["diffusion", "ar"].into_iter().enumerate() {
        let reply = ask(&weir, &openclaw_request::request(4, model, "hi")).await?;
        assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "cloud"), "{model}: {}", reply.text);
        assert_eq!(upstream.ended(count).await?.body["messages"][1]["content"], openclaw_request::wrapped("hi"));
    }
    Ok(())
}
