//! How far a long command is: a bar on a terminal, else a plain line for each thing done. Goes to standard error, so
//! that results can be piped. Must never decide anything.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Where progress is told.
pub(super) struct Told {
    bar: Option<ProgressBar>,
}

impl Told {
    /// For work of `total` bytes.
    pub(super) fn new(total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            // A template that does not parse shows indicatif's own bar.
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {wide_msg}")
            {
                bar.set_style(style);
            }
            bar
        });
        Told { bar }
    }

    /// `done` bytes are done, the current thing is `what`.
    pub(super) fn at(&self, done: u64, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            if bar.message() != what {
                bar.set_message(what.to_owned());
            }
        }
    }

    /// One thing is done. On a terminal the bar says so already.
    pub(super) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Bytes for people: 1024s, one digit.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit = UNITS.get(unit).unwrap_or(&"B");
    if *unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") }
}
