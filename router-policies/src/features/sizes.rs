//! How long the answer will be, roughly, from what the asked text wants. A guess that is right within a factor of two or
//! three: enough to compare a backend that answers at once with one that writes fast. Must never read a caller's
//! `max_tokens` as the answer's length; it is only a cap.

use super::code::Material;
use super::words::Word;

/// What is asked of the answer.
pub(super) struct Wanted<'a> {
    pub(super) words: &'a [Word<'a>],
    pub(super) material: &'a Material,
    pub(super) asked_chars: u64,
    pub(super) edit: bool,
    pub(super) transform: bool,
    pub(super) planning: bool,
    pub(super) structure: bool,
    pub(super) tool: bool,
    pub(super) question: bool,
}

/// Tokens of an answer of each kind; medians of what models write where nothing says how long.
const TOOL_CALL: u64 = 48;
const STRUCTURE: u64 = 96;
const SOLUTION: u64 = 96;
const PROSE: u64 = 280;
const CODE: u64 = 260;
const FACT: u64 = 90;
const ESSAY: u64 = 700;

/// Thirds of a token in one unit that people count in.
const UNITS: &[(&str, u64)] = &[
    ("word", 4),
    ("sentence", 75),
    ("line", 36),
    ("paragraph", 330),
    ("page", 1800),
    ("bullet", 60),
    ("item", 30),
    ("step", 75),
];

pub(super) fn expected_tokens(wanted: &Wanted<'_>) -> u64 {
    if wanted.tool {
        return TOOL_CALL;
    }
    if let Some(said) = said(wanted.words) {
        return said;
    }
    let quoted = (wanted.material.quoted_chars as u64).div_ceil(4);
    let has = |any: &[&str]| wanted.words.iter().take(14).any(|word| any.contains(&&*word.plain));
    if wanted.transform {
        return wanted.asked_chars.div_ceil(4).max(8);
    }
    if wanted.edit || wanted.material.gap {
        return quoted.max(24) + quoted / 8;
    }
    if wanted.planning {
        return SOLUTION;
    }
    if wanted.structure {
        return STRUCTURE;
    }
    if has(&["summarize", "summarise", "summary", "tldr", "recap", "title", "headline", "name"]) {
        return if has(&["title", "headline", "name"]) { 16 } else { (quoted / 4).clamp(40, 300) };
    }
    if has(&["essay", "story", "article", "letter", "blog", "guide", "tutorial", "chapter"]) {
        return ESSAY;
    }
    if has(&["function", "program", "script", "code", "implement", "class", "query", "sql", "regex", "snippet"]) {
        return CODE;
    }
    if wanted.question && wanted.words.len() <= 16 && !has(&["why", "how", "explain"]) {
        return FACT;
    }
    PROSE
}

/// "in 3 sentences", "500 words", "one line".
fn said(words: &[Word<'_>]) -> Option<u64> {
    words.windows(2).find_map(|pair| {
        let count = number(&pair[0].plain)?;
        let unit = pair[1].plain.trim_end_matches('s');
        let (_, thirds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        Some((count.saturating_mul(*thirds) / 3).clamp(4, 32_768))
    })
}

pub(super) fn number(word: &str) -> Option<u64> {
    const NAMES: &[&str] = &["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return word.parse().ok().filter(|count| *count <= 100_000);
    }
    NAMES.iter().position(|name| *name == word).map(|at| at as u64 + 1)
}

#[cfg(test)]
mod tests {
    use crate::features::Features;
    use weir_protocol::{ChatRequest, Message, Role};

    fn tokens(text: &str) -> u64 {
        let messages = vec![Message::text(Role::User, text)];
        Features::of(&ChatRequest { messages, ..ChatRequest::default() }).expected_output_tokens
    }

    #[test]
    fn what_is_said_counts_and_what_is_quoted_comes_back() {
        assert_eq!(tokens("explain monads in 3 sentences"), 75);
        assert_eq!(tokens("write 300 words about bread"), 400);
        let passage = "he go to school every day and he like it much ".repeat(20);
        let edit = tokens(&format!("fix the grammar: {passage}"));
        assert!((200..300).contains(&edit), "{edit}");
        assert!(tokens("what is the capital of france") < tokens("tell me about the history of bread"));
        assert!(tokens("write an essay about bread") > tokens("write a function that adds two numbers"));
    }

    #[test]
    fn a_cap_caps() {
        let messages = vec![Message::text(Role::User, "write an essay about bread")];
        let request = ChatRequest { messages, max_tokens: Some(50), ..ChatRequest::default() };
        assert_eq!(Features::of(&request).expected_output_tokens, 50);
    }
}
