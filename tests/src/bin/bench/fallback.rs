//! How long a caller waits for another backend's answer when the first one fails, beside the same answer asked for
//! directly. A failing backend of its own for each round: one that failed before would be left alone.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_tests::asking::{client, question, read, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::FaultUpstream;

use super::figures::{median, ms};

/// Faults, and the first-content budget of their backends in ms.
const FAULTS: [(&str, u64); 7] = [
    ("refused", 60_000),
    ("reset", 60_000),
    ("500", 60_000),
    ("503", 60_000),
    ("429", 60_000),
    ("cut-early", 60_000),
    ("silent", 300),
];

/// Measures, prints, gives it as JSON.
pub(super) fn measure(smoke: bool) -> Result<Value> {
    let rounds = if smoke { 3 } else { 30 };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        println!(
            "{:<12} {:>10} {:>12} {:>12} {:>12}",
            "first fails", "budget ms", "direct ms", "median ms", "worst ms"
        );
        let mut all = Vec::new();
        for (fault, budget) in FAULTS {
            all.push(one(fault, budget, rounds).await?);
        }
        Ok(all.into())
    })
}

async fn one(fault: &str, budget: u64, rounds: usize) -> Result<Value> {
    let upstream = FaultUpstream::start().await?;
    let folder = tempfile::tempdir()?;
    let policy = folder.path().join("policy.toml");
    let spare = "[{ backend = \"spare\" }]";
    std::fs::write(
        &policy,
        format!(
            "[pins]\nfallback = {spare}\n\n[[rule]]\nname = \"all\"\nroute = \"spare\"\nreason = \"bench\"\nattempts = {spare}\n"
        ),
    )?;
    let mut config = format!(
        "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n[policy]\nfile = {:?}\n\
         [[backend]]\nname = \"spare\"\nbase_url = \"{}\"\nmodel = \"spare-model\"\n",
        policy.display().to_string(),
        upstream.base_url("fine")
    );
    for round in 0..rounds {
        let url = if fault == "refused" { FaultUpstream::refused_url().await? } else { upstream.base_url(fault) };
        config.push_str(&format!(
            "[[backend]]\nname = \"bad-{round}\"\nbase_url = \"{url}\"\nmodel = \"m-{round}\"\nfirst_content_timeout_ms = {budget}\n"
        ));
    }
    let weir = Weir::start(&config)?;
    let client = client()?;
    let ask = async |model: &str| -> Result<f64> {
        let body = with(question(model, "Tell me a story."), json!({"stream": true})).to_string();
        let begun = Instant::now();
        let reply = read(client.post(weir.url("/v1/chat/completions")).body(body).send().await?).await?;
        ensure!(reply.frames().is_complete() && reply.header("x-weir-backend") == "spare", "{fault}: {}", reply.text);
        Ok(ms(begun.elapsed()))
    };
    ask("spare").await?;
    let (mut direct, mut fallen) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        direct.push(ask("spare").await?);
        fallen.push(ask(&format!("bad-{round}")).await?);
    }
    let worst = fallen.iter().copied().fold(0.0, f64::max);
    let (direct, median) = (median(direct), median(fallen));
    println!("{fault:<12} {budget:>10} {direct:>12.2} {median:>12.2} {worst:>12.2}");
    Ok(
        json!({"fault": fault, "budget_ms": budget, "direct_ms": direct, "median_ms": median, "worst_ms": worst, "rounds": rounds}),
    )
}
