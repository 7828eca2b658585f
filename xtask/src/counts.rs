//! Adds up what the test runners say they ran. A runner that printed no closing line has run nothing, and that is a
//! failure: silence must never pass for success.

use std::fmt;
use std::ops::AddAssign;

use anyhow::{Result, bail};

/// Tests by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Counts {
    /// With what the runner's own end says. One that died counts as one failure.
    ///
    /// # Errors
    /// `runner` ran nothing.
    pub(crate) fn of_run(mut self, runner: &str, success: bool) -> Result<Self> {
        if self == Counts::default() {
            bail!("{runner} ran no test");
        }
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        Ok(self)
    }
}

/// Sums libtest's `test result: ok. 3 passed; 0 failed; 1 ignored; …` lines.
pub(crate) fn of_cargo(output: &str) -> Counts {
    let mut sum = Counts::default();
    for line in output.lines().filter_map(|line| line.trim().strip_prefix("test result: ")) {
        for part in line.split(['.', ';']).map(str::trim) {
            let Some((number, word)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match word {
                "passed" => sum.passed += number,
                "failed" => sum.failed += number,
                "ignored" => sum.skipped += number,
                _ => {}
            }
        }
    }
    sum
}

/// Reads the closing lines of node's test runner: `# pass 3` (TAP) or `ℹ pass 3` (spec).
pub(crate) fn of_node(output: &str) -> Counts {
    let mut sum = Counts::default();
    for line in output.lines() {
        let mut words = line.split_whitespace();
        let (Some("#" | "ℹ"), Some(word), Some(number), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else { continue };
        match word {
            "pass" => sum.passed += number,
            "fail" | "cancelled" => sum.failed += number,
            "skipped" | "todo" => sum.skipped += number,
            _ => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_lines_are_summed_over_binaries() {
        let output = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
                      finished in 0.01s\nnoise\ntest result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured";
        assert_eq!(of_cargo(output), Counts { passed: 5, failed: 2, skipped: 1 });
    }

    #[test]
    fn node_lines_are_read_in_both_formats() {
        let tap = "ok 1 - a\n# tests 4\n# suites 0\n# pass 2\n# fail 1\n# cancelled 0\n# skipped 1\n# todo 0";
        assert_eq!(of_node(tap), Counts { passed: 2, failed: 1, skipped: 1 });
        assert_eq!(of_node("ℹ pass 7\nℹ fail 0"), Counts { passed: 7, failed: 0, skipped: 0 });
    }

    #[test]
    fn the_closing_line_has_the_agreed_form() {
        assert_eq!(Counts { passed: 3, failed: 0, skipped: 1 }.to_string(), "3 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_runner_that_ran_nothing_or_died_is_no_success() {
        let passed = Counts { passed: 2, ..Counts::default() };
        assert!(Counts::default().of_run("it", true).is_err());
        assert_eq!(passed.of_run("it", true).ok(), Some(passed));
        assert_eq!(passed.of_run("it", false).ok(), Some(Counts { failed: 1, ..passed }));
    }
}
