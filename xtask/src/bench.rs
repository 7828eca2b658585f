//! `cargo xtask bench`: builds and runs `weir-bench`, which does the measuring; figures are printed and never judged.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::stage::{self, Stages};
use crate::{metadata, test};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All of them when none is named.
    #[arg(value_enum)]
    what: Vec<What>,
    /// A few prompts only: shows that it runs, the figures mean little.
    #[arg(long)]
    smoke: bool,
    /// `engine` only: a real model's shape with random weights (`llada2-mini` takes 9 GB of memory, `slice` 0.9).
    #[arg(long)]
    shape: Option<String>,
    /// With `--shape`: formats of the weights, as for `weir model pack`; q4 when left out.
    #[arg(long)]
    recipe: Option<String>,
    /// With `--shape`: requests in one step.
    #[arg(long)]
    batch: Option<usize>,
    /// With `--shape`: tokens in the cache.
    #[arg(long)]
    prefix: Option<usize>,
    /// With `--shape`: experts a block may visit.
    #[arg(long)]
    pool: Option<usize>,
    /// With `--shape`: small pages for the weights, as a mapped file has them where the file system knows no large ones.
    #[arg(long)]
    small_pages: bool,
    /// `engine` only: kernel threads on cores of their own, as with `engine.pin_threads`.
    #[arg(long)]
    pin_threads: bool,
}

impl Args {
    /// What only the engine's bench takes, as its arguments.
    fn of_engine(&self) -> Vec<String> {
        let named = |name: &str, value: Option<String>| value.map(|value| format!("--{name}={value}"));
        let number = |value: Option<usize>| value.map(|value| value.to_string());
        let all = [
            named("shape", self.shape.clone()),
            named("recipe", self.recipe.clone()),
            named("batch", number(self.batch)),
            named("prefix", number(self.prefix)),
            named("pool", number(self.pool)),
            self.small_pages.then(|| "--small-pages".to_owned()),
            self.pin_threads.then(|| "--pin-threads".to_owned()),
        ];
        all.into_iter().flatten().collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Time of a forward of the embedded models.
    Engine,
    /// Time the gateway adds to the engine in process and to an upstream.
    Gateway,
    /// Right answers, tokens per forward and tokens a second on the held-out prompts.
    Accuracy,
    /// Tokens a second of many callers against one, and time to the first block with and without a cached prefix.
    Throughput,
    /// Tool calls of the diffusion model against those of its AR twin, one request at a time.
    Twins,
    /// What storage formats cost: KL divergence and argmax agreement against the exact weights.
    Formats,
    /// Answers held to a form: how many are valid, and what forcing saves.
    Structure,
    /// Until another backend's answer, when the first one fails.
    Fallback,
    /// A simulated run of the nano set-up beside a real one; writes the scenario it measured.
    Simulate,
}

/// The command.
pub(crate) fn command(args: &Args) -> Result<()> {
    let root = metadata::root()?;
    test::build(&root)?;
    let mut stages = Stages::default();
    for what in What::value_variants() {
        if args.what.is_empty() || args.what.contains(what) {
            let more = if *what == What::Engine { args.of_engine() } else { Vec::new() };
            one(&root, &mut stages, *what, args.smoke, &more)?;
        }
    }
    stages.print();
    Ok(())
}

/// All of them, briefly; everything is built.
pub(crate) fn smoke(root: &Path, stages: &mut Stages) -> Result<()> {
    What::value_variants().iter().try_for_each(|what| one(root, stages, *what, true, &[]))
}

fn one(root: &Path, stages: &mut Stages, what: What, smoke: bool, more: &[String]) -> Result<()> {
    let name = match what {
        What::Engine => "engine",
        What::Gateway => "gateway",
        What::Accuracy => "accuracy",
        What::Throughput => "throughput",
        What::Twins => "twins",
        What::Formats => "formats",
        What::Structure => "structure",
        What::Fallback => "fallback",
        What::Simulate => "simulate",
    };
    let release = metadata::release_dir()?;
    let mut command = Command::new(release.join("weir-bench"));
    command
        .arg(name)
        .args(smoke.then_some("--smoke"))
        .args(more)
        .current_dir(root)
        .env("WEIR_BIN", release.join("weir"));
    command.env("WEIR_BENCH_OUT", release.join("../bench"));
    stages.run(&format!("bench {name}"), || stage::run(&mut command))
}
