//! Reads a `/metrics` page: enough of the text format to sum samples by name and labels.

use std::collections::BTreeMap;

/// One page.
#[derive(Debug, Clone, Default)]
pub struct MetricsPage {
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl MetricsPage {
    /// Reads it; lines that are no samples are left out.
    pub fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        MetricsPage { samples: lines.filter_map(sample).collect() }
    }

    /// The sum of all samples of this name whose labels have these values.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |own: &BTreeMap<String, String>| {
            labels.iter().all(|(key, value)| own.get(*key).map(String::as_str) == Some(value))
        };
        self.samples.iter().filter(|(own, its, _)| own == name && fits(its)).map(|(_, _, value)| value).sum()
    }

    /// Whether there is any sample of this name.
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|(own, _, _)| own == name)
    }
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (left, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = left.split_once('{') else {
        return Some((left.to_owned(), BTreeMap::new(), value));
    };
    let labels = labels.strip_suffix('}')?;
    let pairs = labels.split("\",").filter_map(|pair| {
        let (key, value) = pair.split_once("=\"")?;
        Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
    });
    Some((name.to_owned(), pairs.collect(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_labels() {
        let page = MetricsPage::read("# HELP a b\na{x=\"1\",y=\"p q\"} 2\na{x=\"2\",y=\"p q\"} 3\nb 4.5\n");
        assert_eq!(page.sum("a", &[]), 5.0);
        assert_eq!(page.sum("a", &[("x", "2")]), 3.0);
        assert_eq!(page.sum("a", &[("y", "p q")]), 5.0);
        assert_eq!(page.sum("b", &[]), 4.5);
        assert!(!page.has("c"));
    }
}
