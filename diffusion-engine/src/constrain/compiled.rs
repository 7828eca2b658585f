//! Grammars that were compiled before: agents send the same tools with every request, and compiling a dozen schemas
//! takes longer than a denoise step of a small model. What an answer makes the library work out about a grammar's texts
//! stays with it, too, so the second answer's masks come quickly. Kept for each tenant apart, so that no tenant can time
//! which tools another has. Must never give out a matcher that has seen a token.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::{Matcher, TokenParser};

use super::forcing::Cuts;

/// Most grammars kept, the least recently used leaves.
const MOST: usize = 32;

/// Most bytes of grammar text kept; a larger one is compiled each time.
const MOST_BYTES: usize = 4 << 20;

/// Most states of its texts that a kept grammar may have: about a kilobyte each.
const MOST_STATES: usize = 8192;

/// Most memory that what was found out about its texts may take.
const MOST_MEMORY: usize = 32 << 20;

/// A form at its start.
pub(crate) struct Form {
    pub(crate) matcher: Matcher,
    pub(crate) learnt: Arc<Learnt>,
    /// The request's field that demands it.
    pub(crate) field: &'static str,
}

/// What answers of a form have found out about it, for those to come. Nothing of it may change what they say.
#[derive(Default)]
pub(crate) struct Learnt {
    /// Tokens from the form's start to its nearest end.
    pub(crate) shortest: OnceLock<usize>,
    pub(crate) cuts: Cuts,
}

struct Entry {
    tenant: Arc<str>,
    grammar: String,
    /// Shares what it works out with its clones.
    parser: TokenParser,
    learnt: Arc<Learnt>,
}

impl Entry {
    fn form(&self) -> Form {
        let matcher = Matcher::new(Ok(self.parser.clone()));
        Form { matcher, learnt: Arc::clone(&self.learnt), field: "response_format" }
    }

    /// Whether it may be used once more: it has not grown too large, and no answer broke it.
    fn is_sound(&self) -> bool {
        // The library's lock is poisoned where it panicked.
        let stats = catch_unwind(AssertUnwindSafe(|| self.parser.parser.lexer_stats()));
        stats.is_ok_and(|stats| stats.num_states <= MOST_STATES && stats.num_bytes <= MOST_MEMORY && !stats.error)
    }
}

/// The most recent first.
#[derive(Default)]
pub(crate) struct Compiled {
    entries: Mutex<VecDeque<Entry>>,
}

impl Compiled {
    /// `grammar` at its start, made by `compile` unless it is known.
    pub(crate) fn form(
        &self,
        tenant: &Arc<str>,
        grammar: String,
        compile: impl FnOnce() -> Result<TokenParser, String>,
    ) -> Result<Form, String> {
        if let Some(form) = self.known(tenant, &grammar) {
            return Ok(form);
        }
        // Not under the lock: others need not wait, and two that compile the same do no harm.
        let entry = Entry { tenant: Arc::clone(tenant), grammar, parser: compile()?, learnt: Arc::default() };
        let form = entry.form();
        self.keep(entry);
        Ok(form)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.lock().expect("sound").len()
    }

    fn known(&self, tenant: &Arc<str>, grammar: &str) -> Option<Form> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entries.iter().position(|entry| entry.tenant == *tenant && entry.grammar == grammar)?;
        let entry = entries.remove(at).filter(Entry::is_sound)?;
        let form = entry.form();
        entries.push_front(entry);
        Some(form)
    }

    fn keep(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = MOST_BYTES;
        entries.retain(|kept| (kept.tenant != entry.tenant || kept.grammar != entry.grammar) && kept.is_sound());
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
            compiled.form(&tenant.into(), regex.into(), compile).expect("compiles").matcher
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
        let parser = vocabulary.compile(TopLevelGrammar::from_regex("ab")).expect("compiles");
        let entry = Entry { tenant: "one".into(), grammar: large.clone(), parser, learnt: Arc::default() };
        compiled.keep(entry);
        assert!(compiled.known(&"one".into(), &large).is_none(), "too large to be kept");
    }
    #[test]
    fn a_grammar_that_grew_or_broke_is_compiled_again() {
        let vocabulary = super::super::tests::Bench::new().vocabulary;
        let compiled = Compiled::default();
        let made = Cell::new(0);
        let ask = |regex: &str| {
            let compile = || {
                made.set(made.get() + 1);
                vocabulary.compile(TopLevelGrammar::from_regex(regex))
            };
            compiled.form(&"one".into(), regex.into(), compile).expect("compiles").matcher
        };
        let mut broken = ask("ab");
        assert!(broken.test_trigger_lexer_error().is_err(), "the library panics inside its lock");
        assert!(ask("ab").compute_mask().is_ok(), "the next answer does not see it");
        assert_eq!(made.get(), 2);
        // Each distance from the last `a` is a state of its own.
        let grows = "[ab]*a[ab]{14}";
        let (a, b) = (vocabulary.tokens(b"a")[0], vocabulary.tokens(b"b")[0]);
        let mut states = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..40 {
            let mut matcher = ask(grows);
            for _ in 0..1000 {
                states ^= states << 13;
                states ^= states >> 7;
                states ^= states << 17;
                matcher.consume_token(if states & 1 == 0 { a } else { b }).expect("fits");
            }
        }
        assert!(made.get() > 3, "it was compiled {} times", made.get() - 2);
    }
}
