//! Keys and prompts reach neither the log nor the metrics, whatever goes wrong with them.

use anyhow::{Context, Result};
use serde_json::json;
use weir_tests::asking::{ask, get, metrics_until, question, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::FaultUpstream;

use crate::backend;

const KEY: &str = "sk-plugh-0123456789";
const PROMPT: &str = "my locker code is 7731-plover";

#[tokio::test]
async fn keys_and_prompts_stay_between_caller_and_upstream() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let mut config = String::new();
    let faults = ["echo", "401", "500", "malformed", "cut-600"];
    for fault in faults {
        let one = backend(&format!("up-{fault}"), &upstream.base_url(fault));
        config.push_str(&one.replace("first_content", "api_key_env = \"TEST_UP_KEY\"\nfirst_content"));
    }
    let variables = [("TEST_UP_KEY", KEY), ("RUST_LOG", "debug")];
    let weir = Weir::start_with(&config, &variables)?;
    let mut sent = 0.0;
    for fault in faults {
        for stream in [true, false] {
            let body = with(question(&format!("up-{fault}"), PROMPT), json!({"stream": stream, "max_tokens": 8}));
            let reply = ask(&weir, &body).await?;
            assert!(!reply.text.contains(KEY), "{fault}: {}", reply.text);
            sent += 1.0;
        }
    }
    for model in ["ar", "diffusion", PROMPT] {
        ask(&weir, &with(question(model, PROMPT), json!({"max_tokens": 8, "unknown_field": PROMPT}))).await?;
        sent += 1.0;
    }
    assert!(upstream.seen().iter().all(|seen| seen.header("authorization") == format!("Bearer {KEY}")));
    metrics_until(&weir, "all are counted", |page| page.sum("weir_requests_total", &[]) == sent).await?;
    let page = get(&weir, "/metrics").await?.text;
    let log = weir.said("up-500").await.context("the log is read at all")?;
    for secret in [KEY, "plugh", "plover", "7731-"] {
        assert!(!log.contains(secret), "{secret} in the log:\n{log}");
        assert!(!page.contains(secret), "{secret} in the metrics:\n{page}");
    }
    Ok(())
}
