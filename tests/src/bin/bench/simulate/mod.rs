//! `weir route simulate --log` beside a real run: Poisson arrivals of held-out tasks go to the real gateway, which records
//! them; then each log is simulated again, and the log of one load tells what the others should be. Must never make the
//! simulation look better than it is: both columns are printed with the error between.

mod asking;
mod compare;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_tests::binary::Weir;
use weir_tests::request_log::Pieces;

use self::asking::Asker;
use self::compare::Run;

/// Callers at once where it is measured what the machine can do.
const FULL: usize = 8;
/// Shares of what it can do at which reality and simulation are compared.
const LOADS: [f64; 3] = [0.25, 0.5, 0.75];
/// The one from whose log the others are foretold.
const FORETELLS: f64 = 0.5;
const SEED: u64 = 1;

/// How much is asked.
struct Effort {
    /// Answers by which it is told what the machine can do.
    full: usize,
    /// Requests of each load.
    compared: usize,
    loads: &'static [f64],
}

/// Measures, prints, gives it as JSON; the logs and the servers measured from one are written into `place`.
pub(super) fn measure(models: &Path, smoke: bool, place: &Path) -> Result<Value> {
    let effort = match smoke {
        true => Effort { full: 16, compared: 60, loads: &LOADS[1..2] },
        false => Effort { full: 400, compared: 1200, loads: &LOADS },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let path = |name: &str| anyhow::Ok(models.join(name).canonicalize()?.display().to_string());
    // Every prompt is read anew: a cache that holds what a few hundred prompts share would answer for the engine.
    let config = format!(
        "[engine.diffusion]\nmodel = {:?}\nshare_prefixes = \"off\"\n[engine.ar]\nmodel = {:?}\nshare_prefixes = \"off\"\n\
         [request_log]\nenabled = true\nfile = \"requests.jsonl\"\n",
        path("diffusion")?,
        path("ar")?
    );
    let weir = Weir::start(&config)?;
    let asker = Asker::new(&weir, asking::kinds(models)?)?;
    runtime.block_on(all(&asker, &weir, &effort, place))
}

async fn all(asker: &Asker, weir: &Weir, effort: &Effort, place: &Path) -> Result<Value> {
    let every: Vec<usize> = (0..asker.kinds.len()).collect();
    // Pages in the weights and the code.
    let warm = asker.by_callers(&[every.as_slice()], effort.full.min(30)).await?;
    let begun = Instant::now();
    let full = asker.by_callers(&[every.as_slice(); FULL], effort.full).await?;
    let most = full.len() as f64 / begun.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    println!("the machine answers {most:.0} of these requests a second when {FULL} callers ask");
    let mut log = Pieces::of(&weir.folder().join("requests.jsonl"));
    // These were recorded, too, but are none of a load's requests.
    log.next(warm.len() + full.len()).await?;
    let mut runs = Vec::new();
    for (at, load) in effort.loads.iter().enumerate() {
        let seen = asker.poisson(most * load, effort.compared, SEED + at as u64).await?;
        let own: Vec<String> = log.next(seen.len()).await?.iter().map(Value::to_string).collect();
        let file = place.join(format!("nano-{:.0}.jsonl", load * 100.0));
        std::fs::write(&file, own.join("\n") + "\n").with_context(|| file.display().to_string())?;
        runs.push(Run { load: *load, per_s: most * load, log: file, seen });
    }
    compare::head();
    let servers = place.join("nano-servers.toml");
    let again = runs.iter().map(|run| compare::again(weir, run)).collect::<Result<Vec<_>>>()?;
    let from = runs.iter().find(|run| run.load == FORETELLS).context("one load foretells the others")?;
    let foretold = runs.iter().zip(&again).map(|(run, real)| compare::foretold(weir, from, run, real, &servers));
    let foretold = foretold.collect::<Result<Vec<_>>>()?;
    println!("logs and the servers measured from one of them: {}", place.display());
    Ok(json!({"answers_per_second": most, "again": again, "foretold": foretold}))
}

/// What a caller waits at most.
const PATIENCE: Duration = Duration::from_secs(60);
