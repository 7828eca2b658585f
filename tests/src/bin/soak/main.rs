//! `weir-soak`: the real gateway under mixed load with everything that goes wrong in its life: faulty upstreams, clients that
//! leave, reloads, a Redis that goes away. Afterwards every figure must be where it belongs; what is not is printed and is
//! the exit code. `cargo xtask soak` builds and starts it.

mod callers;
mod checks;
mod house;
mod leavers;
mod ledger;
mod memory;
mod pace;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;

use house::House;
use ledger::Ledger;
use memory::Memory;
use pace::Pace;

/// Runs the gateway under mixed load and checks that nothing is lost, left over or untold.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long the load lasts.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// About 20 seconds, for CI: too short to say anything about memory.
    #[arg(long)]
    smoke: bool,
    /// What all choices are drawn from; printed, so that a bad run can be repeated.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Callers at once.
    #[arg(long, default_value_t = 6)]
    callers: u64,
}

/// Between two reloads.
const RELOAD_EVERY: Duration = Duration::from_secs(20);
/// How long Redis stays away.
const REDIS_AWAY: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("weir-soak: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(soak(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weir-soak: {error:#} (seed {})", arguments.seed);
            ExitCode::FAILURE
        }
    }
}

async fn soak(arguments: &Arguments) -> Result<bool> {
    let lasts = match arguments.smoke {
        true => Duration::from_secs(20),
        false => Duration::from_secs_f64(arguments.minutes.max(0.1) * 60.0),
    };
    let mut house = House::build().await?;
    println!(
        "soak: {:.1} min, {} callers, seed {}, redis {}",
        lasts.as_secs_f64() / 60.0,
        arguments.callers,
        arguments.seed,
        if house.has_redis() { "yes" } else { "no: not installed" },
    );
    let ledger = Arc::new(Ledger::default());
    let (stop, pace) = (Arc::new(AtomicBool::new(false)), Arc::new(Pace::default()));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..arguments.callers {
        let (target, ledger) = (house.target(), Arc::clone(&ledger));
        let (stop, pace) = (Arc::clone(&stop), Arc::clone(&pace));
        let seed = arguments.seed.wrapping_mul(1_000_003).wrapping_add(number);
        tasks.spawn(async move { callers::run(&target, &ledger, (&stop, &pace), number, seed).await });
    }
    let mut memory = Memory::of(house.weir_id());
    let begun = Instant::now();
    let (mut reload_at, mut redis_at) = (RELOAD_EVERY.min(lasts / 3), Some(lasts / 2));
    while begun.elapsed() < lasts && !tasks.is_empty() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        memory.look(begun.elapsed());
        if begun.elapsed() >= reload_at {
            reload_at += RELOAD_EVERY;
            house.reload().await?;
        }
        if redis_at.is_some_and(|at| begun.elapsed() >= at) {
            redis_at = None;
            house.lose_redis();
        }
        if begun.elapsed() >= lasts / 2 + REDIS_AWAY {
            house.find_redis()?;
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    checks::judge(house, &ledger, (&memory, &pace), arguments.smoke).await
}
