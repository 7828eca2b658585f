//! Dashboards, rules, alerts and documents may name only metrics that the code exports, so that a renamed metric breaks
//! the build and not somebody's night. Must never guess: a name counts as exported only where it stands as a string of
//! its own in `gateway/src/metrics/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const SOURCE: &str = "gateway/src/metrics";
/// Files and folders that name metrics.
const NAMING: [&str; 4] = ["config/grafana", "config/prometheus", "tests/dashboards", "deploy/helm/weir"];
const BEGINNINGS: [&str; 2] = ["weir_", "gen_ai_"];
/// What Prometheus adds to a histogram's name.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// One complaint for each name that nobody exports.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut exported = BTreeSet::new();
    for file in files(&root.join(SOURCE))? {
        exported.extend(strings(&std::fs::read_to_string(&file).with_context(|| file.display().to_string())?));
    }
    let mut complaints = Vec::new();
    for place in NAMING {
        for file in files(&root.join(place))? {
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let shown = file.strip_prefix(root).unwrap_or(&file).display();
            complaints
                .extend(strangers(&text, &exported).map(|name| format!("{shown}: nobody exports the metric `{name}`")));
        }
    }
    Ok(complaints)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Names of metrics that stand as strings of their own.
fn strings(source: &str) -> impl Iterator<Item = String> + '_ {
    source.split('"').skip(1).step_by(2).filter(|text| is_metric(text)).map(str::to_owned)
}

fn is_metric(text: &str) -> bool {
    BEGINNINGS.iter().any(|beginning| text.len() > beginning.len() && text.starts_with(beginning))
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Names in `text` that are not exported. A recording rule's name has a colon and is none.
fn strangers<'a>(text: &'a str, exported: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let known = |name: &str| {
        exported.contains(name) || PARTS.iter().filter_map(|part| name.strip_suffix(part)).any(|n| exported.contains(n))
    };
    text.split(move |c: char| !is_word(c)).filter(move |word| is_metric(word) && !known(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_exports_is_found_and_what_is_exported_is_not() {
        let source = r#"counter("weir_requests_total", "Requests of weir_all kinds.", &["backend"]); histogram("gen_ai_wait_seconds")"#;
        let exported: BTreeSet<String> = strings(source).collect();
        assert_eq!(exported.iter().collect::<Vec<_>>(), ["gen_ai_wait_seconds", "weir_requests_total"]);
        let text = "sum(rate(weir_requests_total[5m])) / weir:requests:rate5m + gen_ai_wait_seconds_bucket - weir_request_total";
        assert_eq!(strangers(text, &exported).collect::<Vec<_>>(), ["weir_request_total"]);
    }

    #[test]
    fn the_repository_keeps_it() {
        let root = crate::metadata::root().expect("a root");
        assert_eq!(check(&root).expect("files"), Vec::<String>::new());
    }
}
