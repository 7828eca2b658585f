//! Words of constraints and plans, questions, and how dense numbers and names are. English words; numbers and capitals
//! are counted in any language. Must never decide anything: what a count means is for rules and the classifier.

use std::sync::LazyLock;

use super::looked_up::LookedUp;
use super::words::{Run, lower};

/// Said where an answer must satisfy something (`facts/gateways.md` §4.2).
pub(super) const CONSTRAINT_WORDS: &[&str] = &[
    "constraint",
    "constraints",
    "exactly",
    "each",
    "every",
    "none",
    "neither",
    "unless",
    "before",
    "after",
    "between",
    "must",
    "cannot",
    "can't",
    "mustn't",
    "least",
    "most",
    "unique",
    "distinct",
    "adjacent",
    "overlap",
    "conflict",
    "schedule",
    "seat",
    "assign",
    "arrange",
    "allocate",
    "sudoku",
    "countdown",
    "puzzle",
    "satisfy",
    "satisfies",
    "visit",
    "visits",
    "calendar",
    "timetable",
    "route",
    "itinerary",
    "clue",
    "clues",
    "left",
    "right",
    "immediately",
    "grid",
    "row",
    "column",
    "slots",
    "prove",
    "implies",
    "entails",
    "true",
    "false",
    "minimise",
    "minimize",
    "maximize",
];

static CONSTRAINTS: LazyLock<LookedUp<bool>> =
    LazyLock::new(|| LookedUp::of(CONSTRAINT_WORDS.iter().map(|word| (*word, true)), |known, more| *known = more));

/// Figures of one text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Densities {
    pub(super) words: u64,
    pub(super) constraint_words: u64,
    /// Of a hundred characters, those that are digits.
    pub(super) digits_percent: u64,
    /// Of a hundred words, those that are numbers, or capitalised inside a sentence.
    pub(super) names_percent: u64,
}

/// Reads a text once.
pub(super) fn densities<'a>(runs: impl Iterator<Item = Run<'a>>) -> Densities {
    let (mut words, mut constraints, mut names, mut digits, mut chars) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    let mut sentence_starts = true;
    for run in runs {
        let is_constraint = |bare: &str| bare.len() <= 12 && CONSTRAINTS.get(bare);
        let starts = std::mem::replace(&mut sentence_starts, run.text.ends_with(['.', '!', '?', ':']));
        if let Some(bare) = run.word {
            chars += run.text.len() as u64;
            words += 1;
            constraints += u64::from(is_constraint(bare));
            continue;
        }
        let word = run.text;
        chars += word.chars().count() as u64;
        digits += word.bytes().filter(u8::is_ascii_digit).count() as u64;
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if !bare.is_empty() {
            words += 1;
            let is_number = bare.bytes().all(|byte| byte.is_ascii_digit() || b".,:-/%".contains(&byte));
            let is_name = !starts && bare != "I" && bare.chars().next().is_some_and(char::is_uppercase);
            names += u64::from(is_number || is_name);
            constraints += u64::from(bare.len() <= 12 && is_constraint(&lower(bare)));
        }
    }
    Densities {
        words,
        constraint_words: constraints,
        digits_percent: percent(digits, chars),
        names_percent: percent(names, words),
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    (part * 100).checked_div(whole).unwrap_or(0)
}

/// Whether the text asks something instead of wanting something done.
pub(super) fn is_question(text: &str) -> bool {
    const STARTS: &[&str] = &[
        "what", "why", "how", "who", "whose", "where", "which", "when", "is", "are", "was", "were", "do", "does",
        "did", "has", "have", "what's", "who's", "should",
    ];
    let first = text.split_whitespace().next().unwrap_or_default();
    let first = first.trim_matches(|c: char| !c.is_alphanumeric() && c != '\'').to_lowercase();
    STARTS.contains(&first.as_str()) || text.trim_end().ends_with(['?', '？', '؟'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::words::runs;

    fn densities(text: &str) -> Densities {
        super::densities(runs(text))
    }

    #[test]
    fn a_puzzle_is_full_of_constraints_and_names() {
        let puzzle = densities("Seat Ann, Bob and Cleo: Ann must not sit before Bob, each exactly once.");
        assert!(puzzle.constraint_words >= 5, "{puzzle:?}");
        assert!(puzzle.names_percent >= 25, "{puzzle:?}");
        assert_eq!(densities("tell me a joke"), Densities { words: 4, ..Densities::default() });
        assert_eq!(densities("make 24 from 3 8 8 9").digits_percent, 42);
        assert_eq!(densities(""), Densities::default());
    }

    #[test]
    fn questions() {
        assert!(is_question("Why is the sky blue"));
        assert!(is_question("you sure?"));
        assert!(!is_question("turn off the light"));
    }
}
