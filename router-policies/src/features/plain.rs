//! The same words and counts, read the plain way: each walk takes the text apart for itself, by whatever separates its
//! words.

use super::language::{self, Language};
use super::lexicon::{self, Densities};
use super::words::{self, lower};
use super::{code, shapes, sizes};
use proptest::prelude::*;

fn of_letters(text: &str, is_letter: impl Fn(char) -> bool) -> Vec<String> {
    let words = text.split(|c: char| !is_letter(c)).filter(|word| !word.is_empty());
    words.map(|word| lower(word).into_owned()).collect()
}

/// The leading words, and whether a sentence ends with each.
fn leading_words(text: &str) -> Vec<(String, bool)> {
    let mut words = Vec::new();
    for run in text.split_whitespace() {
        let ends = run.ends_with(['.', '!', '?']);
        let pieces = of_letters(run, |c| c.is_alphanumeric() || ".'".contains(c));
        let last = pieces.len().saturating_sub(1);
        for (at, piece) in pieces.iter().enumerate() {
            let plain = piece.trim_matches(|c: char| !c.is_alphanumeric());
            if !plain.is_empty() {
                words.push((plain.to_owned(), ends && at == last));
            }
        }
    }
    words.truncate(48);
    words
}

fn densities(text: &str) -> Densities {
    let (mut all, mut digits, mut chars, mut names) = (Densities::default(), 0, 0, 0);
    let mut before = ".";
    for run in text.split_whitespace() {
        chars += run.chars().count() as u64;
        digits += run.chars().filter(char::is_ascii_digit).count() as u64;
        let bare = run.trim_matches(|c: char| !c.is_alphanumeric());
        if let Some(first) = bare.chars().next() {
            all.words += 1;
            let is_number = bare.chars().all(|c| c.is_ascii_digit() || ".,:-/%".contains(c));
            let is_name = !before.ends_with(['.', '!', '?', ':']) && bare != "I" && first.is_uppercase();
            names += u64::from(is_number || is_name);
            all.constraint_words += u64::from(bare.len() <= 12 && lexicon::CONSTRAINT_WORDS.contains(&&*lower(bare)));
        }
        before = run;
    }
    let percent = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(0);
    Densities { digits_percent: percent(digits, chars), names_percent: percent(names, all.words), ..all }
}

fn by_small_words(text: &str) -> Language {
    let words = of_letters(text, char::is_alphabetic);
    let count = |list: &str| words.iter().filter(|word| list.split(' ').any(|known| known == *word)).count();
    let counts: Vec<usize> = language::SMALL_WORDS.iter().map(|(_, list)| count(list)).collect();
    let best = (0..counts.len()).max_by_key(|at| counts[*at]).expect("a language");
    let is_best = (0..counts.len()).all(|at| at == best || counts[at] < counts[best]);
    let is_enough = match counts[best] {
        1 => language::is_short_sentence(text, words.len()),
        most => most > 1,
    };
    if is_enough && is_best { language::SMALL_WORDS[best].0 } else { Language::Unknown }
}

fn has_constrained_plan(text: &str) -> bool {
    let words = of_letters(text, |c| c.is_alphanumeric() || c == '\'');
    let is_one_of = |list: &[&str], word: &String| list.contains(&word.as_str());
    words.iter().take(12).any(|word| is_one_of(shapes::PLANS, word))
        && words.iter().filter(|word| is_one_of(shapes::LIMITS, word)).count() >= 2
}

fn has_path_question(text: &str) -> bool {
    let edges = text.split_whitespace().filter(|token| shapes::is_edge(token)).count();
    let words = of_letters(&text.to_lowercase(), char::is_alphanumeric);
    let asks = ["path", "route", "way", "reach", "shortest", "get"];
    let lower = text.to_lowercase();
    edges >= 2
        && (words.iter().any(|word| asks.contains(&word.as_str()))
            || (lower.contains("from ") && lower.contains(" to ")))
}

/// Words of every list, and what may stand in, before and behind a word.
fn any_text() -> impl Strategy<Value = String> {
    let known = shapes::PLANS.iter().chain(shapes::LIMITS).chain(lexicon::CONSTRAINT_WORDS).copied();
    let small = language::SMALL_WORDS.iter().flat_map(|(_, list)| list.split(' '));
    let known: Vec<&str> = known.chain(small).chain(["A>B", "b->c", "x-y", "path", "from", "to"]).collect();
    let piece = prop_oneof![
        4 => "[a-z]{1,13}[.,:;!?')-]?",
        4 => (prop::sample::select(known), "[.,:!?'-]?").prop_map(|(word, mark)| word.to_owned() + &mark),
        1 => "[A-Z][a-zA-Z'-]{0,6}[.!?:]?",
        1 => "[0-9.,:/%+-]{1,6}",
        1 => "\\PC{0,6}",
        1 => "[\u{b}\u{85}\u{a0}\u{2003}\u{1c}\t\r\n.'“”ß]{1,4}",
    ];
    prop::collection::vec((piece, prop_oneof![9 => Just(" "), 1 => Just(""), 1 => Just("\n")]), 0..70)
        .prop_map(|pieces| pieces.into_iter().map(|(piece, gap)| piece + gap).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_are_those_read_the_plain_way(text in any_text()) {
        let runs: Vec<&str> = words::runs(&text).map(|run| run.text).collect();
        prop_assert_eq!(runs, text.split_whitespace().collect::<Vec<_>>());
        let read = words::leading_words(&text);
        let told: Vec<(String, bool)> = read.iter().map(|word| (word.plain.to_string(), word.ends_sentence)).collect();
        prop_assert_eq!(told, leading_words(&text));
        for word in &read {
            prop_assert_eq!(sizes::number(&word.plain), by_name(&word.plain).or_else(|| word.plain.parse().ok().filter(|count| *count <= 100_000)));
        }
        prop_assert_eq!(lexicon::densities(words::runs(&text)), densities(&text));
        prop_assert_eq!(language::by_small_words(&text), by_small_words(&text));
        prop_assert_eq!(shapes::has_constrained_plan(&text), has_constrained_plan(&text));
        prop_assert_eq!(shapes::has_path_question(&text), has_path_question(&text));
        let gap = code::GAP_MARKS.iter().any(|mark| text.contains(mark));
        prop_assert_eq!(code::has_gap(&text), gap);
    }
}

fn by_name(word: &str) -> Option<u64> {
    let names = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    (1..).zip(names).find(|(_, name)| *name == word).map(|(count, _)| count)
}
