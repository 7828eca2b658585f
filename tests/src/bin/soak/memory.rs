//! The gateway's resident memory over time, from `/proc`. Whether it is flat: the median of the last fifth against that of
//! the second one; the first belongs to the warming up.

use std::time::Duration;

/// Samples of one process.
pub(crate) struct Memory {
    id: u32,
    samples: Vec<(Duration, u64)>,
}

impl Memory {
    pub(crate) fn of(id: u32) -> Self {
        Memory { id, samples: Vec::new() }
    }

    /// Takes a sample.
    pub(crate) fn look(&mut self, at: Duration) {
        self.samples.extend(resident(self.id).map(|bytes| (at, bytes)));
    }

    /// MiB at the start and in each fifth after it; `None` where nothing could be read.
    pub(crate) fn fifths(&self) -> Option<[f64; 6]> {
        let (start, end) = (self.samples.first()?.1, self.samples.last()?.0);
        let mut found = [mib(start); 6];
        for (part, found) in (0..).zip(found.iter_mut().skip(1)) {
            let fifth = |part: u32| end * part / 5;
            let chosen = self.samples.iter().filter(|(at, _)| (fifth(part)..=fifth(part + 1)).contains(at));
            *found = median(chosen.map(|(_, bytes)| *bytes).collect())?;
        }
        Some(found)
    }

    /// The largest, in MiB.
    pub(crate) fn peak(&self) -> f64 {
        mib(self.samples.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default())
    }
}

fn resident(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn median(mut values: Vec<u64>) -> Option<f64> {
    values.sort_unstable();
    values.get(values.len() / 2).map(|bytes| mib(*bytes))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
