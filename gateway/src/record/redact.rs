//! Takes out of a text what must not be kept: keys, e-mail addresses, and whatever the operator's own patterns find. Must
//! never be the only guard: without `content` no text comes here at all.

use std::borrow::Cow;

use regex::Regex;

/// What stands in the place of a find.
const REDACTED: &str = "[redacted]";

/// What is always taken out: keys of well-known makers and of ours, bearer tokens, JSON web tokens, private keys, e-mail
/// addresses.
const ALWAYS: [&str; 6] = [
    r"\b(?:sk|pk|rk|weir|gh[opsu]|github_pat|glpat|xox[abprs]|hf)[-_][-_A-Za-z0-9]{12,}",
    r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[-_A-Za-z0-9]{30,})",
    r"(?i)\bbearer\s+[-._~+/A-Za-z0-9]{8,}=*",
    r"\beyJ[-_A-Za-z0-9]{8,}\.[-_A-Za-z0-9]{8,}\.[-_A-Za-z0-9]*",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
    r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
];

/// The patterns, made once.
#[derive(Debug, Clone)]
pub struct Redactor {
    patterns: Vec<Regex>,
}

/// By the patterns as they are typed.
impl PartialEq for Redactor {
    fn eq(&self, other: &Self) -> bool {
        self.patterns.iter().map(Regex::as_str).eq(other.patterns.iter().map(Regex::as_str))
    }
}

impl Redactor {
    /// The ones of always, and `own` after them.
    ///
    /// # Errors
    /// One of `own` is no regular expression (Rust `regex` syntax): its place, and why.
    pub fn new(own: &[String]) -> Result<Self, (usize, regex::Error)> {
        // A mistake in one of ours would show in the first test.
        let mut patterns: Vec<Regex> = ALWAYS.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect();
        for (place, pattern) in own.iter().enumerate() {
            patterns.push(Regex::new(pattern).map_err(|error| (place, error))?);
        }
        Ok(Redactor { patterns })
    }

    /// The text without them.
    pub fn clean(&self, text: &str) -> String {
        let mut clean = Cow::Borrowed(text);
        for pattern in &self.patterns {
            if let Cow::Owned(changed) = pattern.replace_all(&clean, REDACTED) {
                clean = Cow::Owned(changed);
            }
        }
        clean.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(own: &[&str], text: &str, expect: &str) {
        let own: Vec<String> = own.iter().map(|one| (*one).to_owned()).collect();
        assert_eq!(Redactor::new(&own).expect("patterns").clean(text), expect);
    }

    #[test]
    fn keys_and_addresses_are_always_taken_out() {
        for secret in [
            "sk-proj-0123456789abcdef",
            "weir_plugh-0123456789-0123456789",
            "ghp_0123456789abcdef0123",
            "AKIAIOSFODNN7EXAMPLE",
            "Bearer abcdef.0123456789",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
            "anna.b+c@mail.example.org",
        ] {
            check(&[], &format!("a {secret} z"), "a [redacted] z");
        }
        for plain in ["skateboarding lessons for everyone", "a weir in a river", "7 @ 9", "task-force-meeting-notes"] {
            check(&[], plain, plain);
        }
    }

    #[test]
    fn the_operators_own_patterns_are_heard() {
        check(&[r"locker \d+"], "my locker 7731 is open", "my [redacted] is open");
        let error = Redactor::new(&["ok".to_owned(), "(".to_owned()]).expect_err("no pattern");
        assert_eq!(error.0, 1);
        assert_eq!(Redactor::new(&[]).expect("patterns").patterns.len(), ALWAYS.len(), "ours are all sound");
    }
}
