//! Judges an SPDX licence expression against a list. Knows only what expressions of published crates use: names,
//! `WITH`, `AND`, `OR`, `/` (an old `OR`) and brackets; anything else is not allowed.

/// Whether the licence can be met with `list` alone.
pub(super) fn allowed(expression: &str, list: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, list };
    let verdict = reader.any();
    verdict && reader.words.is_empty()
}

struct Reader<'a> {
    words: &'a [&'a str],
    list: &'a [String],
}

impl Reader<'_> {
    fn any(&mut self) -> bool {
        let mut verdict = self.all();
        while self.take("OR") {
            // Read the right side whatever the left one says: `|=` does not stop early.
            verdict |= self.all();
        }
        verdict
    }

    fn all(&mut self) -> bool {
        let mut verdict = self.one();
        while self.take("AND") {
            verdict &= self.one();
        }
        verdict
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let verdict = self.any();
            return self.take(")") && verdict;
        }
        let Some((name, rest)) = self.words.split_first() else { return false };
        self.words = rest;
        let mut name = (*name).to_owned();
        if self.take("WITH")
            && let Some((exception, rest)) = self.words.split_first()
        {
            self.words = rest;
            name = format!("{name} WITH {exception}");
        }
        self.list.contains(&name)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_judged_whole() {
        let list = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].map(str::to_owned);
        let fits = |expression| allowed(expression, &list);
        assert!(fits("MIT"));
        assert!(fits("MIT/Apache-2.0"));
        assert!(fits("GPL-3.0 OR MIT"));
        assert!(fits("(MIT OR GPL-3.0) AND Unicode-3.0"));
        assert!(fits("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
        assert!(!fits("GPL-3.0"));
        assert!(!fits("MIT AND GPL-3.0"));
        assert!(!fits("(MIT"));
        assert!(!fits("MIT Apache-2.0"), "two names without a word between");
        assert!(!fits(""));
    }
}
