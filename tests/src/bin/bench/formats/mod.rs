//! What a storage format costs in quality: the diffusion model's predictions at masked places of held-out answers, with
//! weights rounded to each format, against those with the weights as they are. Also for GGUF files of the same model.

mod recipes;
mod rounding;
mod samples;
mod weights;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_diffusion_engine::{KvType, LogitsModel};

use rounding::Format;
use samples::Sample;

const BLOCK: usize = 32;

/// How one format differs from the exact weights.
#[derive(Default)]
struct Difference {
    places: u64,
    same: u64,
    divergences: Vec<f64>,
}

/// Measures, prints the table, gives it as JSON.
pub(super) fn measure(models: &Path, files: &[PathBuf], smoke: bool) -> Result<Value> {
    let model = models.join("diffusion");
    let samples = samples::read(models, if smoke { 12 } else { 300 })?;
    let exact = predictions(&model, &samples)?;
    println!("{} masked places of {} answers; KL in nats, against the weights as they are", exact.len(), samples.len());
    println!(
        "{:<28} {:>11} {:>10} {:>10} {:>10} {:>8}",
        "format", "bits/weight", "mean KL", "99 % KL", "max KL", "argmax"
    );
    let mut rows = Vec::new();
    for format in Format::ALL {
        let folder = tempfile::tempdir().context("a folder")?;
        let bits = weights::rounded(&model, folder.path(), format)?;
        let got = predictions(folder.path(), &samples)?;
        rows.push(row(format.name(), bits, &difference(&exact, &got)?));
    }
    rows.extend(recipes::rows(&model, &samples, &exact)?);
    for (name, kind) in [("K/V in bf16", KvType::Bf16), ("K/V in int8", KvType::Int8)] {
        let model = LogitsModel::open(&model)?.with_kv(kind);
        rows.push(row(name, 32.0, &difference(&exact, &predictions_of(&model, &samples)?)?));
    }
    let whole = LogitsModel::open(&model)?;
    for count in [8, 4, 2, 1] {
        let got = partial_predictions(&whole, &samples, count)?;
        rows.push(row(&format!("partial, {count} a forward"), 32.0, &difference(&exact, &got)?));
    }
    for file in files {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let report = weir_diffusion_engine::inspect::inspect(file)?;
        let bytes: u64 = report.types.iter().map(|share| share.bytes).sum();
        let bits = 8.0 * bytes as f64 / report.parameters.max(1) as f64;
        rows.push(row(&name, bits, &difference(&exact, &predictions(file, &samples)?)?));
    }
    Ok(rows.into())
}

fn row(name: &str, bits: f64, difference: &Difference) -> Value {
    let mut sorted = difference.divergences.clone();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().max(1) - 1)).copied();
    let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
    let (high, max) = (at(0.99).unwrap_or(0.0), at(1.0).unwrap_or(0.0));
    let same = difference.same as f64 / difference.places.max(1) as f64;
    println!("{name:<28} {bits:>11.2} {mean:>10.2e} {high:>10.2e} {max:>10.2e} {:>7.2}%", 100.0 * same);
    json!({"format": name, "bits_per_weight": bits, "mean_kl": mean, "p99_kl": high, "max_kl": max,
        "argmax_agreement": same, "places": difference.places})
}

/// Logits at each masked place, sample after sample.
fn predictions(model: &Path, samples: &[Sample]) -> Result<Vec<Vec<f32>>> {
    predictions_of(&LogitsModel::open(model).with_context(|| model.display().to_string())?, samples)
}

fn predictions_of(model: &LogitsModel, samples: &[Sample]) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::new();
    for sample in samples {
        let logits = model.logits(&sample.ids, BLOCK, true)?;
        let vocab = logits.len() / sample.ids.len().max(1);
        let rows: Vec<&[f32]> = logits.chunks(vocab.max(1)).collect();
        all.extend(sample.masked.iter().filter_map(|at| rows.get(*at)).map(|row| row.to_vec()));
    }
    Ok(all)
}

/// The same by partial forwards that write `count` tokens each, only the first of a block being whole.
fn partial_predictions(model: &LogitsModel, samples: &[Sample], count: usize) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::new();
    for sample in samples.iter().filter(|sample| !sample.masked.is_empty()) {
        let history = sample.history(count);
        let canvases: Vec<&[u32]> = history.iter().map(Vec::as_slice).collect();
        let logits = model.partial_logits(&canvases, &sample.masked, BLOCK)?;
        all.extend(logits.chunks(logits.len() / sample.masked.len()).map(<[f32]>::to_vec));
    }
    Ok(all)
}

fn difference(exact: &[Vec<f32>], got: &[Vec<f32>]) -> Result<Difference> {
    ensure!(exact.len() == got.len() && !exact.is_empty(), "places were lost");
    let mut difference = Difference::default();
    for (exact, got) in exact.iter().zip(got) {
        ensure!(exact.len() == got.len(), "another vocabulary");
        difference.places += 1;
        difference.same += u64::from(argmax(exact) == argmax(got));
        difference.divergences.push(divergence(exact, got));
    }
    Ok(difference)
}

/// Kullback-Leibler divergence of `got`'s softmax from `exact`'s, in nats.
fn divergence(exact: &[f32], got: &[f32]) -> f64 {
    let (p, q) = (log_softmax(exact), log_softmax(got));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - max) - sum.ln()).collect()
}

fn argmax(logits: &[f32]) -> usize {
    logits.iter().enumerate().fold(0, |best, (i, logit)| if *logit > logits[best] { i } else { best })
}
