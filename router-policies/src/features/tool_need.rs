//! Whether the asked text wants something done that an offered tool does. Agents offer tools with every "hi", so that
//! tools are present says nothing; this compares the words of the text with the words of each tool. Must never look at
//! anything but the asked text and the tools.
//!
//! Each tool collects points: its object named (2), its verb (1), a parameter (1 each), words of its description
//! (1 each, 2 at most), and the text's first real word naming the verb (1) or the object (2, as in "weather in oslo").
//! Four points, one of them from the tool's name, make a match. A question ("why is the light on") can only match a
//! tool that looks things up.

use serde_json::Value as Json;
use weir_protocol::Tool;

use super::words::{Concepts, Word, concepts, is_act, is_lookup, stems};

const ENOUGH: u32 = 4;

/// Description read per tool, in bytes: the first sentence says what it does, the rest is instructions to the model.
const DESCRIPTION_BYTES: usize = 160;

/// Said before the request itself.
const POLITE: &[&str] = &[
    "please", "can", "could", "would", "will", "you", "hey", "hi", "hello", "ok", "okay", "i", "want", "need", "to", "like", "we", "just", "now",
    "also", "then", "kindly", "the", "a", "an", "my", "some",
];

/// "tell me a joke" wants an answer, not a message: these words with `me` or `us` name no act.
const TO_THE_ASSISTANT: &[&str] = &["tell", "show", "give", "let", "write", "play", "make", "get", "find"];

/// Said so often that they say nothing about a tool.
const EMPTY_WORDS: &[&str] = &[
    "the", "and", "for", "with", "that", "this", "from", "are", "was", "use", "used", "using", "one", "all", "any", "not", "its", "out", "into", "when",
    "what", "how", "tool", "call", "calls", "return", "returns", "given", "user", "name", "value", "string", "number", "new", "about", "your", "his", "her",
];

const QUESTION_WORDS: &[&str] =
    &["what", "why", "how", "who", "whose", "where", "which", "when", "is", "are", "was", "were", "do", "does", "did", "will", "has", "have"];

/// Whether one of `tools` does what `words` ask for.
pub(super) fn is_needed(words: &[Word], tools: &[Tool]) -> bool {
    let said = Said::of(words);
    !said.words.is_empty() && tools.iter().any(|tool| points(&said, tool) >= ENOUGH)
}

/// The asked words, ready to be compared.
struct Said {
    words: Vec<(String, Concepts)>,
    /// The first word of the request itself.
    lead: Option<(String, Concepts)>,
    question: bool,
}

impl Said {
    fn of(words: &[Word]) -> Self {
        // "will you …" is polite, "will it …" asks.
        let question = match words {
            [first, second, ..] => QUESTION_WORDS.contains(&first.plain.as_str()) && second.plain != "you",
            _ => false,
        };
        let polite = words.iter().take_while(|word| POLITE.contains(&word.plain.as_str())).count();
        let mut rest = &words[polite..];
        if let [verb, to_whom, after @ ..] = rest
            && TO_THE_ASSISTANT.contains(&verb.plain.as_str())
            && ["me", "us"].contains(&to_whom.plain.as_str())
        {
            rest = after;
        }
        let meant = |word: &&Word| !EMPTY_WORDS.contains(&word.plain.as_str()) && (word.plain.len() > 2 || word.plain == "on" || word.plain == "tv");
        let known = |word: &Word| {
            let file = if is_file_name(&word.plain) { concepts("file") } else { 0 };
            (word.stem.clone(), concepts(&word.stem) | file)
        };
        let lead = rest.iter().find(|word| !POLITE.contains(&word.plain.as_str()) && word.plain.parse::<u64>().is_err()).map(known);
        Said { words: rest.iter().filter(meant).map(known).collect(), lead: if question { None } else { lead }, question }
    }

    fn names(&self, stem: &str) -> bool {
        self.words.iter().any(|word| same(word, stem))
    }

    fn leads_with(&self, stem: &str) -> bool {
        self.lead.as_ref().is_some_and(|lead| same(lead, stem))
    }
}

fn points(said: &Said, tool: &Tool) -> u32 {
    let name: Vec<String> = stems(&tool.name).collect();
    let verb = name.first().filter(|stem| is_act(stem) || is_lookup(stem));
    let looks_up = verb.is_some_and(|verb| is_lookup(verb)) || name.iter().any(|stem| is_lookup(stem));
    if said.question && !looks_up {
        return 0;
    }
    let objects = || name.iter().skip(usize::from(verb.is_some())).filter(|stem| stem.len() > 2);
    let verb_said = verb.is_some_and(|verb| said.names(verb)) || (said.question && looks_up);
    let object_said = objects().any(|stem| said.names(stem));
    if !verb_said && !object_said {
        return 0;
    }
    // A leading act names the verb only: "list the planets" is not about `add_to_list`.
    let lead_is_act = said.lead.as_ref().is_some_and(|(stem, _)| is_act(stem) || is_lookup(stem));
    let lead = if objects().any(|stem| said.leads_with(stem) && (!lead_is_act || concepts(stem) != 0 && !literal_lead(said, stem))) {
        2
    } else {
        u32::from(verb.is_some_and(|verb| said.leads_with(verb)))
    };
    let parameters = parameter_names(&tool.parameters).filter(|name| stems(name).any(|stem| said.names(&stem))).count() as u32;
    let described = described(tool).filter(|stem| !name.contains(stem) && said.words.iter().any(|(word, _)| word == stem)).count() as u32;
    2 * u32::from(object_said) + u32::from(verb_said) + lead + parameters + described.min(2)
}

fn same(word: &(String, Concepts), stem: &str) -> bool {
    word.0 == stem || word.1 & concepts(stem) != 0
}

fn literal_lead(said: &Said, stem: &str) -> bool {
    said.lead.as_ref().is_some_and(|(lead, _)| lead == stem)
}

fn parameter_names(schema: &Json) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Json::as_object).into_iter().flatten().map(|(name, _)| name.as_str())
}

/// Distinct stems of the description's beginning.
fn described(tool: &Tool) -> impl Iterator<Item = String> {
    let text = tool.description.as_deref().unwrap_or_default();
    let mut end = text.len().min(DESCRIPTION_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut distinct: Vec<String> = stems(&text[..end]).filter(|stem| stem.len() > 2 && !EMPTY_WORDS.contains(&stem.as_str())).collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.into_iter()
}

/// `notes.md`: letters after a dot.
fn is_file_name(word: &str) -> bool {
    word.rsplit_once('.').is_some_and(|(base, ending)| {
        !base.is_empty() && (1..=5).contains(&ending.len()) && ending.chars().all(|c| c.is_ascii_alphanumeric()) && ending.chars().any(|c| c.is_ascii_alphabetic())
    })
}
