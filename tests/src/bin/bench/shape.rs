//! How fast the real forward is on the shape of a real model, with random weights: block forwards alone, after a
//! prefix, several requests in one step, with a pool of experts; prefill; and the autoregressive twin on the same
//! weights. Says what the machine could do at most, measured in the same minute.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use weir_diffusion_engine::speed::{BLOCK, Measured, Request, Roofline, Shape, SpeedModel};
use weir_diffusion_engine::{KvType, Recipe};

use super::chart::{self, Bar};
use super::figures::{median, ms};

/// Tokens per forward that the reports give: none of the gain, threshold, S mode on average, HumanEval+.
const TPF: [f64; 4] = [1.0, 3.0, 5.25, 12.3];

/// What to measure.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `engine` only: a real model's shape with random weights, instead of the embedded models.
    #[arg(long, value_enum)]
    pub(super) shape: Option<ShapeName>,
    /// `engine --shape` only: formats, as for `weir model pack --recipe`.
    #[arg(long, default_value = "q4", value_parser = Recipe::parse)]
    recipe: Recipe,
    /// `engine --shape` only: requests in one step; 1, 2 and 4 when left out.
    #[arg(long)]
    batch: Option<usize>,
    /// `engine --shape` only: tokens in the cache; none and 512 when left out.
    #[arg(long)]
    prefix: Option<usize>,
    /// `engine --shape` only: how K/V is stored.
    #[arg(long, value_enum, default_value = "f32")]
    kv: KvName,
    /// `engine --shape` only: experts a block may visit; all and 48 when left out.
    #[arg(long)]
    pool: Option<usize>,
    /// `engine --shape` only: pages of 4 KB for the weights, as a mapped file has them where the file system knows no large ones.
    #[arg(long)]
    small_pages: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ShapeName {
    /// LLaDA2-mini, 16 billion weights: 9 GB at 4 bits.
    #[value(name = "llada2-mini")]
    Mini,
    /// Its first two layers and its vocabulary: 0.9 GB at 4 bits.
    Slice,
    /// The embedded models' shape, 5 MB in f32: `--recipe f32`.
    Nano,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KvName {
    F32,
    Bf16,
    Int8,
}

impl KvName {
    fn kind(self) -> KvType {
        match self {
            KvName::F32 => KvType::F32,
            KvName::Bf16 => KvType::Bf16,
            KvName::Int8 => KvType::Int8,
        }
    }
}

/// One line of the table.
struct Line {
    name: String,
    requests: usize,
    runs: Vec<Measured>,
}

impl Line {
    fn times(&self) -> Vec<f64> {
        self.runs.iter().map(|run| ms(run.time)).collect()
    }

    /// The run in the middle.
    fn middle(&self) -> Option<&Measured> {
        let mut runs: Vec<&Measured> = self.runs.iter().collect();
        runs.sort_by_key(|run| run.time);
        runs.get(runs.len() / 2).copied()
    }
}

/// Measures, prints, draws; gives name and figures.
pub(super) fn measure(args: &Args, shape: ShapeName, smoke: bool, place: &Path) -> Result<(String, Value)> {
    let (shape, name) = match shape {
        ShapeName::Mini => (Shape::Mini, "llada2-mini"),
        ShapeName::Slice => (Shape::Slice, "slice"),
        ShapeName::Nano => (Shape::Nano, "nano"),
    };
    let reps = if smoke { 2 } else { 7 } * if shape == Shape::Nano { 100 } else { 1 };
    let mut model = SpeedModel::new(shape, args.recipe, args.pool, !args.small_pages)?;
    let (exact, packed, threads) = model.kernels();
    println!(
        "{name}, {}: {:.2} billion weights, {:.2} GB; kernels {exact} and {packed}, {threads} threads",
        args.recipe,
        model.parameters() as f64 / 1e9,
        model.bytes() as f64 / 1e9
    );
    let roofline = model.roofline(if smoke { 64 << 20 } else { 1 << 30 });
    println!(
        "this machine: {:.1} GB/s read, {:.0} GOP/s of 8-bit products",
        roofline.read / 1e9,
        roofline.operations / 1e9
    );

    let prefill = 512;
    let mut lines = Vec::new();
    let prefixes = args.prefix.map_or(vec![0, prefill], |prefix| vec![prefix]);
    let batches = args.batch.map_or(vec![1, 2, 4], |batch| vec![batch.max(1)]);
    let (mut reading, mut written) = (Vec::new(), Vec::new());
    for prefix in &prefixes {
        let mut requests = Vec::new();
        for _ in 0..batches.iter().copied().max().unwrap_or(1) {
            let (request, took) = model.request(*prefix, args.kv.kind())?;
            requests.push(request);
            if *prefix > 0 {
                reading.push(*prefix as f64 / took.as_secs_f64());
            }
        }
        for batch in &batches {
            let name = format!("block of {BLOCK}, {prefix} before, {batch} at once");
            lines.push(blocks(&mut model, name, requests.get_mut(..*batch).unwrap_or_default(), (BLOCK, true), reps)?);
        }
        if args.batch.is_none() {
            let name = format!("block of {BLOCK}, {prefix} before, no logits");
            lines.push(blocks(&mut model, name, requests.get_mut(..1).unwrap_or_default(), (BLOCK, false), reps)?);
            for open in [16, 8, 4] {
                let name = format!("{open} of {BLOCK} open, {prefix} before");
                let requests = requests.get_mut(..1).unwrap_or_default();
                lines.push(blocks(&mut model, name, requests, (open, true), reps)?);
            }
        }
        if args.pool.is_none() {
            model = model.with_pool(Some(48));
            let name = format!("block of {BLOCK}, {prefix} before, pool of 48");
            lines.push(blocks(&mut model, name, requests.get_mut(..1).unwrap_or_default(), (BLOCK, true), reps)?);
            model = model.with_pool(None);
        }
        if args.batch.is_none() && args.pool.is_none() {
            for per_forward in [3, 5] {
                written.push(write(&mut model, &mut requests, *prefix, per_forward)?);
            }
        }
        let request = requests.first_mut().context("a request")?;
        let runs = (0..reps * 3).map(|_| model.token(request)).collect::<Result<Vec<_>, _>>()?;
        lines.push(Line { name: format!("AR twin: one token, {prefix} before"), requests: 0, runs });
    }
    table(&lines, &roofline);
    let speed = median(reading);
    if speed > 0.0 {
        println!("prefill: {speed:.0} tokens/s");
    }
    written.iter().for_each(Written::print);
    breakdown(&lines, &roofline);

    let bars: Vec<Bar> =
        lines.iter().map(|line| Bar { name: line.name.clone(), value: median(line.times()) }).collect();
    let title = format!("Milliseconds per forward: {name}, {}", args.recipe);
    let file = format!("engine-{name}");
    std::fs::create_dir_all(place)?;
    std::fs::write(place.join(format!("{file}.svg")), chart::bars(&title, &bars)).context("the chart")?;
    let figures = json!({
        "shape": name, "recipe": args.recipe.to_string(), "weights": model.parameters(), "bytes": model.bytes(),
        "kernels": [exact, packed], "threads": threads, "pool": args.pool, "small_pages": args.small_pages,
        "read_bytes_per_s": roofline.read, "int8_operations_per_s": roofline.operations,
        "prefill_tokens_per_s": speed, "written": written.iter().map(Written::json).collect::<Vec<_>>(),
        "forwards": lines.iter().map(|line| line_json(line, &roofline)).collect::<Vec<_>>(),
    });
    Ok((file, figures))
}

fn blocks(
    model: &mut SpeedModel,
    name: String,
    requests: &mut [Request],
    (open, logits): (usize, bool),
    reps: usize,
) -> Result<Line> {
    // The first one fills caches and buffers.
    model.block(requests, BLOCK, logits)?;
    let runs = (0..reps).map(|_| model.block(requests, open, logits)).collect::<Result<Vec<_>, _>>()?;
    Ok(Line { name, requests: requests.len(), runs })
}

/// A block from its first forward, which reads the block before, too, to its last.
struct Written {
    prefix: usize,
    per_forward: usize,
    /// Seconds, all of it computed in each forward, and only in the first.
    whole: f64,
    once: f64,
}

fn write(model: &mut SpeedModel, requests: &mut [Request], prefix: usize, per_forward: usize) -> Result<Written> {
    let mut seconds = |refreshes: bool| -> Result<f64> {
        let first = model.block(requests.get_mut(..2).context("two requests")?, BLOCK, true)?;
        let own = requests.get_mut(..1).unwrap_or_default();
        let mut all = first.time.as_secs_f64();
        // What is still open, and what was just written: all that was open a forward before.
        for open in (per_forward + 1..=BLOCK).rev().step_by(per_forward) {
            let computed = if refreshes { BLOCK } else { open };
            all += model.block(own, computed, true)?.time.as_secs_f64();
        }
        Ok(all)
    };
    let (whole, once) = (seconds(true)?, seconds(false)?);
    Ok(Written { prefix, per_forward, whole, once })
}

impl Written {
    fn print(&self) {
        let Written { prefix, per_forward, whole, once } = self;
        let speed = |seconds: f64| BLOCK as f64 / seconds;
        println!(
            "a block, {prefix} before, {per_forward} written a forward: {:.0} ms ({:.1} tokens/s); with refresh_every = {BLOCK} \
             {:.0} ms ({:.1} tokens/s), {:.2} times as fast",
            1e3 * whole,
            speed(*whole),
            1e3 * once,
            speed(*once),
            whole / once
        );
    }

    fn json(&self) -> Value {
        json!({"prefix": self.prefix, "written_per_forward": self.per_forward,
            "whole_ms": 1e3 * self.whole, "refreshed_once_ms": 1e3 * self.once})
    }
}

/// Milliseconds, with as many places as there is to see.
fn short(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.3}") } else { format!("{ms:.1}") }
}

fn table(lines: &[Line], roofline: &Roofline) {
    print!(
        "{:<42} {:>9} {:>9} {:>8} {:>7} {:>7} {:>6}",
        "forward", "median ms", "best ms", "experts", "GB", "GOP", "roof"
    );
    TPF.iter().for_each(|tpf| print!(" {:>9}", format!("TPF {tpf}")));
    println!();
    for line in lines {
        let (all, Some(run)) = (line.times(), line.middle()) else { continue };
        let (bytes, operations) = totals(run);
        let (middle, best) = (median(all.clone()), all.iter().copied().fold(f64::INFINITY, f64::min));
        print!(
            "{:<42} {:>9} {:>9} {:>8.0} {:>7.2} {:>7.1} {:>5.0}%",
            line.name,
            short(middle),
            short(best),
            run.experts,
            bytes / 1e9,
            operations / 1e9,
            100.0 * ideal(run, roofline) / run.time.as_secs_f64()
        );
        match line.requests {
            0 => print!(" {:>9.1}", 1e3 / middle),
            requests => TPF.iter().for_each(|tpf| print!(" {:>9.1}", tpf * requests as f64 * 1e3 / middle)),
        }
        println!();
    }
    println!("TPF columns: tokens a second, of all requests together, at so many tokens per forward.");
}

fn breakdown(lines: &[Line], roofline: &Roofline) {
    let Some(run) = lines.first().and_then(Line::middle) else { return };
    println!("first line, by part:");
    for (name, time, bytes, operations) in &run.parts {
        let seconds = time.as_secs_f64().max(f64::MIN_POSITIVE);
        let (read, done) = (*bytes as f64 / seconds, *operations as f64 / seconds);
        println!(
            "  {name:<20} {:>8.2} ms {:>7.1} GB/s ({:>3.0}%) {:>8.1} GOP/s ({:>3.0}%)",
            ms(*time),
            read / 1e9,
            100.0 * read / roofline.read,
            done / 1e9,
            100.0 * done / roofline.operations
        );
    }
}

fn totals(run: &Measured) -> (f64, f64) {
    run.parts.iter().fold((0.0, 0.0), |(bytes, operations), part| (bytes + part.2 as f64, operations + part.3 as f64))
}

/// Seconds that the parts would take if each read, or multiplied, as fast as the machine can.
fn ideal(run: &Measured, roofline: &Roofline) -> f64 {
    let part = |(_, _, bytes, operations): &(&str, Duration, u64, u64)| {
        (*bytes as f64 / roofline.read).max(*operations as f64 / roofline.operations)
    };
    run.parts.iter().map(part).sum()
}

fn line_json(line: &Line, roofline: &Roofline) -> Value {
    let parts = line.middle().map(|run| {
        let part = |(name, time, bytes, operations): &(&str, Duration, u64, u64)| {
            json!({"part": name, "ms": ms(*time), "bytes": bytes, "operations": operations})
        };
        json!({"experts": run.experts, "roofline_share": ideal(run, roofline) / run.time.as_secs_f64(),
            "parts": run.parts.iter().map(part).collect::<Vec<_>>()})
    });
    let middle = median(line.times());
    let speeds: Vec<Value> = match line.requests {
        0 => vec![json!({"tokens_per_s": 1e3 / middle})],
        requests => {
            TPF.iter().map(|tpf| json!({"tpf": tpf, "tokens_per_s": tpf * requests as f64 * 1e3 / middle})).collect()
        }
    };
    json!({"name": line.name, "median_ms": middle, "ms": line.times(), "speeds": speeds, "middle": parts})
}
