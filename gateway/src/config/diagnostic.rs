//! What is wrong with a config, said so that it can be mended: where it came from, which key, what, and what to do.
//! Must never hold a secret's value.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A file, `environment`, `flag`, or `the embedded default`.
    pub origin: String,
    /// Line in a file, from 1, where known.
    pub line: Option<usize>,
    /// The key as typed there: `server.listen`, `WEIR_SERVER__LISTEN`, `--listen`. Empty for a whole file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it, empty when the message says it already.
    pub help: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if !self.help.is_empty() {
            write!(f, "\n  help: {}", self.help)?;
        }
        Ok(())
    }
}

/// Every mistake found, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Diagnostic>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The known word nearest to `word`, when one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_wants_a_real_likeness() {
        assert_eq!(nearest("lisen", ["listen", "max_in_flight"]), Some("listen"));
        assert_eq!(nearest("zebra", ["listen", "max_in_flight"]), None);
        assert_eq!(nearest("", ["listen"]), None);
    }
}
