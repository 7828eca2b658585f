//! What the gateway costs: the same question asked with it and without it, in turns (A B A B), so that a busy machine
//! hurts both. Over the engine in process, and over an upstream on loopback beside a proxy that only moves bytes.

mod beside;
mod load;
mod mock;
mod proxies;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_tests::asking::{client, question, read, with};
use weir_tests::binary::Weir;

use super::figures::{answer, load, median, ms, request};

const PROMPT: &str = "Sort these words: lemon, apple, mirror, chair, honey";

/// Measures, prints, gives it as JSON.
pub(super) fn measure(models: &Path, smoke: bool) -> Result<Value> {
    let rounds = if smoke { 5 } else { 200 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{:<22} {:>11} {:>11} {:>11} {:>8}", "over", "without ms", "with ms", "added ms", "ratio");
    let mut all = Vec::new();
    for name in ["diffusion", "ar"] {
        all.push(over_engine(&runtime, models, name, rounds)?);
    }
    let beside = runtime.block_on(beside::measure(smoke))?;
    Ok(json!({"engines": all, "proxies": beside}))
}

fn over_engine(runtime: &tokio::runtime::Runtime, models: &Path, name: &str, rounds: usize) -> Result<Value> {
    let engine = load(models, name)?;
    let model = models.join(name).canonicalize()?.display().to_string();
    let decoding = if name == "diffusion" { "decoder = \"threshold\"\nthreshold = 0.95\n" } else { "" };
    let through = client()?;
    let weir = Weir::start(&format!("[engine.{name}]\nmodel = {model:?}\nshare_prefixes = \"off\"\n{decoding}"))?;
    let body = with(question(name, PROMPT), json!({"max_tokens": 64}));
    let mut asked = request(&body)?;
    asked.max_tokens = Some(64);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        without.push(ms(answer(&engine, &asked)?.took));
        let begun = Instant::now();
        let reply = runtime.block_on(async {
            read(
                through
                    .post(weir.url("/v1/chat/completions"))
                    .header("content-type", "application/json")
                    .body(body.to_string())
                    .send()
                    .await?,
            )
            .await
        })?;
        with.push(ms(begun.elapsed()));
        ensure!(reply.status == 200, "{}", reply.text);
    }
    Ok(report(&format!("engine {name}"), without, with))
}

/// The first of each opens connections and is left out.
fn report(over: &str, without: Vec<f64>, with: Vec<f64>) -> Value {
    let rounds = with.len().saturating_sub(1);
    let (without, with) = (median(without.into_iter().skip(1).collect()), median(with.into_iter().skip(1).collect()));
    let ratio = if without > 0.0 { with / without } else { 0.0 };
    println!("{over:<22} {without:>11.3} {with:>11.3} {:>11.3} {ratio:>8.2}", with - without);
    json!({"over": over, "without_ms": without, "with_ms": with, "added_ms": with - without, "ratio": ratio, "rounds": rounds})
}
