//! Writes what was measured as a scenario for `weir route simulate`. Must never write a figure that was not measured.

use std::fmt::Write;

use super::super::figures::median;
use super::asking::{Answered, Kind};
use super::fit::Server;

/// The file.
pub(super) fn written(per_s: f64, kinds: &[Kind], answers: &[Answered], servers: &[Server]) -> String {
    let mut out = String::from(
        "# The two built-in nano engines on one machine. Every figure was measured, by `cargo xtask bench simulate`, which wrote\n\
         # this file and says how far the simulation is from the real run (docs/simulate.md).\n",
    );
    // Writing to a String cannot fail.
    let _ = write!(out, "seed = 1\nrequests = 20_000\n\n[arrivals]\nper_s = {per_s:.1}\n");
    for (at, kind) in kinds.iter().enumerate() {
        let own: Vec<&Answered> = answers.iter().filter(|one| one.kind == at).collect();
        let prompt = spread(own.iter().map(|one| one.prompt_tokens));
        let output = spread(own.iter().map(|one| one.output_tokens));
        let _ = write!(
            out,
            "\n[[mix]]\nname = \"{}\"\nshare = {}\nask = {:?}\nfamily = \"{}\"\nprompt_tokens = {prompt}\noutput_tokens = {output}\n",
            kind.name, kind.share, kind.ask, kind.family
        );
    }
    for server in servers {
        let neighbour = servers.iter().find(|other| other.name != server.name).map_or("", |other| &other.name);
        let _ = write!(
            out,
            "\n[[backend]]\nname = \"{name}\"\nrole = \"{name}\"\nconcurrency = 8\nqueue = 64\ncontext_tokens = 2048\n\
             overhead_ms = {:.2}\nprefill_ms_per_1k = {:.1}\nforward_ms = {:.3}\nspread = {:.2}\nslowdown = {:.3}\n\
             slowed_by = {{ {neighbour} = {:.3} }}\n",
            server.overhead_ms,
            server.prefill_ms_per_1k,
            server.forward_ms,
            server.spread,
            server.slowdown,
            server.neighbour,
            name = server.name,
        );
        if server.name == "diffusion" {
            let each = kinds.iter().enumerate().filter_map(|(at, kind)| {
                let own = answers.iter().filter(|one| one.kind == at && one.backend == server.name);
                let per: Vec<f64> = own.map(|one| one.output_tokens / one.forwards).collect();
                (!per.is_empty()).then(|| format!("{} = {:.2}", kind.family, median(per)))
            });
            let _ = writeln!(out, "tokens_per_forward = {{ {} }}", each.collect::<Vec<_>>().join(", "));
        }
    }
    out
}

fn spread(values: impl Iterator<Item = f64>) -> String {
    let values: Vec<f64> = values.collect();
    let logs: Vec<f64> = values.iter().map(|value| value.max(1.0).ln()).collect();
    let count = logs.len().max(1) as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let variance = logs.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / count;
    format!("{{ median = {:.0}, spread = {:.2} }}", median(values).max(1.0), variance.sqrt().min(3.0))
}
