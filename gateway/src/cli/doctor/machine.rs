//! Processor, kernels and memory. Must never measure: that is what benches are for.

use weir_kernels::packed::{Team, cores};
use weir_kernels::{packed, registry};

use super::{Finding, Subject, bytes};
use crate::memory::{self, field};

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let pinned = subject.settings.as_ref().is_ok_and(|settings| settings.pin_threads);
    let bodies = subject
        .settings
        .as_ref()
        .ok()
        .zip(memory::total())
        .map(|(settings, total)| bodies(settings.server.body_memory as u64, total));
    vec![processor(), kernels(), packed_kernels(), kernel_threads(pinned), memory()].into_iter().chain(bodies).collect()
}

/// What callers' bodies may take of the memory; the engines want some, too.
fn bodies(most: u64, total: u64) -> Finding {
    let text = format!("request bodies in work may take {} of it", bytes(most));
    match most > total / 2 {
        true => Finding::note(text).fix("lower `server.body_memory_mb` (and `server.max_body_bytes`)"),
        false => Finding::ok(text),
    }
}

fn processor() -> Finding {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = field(&info, "model name").unwrap_or("processor of unknown name");
    let features = features();
    let features =
        if features.is_empty() { "no vector instructions that Weir knows".into() } else { features.join(", ") };
    Finding::ok(format!("{name}, {threads} threads: {features}"))
}

/// The instructions that some kernel asks for and this CPU has.
fn features() -> Vec<&'static str> {
    let mut has = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let list = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("avx-vnni", is_x86_feature_detected!("avxvnni")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bw", is_x86_feature_detected!("avx512bw")),
            ("avx512-vnni", is_x86_feature_detected!("avx512vnni")),
            ("avx512-bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        has.extend(list.into_iter().filter(|(_, there)| *there).map(|(name, _)| name));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let list = [
            ("neon", std::arch::is_aarch64_feature_detected!("neon")),
            ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ];
        has.extend(list.into_iter().filter(|(_, there)| *there).map(|(name, _)| name));
    }
    has
}

/// What multiplies weights in few bits.
fn packed_kernels() -> Finding {
    let list: Vec<String> = packed::all()
        .iter()
        .map(|entry| match entry.kernels {
            Some(_) => entry.name.to_owned(),
            None => format!("{} (not on this CPU)", entry.name),
        })
        .collect();
    let best = packed::best().name();
    Finding::ok(format!("packed models would use `{best}`; built in: {}", list.join(", ")))
}

fn kernels() -> Finding {
    let all = registry::all();
    let list: Vec<String> = all
        .iter()
        .map(|entry| match entry.kernels {
            Some(_) => entry.name.to_owned(),
            None => format!("{} (not on this CPU)", entry.name),
        })
        .collect();
    let best = registry::best().name();
    let text = format!("kernels `{best}` would be used; built in: {}", list.join(", "));
    if best == "portable" {
        return Finding::note(text).fix("AVX2 with FMA, or AVX-512, would be several times faster");
    }
    Finding::ok(text)
}

/// What computes, and whether it stays where it is.
fn kernel_threads(pinned: bool) -> Finding {
    let threads = Team::most_threads();
    match (pinned, cores::for_each_of(threads)) {
        (false, _) => Finding::ok(format!("{threads} threads for kernels, on whichever cores are free")),
        (true, Ok(_)) => Finding::ok(format!("{threads} threads for kernels, each of them on a core of its own")),
        (true, Err(why)) => {
            let text = format!("{threads} threads for kernels, and `engine.pin_threads` will not keep them on cores");
            Finding::note(format!("{text}: {why}")).fix("set it to false")
        }
    }
}

fn memory() -> Finding {
    match (memory::total(), memory::available()) {
        (Some(total), Some(free)) => Finding::ok(format!("memory {}, {} available", bytes(total), bytes(free))),
        _ => Finding::note("memory unknown: /proc/meminfo is not there"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn bodies_leave_room_for_the_rest() {
        assert_eq!(bodies(1 << 29, 1 << 32).level, Level::Ok);
        assert_eq!(bodies(1 << 29, 1 << 29).level, Level::Note);
    }
}
