//! Grammars that were compiled before: agents send the same tools with every request, and compiling a dozen schemas
//! takes longer than a denoise step of a small model. Kept for each tenant apart, so that no tenant can time which
//! tools another has. Must never give out a matcher that has seen a token.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::Matcher;

/// Most grammars kept, the least recently used leaves.
const MOST: usize = 32;

/// Most bytes of grammar text kept; a larger one is compiled each time.
const MOST_BYTES: usize = 4 << 20;

struct Entry {
    tenant: Arc<str>,
    grammar: String,
    matcher: Matcher,
}

/// The most recent first.
#[derive(Default)]
pub(crate) struct Compiled {
    entries: Mutex<VecDeque<Entry>>,
}

impl Compiled {
    /// A matcher at the start of `grammar`, made by `compile` unless it is known.
    pub(crate) fn matcher(
        &self,
        tenant: &Arc<str>,
        grammar: String,
        compile: impl FnOnce() -> Result<Matcher, String>,
    ) -> Result<Matcher, String> {
        if let Some(matcher) = self.known(tenant, &grammar) {
            return Ok(matcher);
        }
        // Not under the lock: others need not wait, and two that compile the same do no harm.
        let matcher = compile()?;
        self.keep(Entry { tenant: Arc::clone(tenant), grammar, matcher: matcher.deep_clone() });
        Ok(matcher)
    }

    fn known(&self, tenant: &Arc<str>, grammar: &str) -> Option<Matcher> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entries.iter().position(|entry| entry.tenant == *tenant && entry.grammar == grammar)?;
        let entry = entries.remove(at)?;
        let matcher = entry.matcher.deep_clone();
        entries.push_front(entry);
        Some(matcher)
    }

    fn keep(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = MOST_BYTES;
        entries.retain(|kept| kept.tenant != entry.tenant || kept.grammar != entry.grammar);
        entries.push_front(entry);
        entries.truncate(MOST);
        entries.retain(|kept| {
            let fits = kept.grammar.len() <= left;
            left = left.saturating_sub(kept.grammar.len());
            fits
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use llguidance::api::TopLevelGrammar;

    #[test]
    fn a_grammar_is_compiled_once_for_each_tenant_and_comes_back_fresh() {
        let vocabulary = super::super::tests::Bench::new().vocabulary;
        let compiled = Compiled::default();
        let made = Cell::new(0);
        let ask = |tenant: &str, regex: &str| {
            let compile = || {
                made.set(made.get() + 1);
                vocabulary.compile(TopLevelGrammar::from_regex(regex))
            };
            compiled.matcher(&tenant.into(), regex.into(), compile).expect("compiles")
        };
        let token = vocabulary.tokens(b"a")[0];
        for _ in 0..3 {
            let mut matcher = ask("one", "ab");
            assert!(matcher.consume_tokens(&[token]).is_ok(), "at its start");
        }
        assert_eq!(made.get(), 1);
        ask("two", "ab");
        assert_eq!(made.get(), 2, "another tenant's");
        for other in 0..MOST {
            ask("two", &format!("{other}"));
        }
        ask("one", "ab");
        assert_eq!(made.get(), 3 + MOST, "it was the least recently used");
        let large = "x".repeat(MOST_BYTES + 1);
        compiled.keep(Entry { tenant: "one".into(), grammar: large.clone(), matcher: ask("one", "ab") });
        assert!(compiled.known(&"one".into(), &large).is_none(), "too large to be kept");
    }
}
