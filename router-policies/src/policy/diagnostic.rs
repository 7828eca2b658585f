//! What is wrong with a policy, said so that it can be mended: where, what, and what to do. Rendered here and nowhere
//! else.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, or whatever name the policy text was given.
    pub origin: String,
    /// Line and column from 1, where known. The column counts characters.
    pub position: Option<(usize, usize)>,
    /// The rule it is in, empty outside of rules.
    pub rule: String,
    /// What is wrong: lower case, no full stop, what was written in backticks.
    pub message: String,
    /// How to mend it, empty when the message says it already.
    pub help: String,
}

impl Diagnostic {
    /// What is wrong with the shape of a file.
    pub(super) fn of_toml(error: &toml::de::Error, text: &str, origin: &str) -> Self {
        let message = error.message();
        let at = error.span().map(|span| span.start);
        // Serde names the unknown word first and the known ones after it, each in backticks.
        let mut quoted = message.split('`').skip(1).step_by(2);
        let near = quoted.next().and_then(|word| nearest(word, quoted));
        let help = match near {
            Some(near) if message.starts_with("unknown") => format!("did you mean `{near}`?"),
            _ if at.is_some_and(|at| is_top_level(text, at)) && message.starts_with("unknown") => {
                "it stands at the top of the file, before the first `[…]`".to_owned()
            }
            _ if message == "invalid type: map, expected a sequence"
                && at.and_then(|at| text.get(at..)).is_some_and(|rest| rest.starts_with('[')) =>
            {
                "one of several is written in two brackets: `[[…]]`".to_owned()
            }
            _ if message.ends_with("WrittenAttempt") => "write it like `{ backend = \"role:ar\" }`".to_owned(),
            _ => String::new(),
        };
        let message = message.lines().collect::<Vec<_>>().join(" ");
        let message = match (message.split_once(", expected "), at.and_then(|at| key_before(text, at))) {
            (Some((got, wanted)), Some(key)) if message.starts_with("invalid") => {
                format!("`{key}`: {got}, expected {}", in_words(wanted))
            }
            (None, _) if message == "duplicate key" => match at.map(|at| word_at(text, at)) {
                Some(key) if !key.is_empty() => format!("`{key}` stands twice in this table"),
                _ => message,
            },
            _ => message,
        };
        Diagnostic {
            origin: origin.to_owned(),
            position: at.map(|at| position(text, at)),
            rule: String::new(),
            message,
            help,
        }
    }
}

/// The word that begins at `at`.
fn word_at(text: &str, at: usize) -> &str {
    let rest = text.get(at..).unwrap_or_default();
    rest.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').next().unwrap_or_default()
}

/// Whether a key at `at` is one that a file has before its tables.
fn is_top_level(text: &str, at: usize) -> bool {
    ["about", "include"].contains(&word_at(text, at))
}

/// The key whose value, or the first part of it, begins at `at`.
fn key_before(text: &str, at: usize) -> Option<&str> {
    let before = text.get(..at)?.trim_end_matches(|c: char| c.is_whitespace() || c == '[' || c == '{');
    let key = before.strip_suffix('=')?.trim_end();
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let start = key.rfind(|c: char| !is_part(c)).map_or(0, |before| before + 1);
    key.get(start..).filter(|key| !key.is_empty())
}

/// What serde expects, without names of types.
fn in_words(wanted: &str) -> &str {
    match wanted {
        "u64" => "a whole number from 0 up",
        "a sequence" => "a list: `[…]`",
        wanted if wanted.starts_with("struct ") => "a table: `{ … }`",
        wanted => wanted,
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if !self.rule.is_empty() {
            write!(f, "rule `{}`: ", self.rule)?;
        }
        f.write_str(&self.message)?;
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

/// Every mistake found in a policy; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// In the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// Help for a word that is not among `known`: the nearest of them, or all.
pub(super) fn nearest_help<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// The known word nearest to `word`, when one is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Line and column, from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
