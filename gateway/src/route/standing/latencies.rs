//! Times to the first content, by class of request, for the p95 that hedging waits for. The last 64 of each class,
//! exact: a hedge must not start early because a histogram's bucket was coarse. Must never grow with what callers send.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Samples kept of a class.
const KEPT: usize = 64;
/// Samples without which a p95 means nothing.
const ENOUGH: usize = 20;
/// Most classes: a policy has at most 256 rules, few of them are met.
const CLASSES_MAX: usize = 512;

/// Requests that should take about as long: the rule that sent them, and the prompt's size.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    rule: Arc<str>,
    size: u8,
}

impl Class {
    pub(crate) fn new(rule: &str, prompt_tokens: u64) -> Self {
        let size = [256, 1024, 4096, 16_384].iter().take_while(|most| prompt_tokens > **most).count();
        Class { rule: rule.into(), size: size as u8 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Latencies {
    classes: HashMap<Class, VecDeque<Duration>>,
}

impl Latencies {
    pub(super) fn seen(&mut self, class: &Class, took: Duration) {
        if !self.classes.contains_key(class) && self.classes.len() >= CLASSES_MAX {
            return;
        }
        let samples = self.classes.entry(class.clone()).or_default();
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(took);
    }

    /// What 19 of 20 are not slower than; `None` until enough were seen.
    pub(super) fn p95(&self, class: &Class) -> Option<Duration> {
        let samples = self.classes.get(class).filter(|samples| samples.len() >= ENOUGH)?;
        let mut sorted: Vec<Duration> = samples.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 95).div_ceil(100).saturating_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_p95_of_a_class_is_exact_and_forgets() {
        let class = Class::new("rule", 100);
        let mut latencies = Latencies::default();
        for ms in 1..20 {
            latencies.seen(&class, Duration::from_millis(ms));
        }
        assert_eq!(latencies.p95(&class), None, "19 are not enough");
        latencies.seen(&class, Duration::from_millis(20));
        assert_eq!(latencies.p95(&class), Some(Duration::from_millis(19)));
        assert_eq!(latencies.p95(&Class::new("rule", 2000)), None, "a longer prompt is another class");
        for _ in 0..KEPT {
            latencies.seen(&class, Duration::from_millis(500));
        }
        assert_eq!(latencies.p95(&class), Some(Duration::from_millis(500)));
    }

    #[test]
    fn sizes_fall_into_few_classes() {
        let same = |a, b| Class::new("r", a) == Class::new("r", b);
        assert!(same(0, 256) && same(257, 1024) && same(20_000, 2_000_000));
        assert!(!same(256, 257) && !same(16_384, 16_385));
    }
}
