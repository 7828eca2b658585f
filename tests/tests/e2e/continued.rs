//! What other backends can do for a request that began elsewhere: going on with a cut stream, or from a caller's own
//! beginning; and upstreams that complete or count by themselves.

use anyhow::Result;
use serde_json::json;
use weir_tests::asking::{ask_at, metrics_until};
use weir_tests::binary::Weir;
use weir_tests::dialects::{Dialect, End};
use weir_tests::fault_upstream::{ANSWER, FaultUpstream};

use crate::embedded;

const NO_ENGINES: &str = "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n";

#[tokio::test]
async fn a_cut_stream_is_gone_on_with_and_says_so() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    let spare = "[{ backend = \"spare\" }]";
    let rule = format!("[[rule]]\nname = \"all\"\nroute = \"spare\"\nreason = \"test\"\nattempts = {spare}\n");
    std::fs::write(&policy, format!("[pins]\nfallback = {spare}\n\n{rule}"))?;
    let mut config =
        format!("{NO_ENGINES}[attempts]\non_cut = \"continue\"\n[policy]\nfile = {:?}\n", policy.display().to_string());
    let mut add = |name: &str, kind: &str, fault: &str, more: &str| {
        let url = upstream.base_url(fault);
        config.push_str(&format!(
            "[[backend]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{url}\"\nmodel = \"m-{name}\"\n{more}\n"
        ));
    };
    add("spare", "openai-chat", "echo", "prefill = \"last_message\"");
    let kinds = ["openai-chat", "openai-responses", "anthropic"];
    kinds.iter().for_each(|kind| add(kind, kind, "cut-late", ""));
    let weir = Weir::start(&config)?;
    for kind in kinds {
        for dialect in [Dialect::Chat, Dialect::Responses, Dialect::Messages] {
            let reply = ask_at(&weir, dialect.path(), &dialect.question(kind, "hi", true)).await?;
            let heard = dialect.streamed(&reply);
            // The first half, and what the other backend was shown of it.
            let (half, echoed) = heard.text.split_at(heard.text.len().div_ceil(2));
            assert_eq!((half.trim_end(), heard.end), (echoed, End::Whole), "{kind}: {}", reply.text);
            assert!(ANSWER.starts_with(half) && reply.text.contains("\"continued_by\":\"spare\""), "{}", reply.text);
        }
        let labels = [("from", kind), ("to", "spare"), ("cause", "stream_cut")];
        metrics_until(&weir, "it is counted", |page| page.sum("weir_continued_total", &labels) == 3.0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_callers_own_beginning_is_gone_on_from_by_the_engines() -> Result<()> {
    let weir = embedded()?;
    let ask = |begun: Option<&'static str>| {
        let mut turns = vec![json!({"role": "user", "content": "Sort these words: lemon, apple, mirror"})];
        turns.extend(begun.map(|begun| json!({"role": "assistant", "content": begun})));
        json!({"model": "ar", "max_tokens": 32, "temperature": 0, "messages": turns})
    };
    let plain = ask_at(&weir, Dialect::Messages.path(), &ask(None)).await?;
    let begun = ask_at(&weir, Dialect::Messages.path(), &ask(Some("apple, lemon"))).await?;
    assert_eq!(begun.status, 200, "{}", begun.text);
    let tokens = |reply: &weir_tests::asking::Reply| reply.json()["usage"]["input_tokens"].as_u64();
    assert!(tokens(&begun) > tokens(&plain), "its words are in the prompt: {} {}", plain.text, begun.text);
    assert!(!Dialect::Messages.whole(&begun).text.starts_with("apple"), "it is not said again: {}", begun.text);
    Ok(())
}

#[tokio::test]
async fn completions_and_counts_are_an_upstreams_own_where_it_has_them() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let (chat, claude) = (upstream.base_url("extras"), upstream.base_url("fine"));
    let weir = Weir::start(&format!(
        "{NO_ENGINES}[[backend]]\nname = \"own\"\nbase_url = \"{chat}\"\nmodel = \"m-own\"\ncompletions = true\n\
         [[backend]]\nname = \"claude\"\nkind = \"anthropic\"\nbase_url = \"{claude}\"\nmodel = \"m-claude\"\n\
         [[backend]]\nname = \"gpt\"\nkind = \"openai-responses\"\nbase_url = \"{claude}\"\nmodel = \"m-gpt\"\n"
    ))?;
    let ask = |stream| json!({"model": "own", "prompt": "one ", "suffix": " three", "x_own": 1, "stream": stream});
    for stream in [true, false] {
        let reply = ask_at(&weir, Dialect::Completions.path(), &ask(stream)).await?;
        let heard = if stream { Dialect::Completions.streamed(&reply) } else { Dialect::Completions.whole(&reply) };
        assert_eq!((heard.text.as_str(), heard.end), (ANSWER, End::Whole), "{}", reply.text);
        assert!(reply.text.contains("x_up") && (!stream || !reply.text.contains("usage")), "{}", reply.text);
    }
    let seen = &upstream.seen()[0].body;
    assert_eq!((&seen["prompt"], &seen["suffix"], &seen["x_own"]), (&json!("one "), &json!(" three"), &json!(1)));
    assert_eq!(seen["model"], "m-own");
    let counted =
        ask_at(&weir, "/v1/messages/count_tokens", &Dialect::Messages.question("claude", "hi", false)).await?;
    assert_eq!(counted.json(), json!({"input_tokens": 11}), "{}", counted.text);
    assert_eq!(upstream.seen().last().map(|seen| seen.body["model"].clone()), Some(json!("m-claude")));
    let question = json!({"model": "gpt", "input": "hi", "x_own": 1});
    let counted = ask_at(&weir, "/v1/responses/input_tokens", &question).await?;
    assert_eq!(counted.json(), json!({"object": "response.input_tokens", "input_tokens": 11}), "{}", counted.text);
    let seen = upstream.seen().last().map(|seen| seen.body.clone());
    assert_eq!(seen, Some(json!({"model": "m-gpt", "input": "hi", "x_own": 1})), "no stream, no store");
    Ok(())
}
