//! The same grams, read the plain way: letter by letter, each run spelled from its beginning. Slow; what the shipped
//! weights were trained with.

use super::{
    EDGE_TOKENS, Features, Grams, Kind, ROWS, ROWS_ALL, is_unspaced, join, log_of, mixed, share_of_hundred, spell,
    window,
};
use proptest::prelude::*;
use weir_protocol::{ChatRequest, Message, Role};

struct Token {
    letters: Vec<char>,
    alone: bool,
}

#[derive(Default)]
struct Rows([Vec<u32>; 3]);

impl Rows {
    fn add(&mut self, part: usize, kind: Kind, value: u64) {
        let at: usize = ROWS[..part].iter().sum();
        let row = at as u64 + (mixed(join(kind as u64, value)) >> (64 - ROWS[part].trailing_zeros()));
        let row = u32::try_from(row).expect("a row");
        if !self.0[part].contains(&row) {
            self.0[part].push(row);
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let (mut tokens, mut word) = (Vec::new(), Vec::new());
    let (mut digits, mut mark) = (0, '\0');
    let end = |word: &mut Vec<char>, tokens: &mut Vec<Token>| {
        if !word.is_empty() {
            tokens.push(Token { letters: std::mem::take(word), alone: false });
        }
    };
    for c in text.chars() {
        digits = if c.is_numeric() { digits + 1 } else { 0 };
        if digits > 3 {
            continue;
        }
        if is_unspaced(c) || !c.is_alphanumeric() {
            end(&mut word, &mut tokens);
            if !c.is_whitespace() && c != mark {
                tokens.push(Token { letters: vec![c], alone: true });
            }
            mark = if c.is_alphanumeric() { '\0' } else { c };
        } else {
            mark = '\0';
            word.extend(c.to_lowercase().map(|letter| if c.is_numeric() { '0' } else { letter }));
        }
    }
    end(&mut word, &mut tokens);
    tokens
}

fn grams(text: &str, features: &Features) -> Grams {
    let mut rows = Rows::default();
    let (head, tail) = window(text);
    let mut all = tokens(head);
    all.extend(tokens(tail));
    let hash = |at: usize| all.get(at).map(|token| spell(&token.letters));
    for at in 0..all.len() {
        let (is_first, is_last) = (at < EDGE_TOKENS, at + EDGE_TOKENS >= all.len());
        let one = hash(at).expect("a token");
        let mut edge = |kind, is_there: bool, value: Option<u64>| {
            value.filter(|_| is_there).into_iter().for_each(|value| rows.add(0, kind, value));
        };
        edge(Kind::Lead, is_first, Some(one));
        edge(Kind::Trail, is_last, Some(one));
        let pair = hash(at + 1).map(|next| join(one, next));
        edge(Kind::LeadPair, at + 1 < EDGE_TOKENS, pair);
        edge(Kind::TrailPair, is_last, pair);
    }
    for (at, token) in all.iter().enumerate() {
        rows.add(1, Kind::Word, spell(&token.letters));
        if let Some(next) = hash(at + 1) {
            let pair = join(spell(&token.letters), next);
            rows.add(1, Kind::Pair, pair);
            if let Some(third) = hash(at + 2).filter(|_| token.alone) {
                rows.add(1, Kind::Triple, join(pair, third));
            }
        }
        if !token.alone {
            let spaced: Vec<char> = format!(" {} ", token.letters.iter().collect::<String>()).chars().collect();
            spaced.windows(3).for_each(|run| rows.add(1, Kind::Three, spell(run)));
            spaced.windows(4).for_each(|run| rows.add(1, Kind::Four, spell(run)));
        }
    }
    let count = |is: &dyn Fn(char) -> bool| head.chars().filter(|c| is(*c)).count() as u64;
    let share = |is: &dyn Fn(char) -> bool| share_of_hundred(count(is), head.chars().count() as u64);
    let kana = share(&|c| ('\u{3040}'..='\u{30ff}').contains(&c));
    let measures = [
        log_of(text.len() as u64),
        log_of(count(&|c| c == '\n') + 1),
        share(&|c| c.is_ascii_digit()),
        share(&|c| c.is_ascii_punctuation()),
        share(&|c| c.is_uppercase()),
        share(&is_unspaced) << 3 | kana,
        u64::from(text.contains("```")),
        u64::from(text.trim_end().ends_with(['?', '？'])),
        u64::from(text.contains("\n\n")),
        log_of(all.len() as u64),
        u64::from(features.tool_needed),
        u64::from(features.planning_shape),
        u64::from(features.transform_shape),
        u64::from(features.structure_demanded),
        u64::from(text.contains('?')),
        u64::from(features.edit_shape),
        u64::from(features.has_code),
        u64::from(features.question),
        log_of(features.constraint_words),
        log_of(features.quoted_chars),
    ];
    (1..).zip(measures).for_each(|(name, value)| rows.add(2, Kind::Measure, join(name, value)));
    Grams { parts: rows.0 }
}

/// Letters, figures and marks of many scripts, and runs of each.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z]{1,9}",
        1 => "[0-9]{1,6}",
        2 => Just(" ".to_owned()),
        1 => "[ \t\n\r\u{b}.,:;!?`'\"-]{1,4}",
        1 => "[a-zäöüßÄÖÜſİıéǅ0-9²½٣०๓]{1,8}",
        1 => "[\u{e01}-\u{e59}\u{3041}-\u{30ff}\u{4e00}-\u{4e20}\u{ac00}-\u{ac20}]{1,5}",
        1 => "\\PC{0,6}",
        1 => Just("```\n\n".to_owned()),
    ];
    prop_oneof![
        8 => prop::collection::vec(piece.clone(), 0..40).prop_map(|pieces| pieces.concat()),
        // Longer than what is looked at.
        1 => (prop::collection::vec(piece, 1..40), 1..200_usize).prop_map(|(pieces, times)| pieces.concat().repeat(times)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn grams_are_those_read_the_plain_way(text in any_text()) {
        let messages = vec![Message::text(Role::User, text.clone())];
        let features = Features::of(&ChatRequest { messages, ..ChatRequest::default() });
        let read = Grams::of(&text, &features);
        prop_assert!(read.parts.iter().flatten().all(|row| (*row as usize) < ROWS_ALL));
        prop_assert_eq!(read, grams(&text, &features));
    }
}
