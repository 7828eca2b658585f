//! `weir model info` and `weir model verify`: the engine's findings as text. Must never judge by itself.

use std::path::Path;

use anyhow::{Result, bail};
use weir_diffusion_engine::EngineKind;
use weir_diffusion_engine::inspect::{ModelReport, inspect, verify as check};

use super::progress::{Told, bytes};

/// Prints what the checkpoint is.
pub(super) fn info(path: &Path) -> Result<()> {
    print!("{}", text(&inspect(path)?));
    Ok(())
}

fn text(report: &ModelReport) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push(format!("{name:<14} {value}"));
    let kind = match report.kind {
        EngineKind::Diffusion => "diffusion: [engine.diffusion]",
        EngineKind::Autoregressive => "autoregressive: [engine.ar]",
    };
    line("architecture", format!("{} ({kind})", report.architecture));
    line(
        "parameters",
        format!("{}, of which a token uses {}", count(report.parameters), count(report.active_parameters)),
    );
    for shape in &report.shape {
        line("shape", shape.clone());
    }
    for share in &report.types {
        let size = bytes(share.bytes);
        line(
            "stored as",
            format!("{:<5} {} tensors, {} numbers, {size}", share.name, share.tensors, count(share.elements)),
        );
    }
    for size in &report.sizes {
        line("weights at", format!("{:<5} {}", size.name, bytes(size.bytes)));
    }
    let kinds = [
        ("int8", report.kv_elements + 4 * report.kv_scales),
        ("bf16", 2 * report.kv_elements),
        ("f32", 4 * report.kv_elements),
    ];
    let kv =
        |tokens: u64| kinds.map(|(name, one)| format!("{} ({name})", bytes(one.saturating_mul(tokens)))).join(", ");
    line("K/V a token", kv(1));
    line("context", format!("{} tokens; K/V when full {}", report.context, kv(report.context)));
    if let Some(routing) = &report.routing {
        line("experts", routing.clone());
    }
    line("decoder", report.decoder.clone());
    for oddity in &report.oddities {
        line("odd", oddity.clone());
    }
    lines.join("\n") + "\n"
}

/// Reads everything, prints every fault.
pub(super) fn verify(path: &Path) -> Result<()> {
    let mut told: Option<Told> = None;
    let mut last = 0;
    let faults = check(path, |progress| {
        let told = told.get_or_insert_with(|| Told::new(progress.total));
        told.at(progress.done, progress.tensor);
        // Plain lines only now and then: a model has thousands of tensors.
        let tenth = progress.done * 10 / progress.total.max(1);
        if tenth > last {
            last = tenth;
            told.line(&format!("{}0 % of {} read", tenth, bytes(progress.total)));
        }
    });
    drop(told);
    for fault in &faults {
        println!("{fault}");
    }
    match faults.len() {
        0 => {
            println!("{}: every tensor is present, has the right shape and is finite", path.display());
            Ok(())
        }
        1 => bail!("1 fault"),
        many => bail!("{many} faults"),
    }
}

/// 16.3 B, 103 M, 12,345.
fn count(number: u64) -> String {
    match number {
        0..100_000 => number.to_string(),
        100_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.2} B", number as f64 / 1e9),
    }
}
