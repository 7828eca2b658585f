//! `weir-bench`: figures about the embedded models and the gateway, printed for people and written as JSON. Judges
//! nothing: a machine that is slow today must not fail a build. `cargo xtask bench` builds and starts it.

mod accuracy;
mod chart;
mod engine;
mod fallback;
mod figures;
mod formats;
mod gateway;
mod repair;
mod shape;
mod simulate;
mod structure;
mod throughput;
mod twins;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use weir_diffusion_engine::speed::Team;

/// Prints figures.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    what: What,
    /// A few prompts only.
    #[arg(long)]
    smoke: bool,
    /// Folder with the models `diffusion` and `ar` and `heldout.jsonl`; the embedded ones when left out.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// `formats` only: GGUF files of the same model to compare too (training/to_gguf.py makes them).
    #[arg(long, value_name = "FILE")]
    gguf: Vec<PathBuf>,
    /// Kernel threads on cores of their own, as with `engine.pin_threads`.
    #[arg(long)]
    pin_threads: bool,
    #[command(flatten)]
    shape: shape::Args,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Time of a denoise step and of an AR token: of the embedded models, or with `--shape` of a real model's shape.
    Engine,
    /// Time the gateway adds.
    Gateway,
    /// Right answers on the held-out prompts.
    Accuracy,
    /// Many callers against one; a cached prefix against none.
    Throughput,
    /// Tool calls of the diffusion model against those of its AR twin, one request at a time.
    Twins,
    /// What storage formats cost: KL divergence and argmax agreement.
    Formats,
    /// Answers held to a form: how many are valid, and what forcing saves.
    Structure,
    /// Until another backend's answer, when the first one fails.
    Fallback,
    /// A simulated run of the nano set-up beside a real one.
    Simulate,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.pin_threads {
        Team::shared_on_cores().context("--pin-threads")?;
    }
    let models = arguments.models.unwrap_or_else(|| weir_tests::binary::repository().join("models/nano"));
    let place = std::env::var_os("WEIR_BENCH_OUT").map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
    // Programs that run elsewhere read what lies there.
    let place = std::path::absolute(place).context("the place for figures")?;
    std::fs::create_dir_all(&place).with_context(|| place.display().to_string())?;
    let write = |name: &str, figures: &serde_json::Value| {
        let file = place.join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_string_pretty(figures)?).with_context(|| file.display().to_string())
    };
    // A slice of the real shape is small enough for every run of CI.
    let shape = arguments.shape.shape.or(arguments.smoke.then_some(shape::ShapeName::Slice));
    if let (What::Engine, Some(shape)) = (arguments.what, shape) {
        let (name, figures) = shape::measure(&arguments.shape, shape, arguments.smoke, &place)?;
        write(&name, &figures)?;
        if arguments.shape.shape.is_some() {
            return Ok(());
        }
    }
    let (name, figures) = match arguments.what {
        What::Engine => ("engine", engine::measure(&models, arguments.smoke)?),
        What::Gateway => ("gateway", gateway::measure(&models, arguments.smoke)?),
        What::Throughput => ("throughput", throughput::measure(&models, arguments.smoke)?),
        What::Twins => ("twins", twins::measure(&models, arguments.smoke)?),
        What::Formats => ("formats", formats::measure(&models, &arguments.gguf, arguments.smoke)?),
        What::Accuracy => ("accuracy", accuracy::measure(&models, arguments.smoke)?),
        What::Structure => ("structure", structure::measure(&models, arguments.smoke)?),
        What::Fallback => ("fallback", fallback::measure(arguments.smoke)?),
        What::Simulate => ("simulate", simulate::measure(&models, arguments.smoke, &place)?),
    };
    write(name, &figures)
}
