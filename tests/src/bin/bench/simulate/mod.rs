//! `weir route simulate` beside a real run: the nano set-up is measured alone, under load and beside its neighbour; what
//! was measured is written as a scenario; then the same Poisson arrivals go to the real gateway and through the
//! simulation. Must never make the simulation look better than it is: both columns are printed with the error between.

mod asking;
mod compare;
mod fit;
mod scenario;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_tests::binary::Weir;

use self::asking::{Answered, Asker};
use self::fit::{Server, fitted};

/// Callers at once where the load's price is measured.
const CROWD: usize = 4;
/// Callers at once where it is measured what the machine can do.
const FULL: usize = 8;
/// Shares of what it can do at which reality and simulation are compared.
const LOADS: [f64; 3] = [0.25, 0.5, 0.75];
const SEED: u64 = 1;

/// How much is asked.
struct Effort {
    /// Answers of each measurement.
    each: usize,
    /// Answers of each comparison.
    compared: usize,
    loads: &'static [f64],
}

/// Measures, prints, gives it as JSON; the scenario is written into `place`.
pub(super) fn measure(models: &Path, smoke: bool, place: &Path) -> Result<Value> {
    let effort = match smoke {
        true => Effort { each: 6, compared: 24, loads: &LOADS[..1] },
        false => Effort { each: 150, compared: 600, loads: &LOADS },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let path = |name: &str| anyhow::Ok(models.join(name).canonicalize()?.display().to_string());
    // Every prompt is read anew: a cache that holds what a few hundred prompts share would answer for the engine.
    let config = format!(
        "[engine.diffusion]\nmodel = {:?}\nshare_prefixes = \"off\"\n[engine.ar]\nmodel = {:?}\nshare_prefixes = \"off\"\n",
        path("diffusion")?,
        path("ar")?
    );
    let weir = Weir::start(&config)?;
    let asker = Asker::new(&weir, asking::kinds(models, false)?)?;
    let long = Asker::new(&weir, asking::kinds(models, true)?)?;
    runtime.block_on(all(&asker, &long, &weir, &effort, place))
}

async fn all(asker: &Asker, long: &Asker, weir: &Weir, effort: &Effort, place: &Path) -> Result<Value> {
    let every: Vec<usize> = (0..asker.kinds.len()).collect();
    let of = |backend: &str| -> Vec<usize> {
        every.iter().copied().filter(|kind| asker.kinds[*kind].backend == backend).collect()
    };
    // Pages in the weights and the code.
    asker.alone(&every, effort.each.min(30)).await?;
    let mut servers = Vec::new();
    for name in ["diffusion", "ar"] {
        let own = of(name);
        let mut alone = asker.alone(&own, effort.each).await?;
        alone.extend(long.alone(&own, effort.each / 2).await?);
        let crowd = asker.by_callers(&[own.as_slice(); CROWD], effort.each).await?;
        let neighbours = asker.by_callers(&[of("diffusion").as_slice(), of("ar").as_slice()], effort.each).await?;
        servers.push(fitted(name, &alone, &crowd, CROWD, &neighbours)?);
    }
    let begun = Instant::now();
    let full = asker.by_callers(&[every.as_slice(); FULL], effort.each * 2).await?;
    let most = full.len() as f64 / begun.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    println!("the machine answers {most:.0} of these requests a second when {FULL} callers ask");
    servers.iter().for_each(Server::print);
    compare::head();
    let mut rates = Vec::new();
    for (at, load) in effort.loads.iter().enumerate() {
        let per_s = most * load;
        let text = scenario::written(per_s, &asker.kinds, &full, &servers);
        let file = place.join("nano.toml");
        std::fs::write(&file, &text).with_context(|| file.display().to_string())?;
        let (real, seconds) = asker.poisson(per_s, effort.compared, SEED + at as u64).await?;
        rates.push(compare::one(weir, &file, per_s, effort.compared, (&real, seconds), &asker.kinds)?);
    }
    println!("the scenario, at the last of these rates: {}", place.join("nano.toml").display());
    let servers: Vec<Value> = servers.iter().map(Server::json).collect();
    Ok(json!({"answers_per_second": most, "servers": servers, "rates": rates}))
}

/// Answers of one backend; at least one.
fn answers_of<'a>(backend: &str, all: &'a [Answered]) -> Result<Vec<&'a Answered>> {
    let own: Vec<&Answered> = all.iter().filter(|one| one.backend == backend).collect();
    ensure!(!own.is_empty(), "{backend} answered nothing: its kinds of requests go elsewhere");
    Ok(own)
}

/// What a caller waits at most.
const PATIENCE: Duration = Duration::from_secs(60);
