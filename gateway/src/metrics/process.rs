//! The process itself, under the names every Prometheus dashboard knows: memory, processor, files, start; and which build
//! it is. Read when somebody looks. What the system does not tell is left out.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Counter, Gauge, IntGauge};

use super::families::Registry;
use super::{add, gauge};

pub(super) struct ProcessMetrics {
    memory: IntGauge,
    processor: Counter,
    files: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let start = Gauge::new("process_start_time_seconds", "When the process began, in seconds since 1970.")?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        add(registry, start)?.set(since.as_secs_f64());
        let build =
            add(registry, gauge("weir_build_info", "Always 1; the label says which version runs.", &["version"])?)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(ProcessMetrics {
            memory: add(
                registry,
                IntGauge::new("process_resident_memory_bytes", "Memory that is resident, in bytes.")?,
            )?,
            processor: add(registry, Counter::new("process_cpu_seconds_total", "Processor time taken, in seconds.")?)?,
            files: add(registry, IntGauge::new("process_open_fds", "Files and sockets that are open.")?)?,
        })
    }

    /// How it stands now.
    pub(super) fn look(&self) {
        if let Some(bytes) = resident() {
            self.memory.set(bytes);
        }
        if let Some(seconds) = processor_seconds() {
            // It never goes back; two looks at once may be told in either order.
            self.processor.inc_by((seconds - self.processor.get()).max(0.0));
        }
        if let Some(open) = open_files() {
            self.files.set(open);
        }
    }
}

/// `VmRSS:     1234 kB`.
fn resident() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<i64>().ok()? * 1024)
}

/// Without the one that is open to count them.
fn open_files() -> Option<i64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(count.saturating_sub(1)).ok()
}

#[cfg(unix)]
fn processor_seconds() -> Option<f64> {
    // SAFETY: all zeros is a value of this C structure, which holds numbers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for what is written, for as long as the call lasts.
    let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (done == 0).then(|| seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

#[cfg(not(unix))]
fn processor_seconds() -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_has_memory_files_and_a_past() {
        let process = ProcessMetrics::new(&Registry::default()).expect("metrics");
        process.look();
        assert!(process.memory.get() > 1 << 20 && process.files.get() > 2);
        let before = process.processor.get();
        process.look();
        assert!(process.processor.get() >= before && before > 0.0);
    }
}
