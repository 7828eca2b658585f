//! Whether the asked text wants something done that an offered tool does. Agents offer tools with every "hi", so that
//! tools are present says nothing; this compares the words of the text with the words of each tool. Must never look at
//! anything but the asked text and the tools.
//!
//! Each tool collects points: its object named (2), its verb (1), a parameter (1 each), words of its description
//! (1 each, 2 at most), a number where it takes one (1), its object asked for ("i need …", 1), and the text's first
//! real word naming the verb (1) or the object (2, as in "weather in oslo"). Four points, one of them from the tool's
//! name, make a match. A question ("why is the light on") can only match a tool that looks things up.
//!
//! It is meant to be sure rather than complete: a request it misses goes to a backend that can do everything.

use weir_protocol::Tool;

use super::known_tools::{EMPTY_WORDS, KnownTool, Stem, known};
use super::words::{Concepts, Word, concepts, is_act, is_lookup, leading_words, stem};

const ENOUGH: u32 = 4;

/// Beyond this many words a request must begin with what it wants: in a story some words always match some tool.
const SHORT_WORDS: usize = 12;

const ARTICLES: &[&str] = &["the", "a", "an", "my", "some"];

/// Said before the request itself.
const POLITE: &[&str] = &[
    "please", "can", "could", "would", "will", "you", "hey", "hi", "hello", "ok", "okay", "i", "want", "need", "to",
    "like", "we", "just", "now", "also", "then", "kindly", "the", "a", "an", "my", "some", "don't", "must", "not",
];

/// "tell me a joke" and "tell a story" want an answer, not a message: these words name no act then.
const TO_THE_ASSISTANT: &[&str] = &["tell", "show", "give", "let", "write", "make", "get", "find"];

/// Words that make a wish of what follows.
const WISHES: &[&str] = &["please", "want", "need", "would", "could", "can"];

const QUESTION_WORDS: &[&str] = &[
    "what", "why", "how", "who", "whose", "where", "which", "when", "is", "are", "was", "were", "do", "does", "did",
    "will", "has", "have",
];

/// Whether one of `tools` does what `words` ask for.
pub(super) fn is_needed(words: &[Word<'_>], tools: &[Tool]) -> bool {
    if tools.is_empty() {
        return false;
    }
    let said = Said::of(words);
    !said.words.is_empty() && known(tools).iter().any(|tool| points(&said, tool) >= ENOUGH)
}

/// The tools that may matter for a text, as indices into `tools`, the likeliest first, `most` of them at most. Generous:
/// one word in common is enough.
pub(crate) fn rank(text: &str, tools: &[Tool], most: usize) -> Vec<usize> {
    let words = leading_words(text);
    let said = Said::of(&words);
    let loose = |tool: &KnownTool| {
        let named = tool.name.iter().filter(|stem| stem.text.len() > 2 && said.names(stem)).count() as u32;
        points(&said, tool) * 4 + named * 2 + tool.ranked.iter().filter(|stem| said.names(stem)).count() as u32
    };
    let known = known(tools);
    let mut ranked: Vec<(u32, usize)> = known.iter().map(loose).zip(0..).filter(|(points, _)| *points > 0).collect();
    ranked.sort_by_key(|(points, at)| (std::cmp::Reverse(*points), *at));
    ranked.into_iter().take(most).map(|(_, at)| at).collect()
}

/// The asked words, ready to be compared.
struct Said<'a> {
    words: Vec<(&'a str, Concepts)>,
    /// The first word of the request itself.
    lead: Option<(&'a str, Concepts)>,
    question: bool,
    wish: bool,
    tells: bool,
    after_article: bool,
    /// Words looked at, later sentences included.
    count: usize,
    number: bool,
}

impl<'a> Said<'a> {
    fn of(words: &'a [Word<'a>]) -> Self {
        let greeted = words
            .iter()
            .take_while(|word| ["please", "hey", "hi", "hello", "ok", "okay"].contains(&&*word.plain))
            .count();
        // "will you …" is polite, "will it …" asks.
        let question = match &words[greeted..] {
            [first, second, ..] => QUESTION_WORDS.contains(&&*first.plain) && second.plain != "you",
            _ => false,
        };
        let polite = words.iter().take_while(|word| POLITE.contains(&&*word.plain)).count();
        let wish = words[..polite].iter().chain(words.last()).any(|word| WISHES.contains(&&*word.plain));
        let mut rest = &words[polite..];
        if let [verb, to_whom, after @ ..] = rest {
            let to_us = ["me", "us"].contains(&&*to_whom.plain) && TO_THE_ASSISTANT.contains(&&*verb.plain);
            if to_us || (verb.plain == "tell" && ["a", "an", "about"].contains(&&*to_whom.plain)) {
                rest = after;
            }
        }
        // The first sentence says what is wanted; later ones give reasons, and words that match by accident.
        let sentence = rest.iter().position(|word| word.ends_sentence).map_or(rest.len(), |last| last + 1);
        let in_all = rest.len();
        rest = &rest[..sentence];
        // "a switch is …": after an article no word is an act.
        let after_article = polite.checked_sub(1).is_some_and(|last| ARTICLES.contains(&&*words[last].plain));
        let meant = |word: &&Word<'_>| {
            !EMPTY_WORDS.contains(&&*word.plain) && (word.plain.len() > 2 || word.plain == "on" || word.plain == "tv")
        };
        let known = |word: &'a Word<'a>| {
            let file = if is_file_name(&word.plain) { concepts(stem("file")) } else { 0 };
            (word.stem(), concepts(word.stem()) | file)
        };
        let lead = rest.iter().find(|word| !POLITE.contains(&&*word.plain) && !is_number(word)).map(known);
        // "a switch is used …" tells; "a timer for tea, please" wishes.
        let tells = !wish && after_article && words.first().is_some_and(|word| ["a", "an"].contains(&&*word.plain));
        Said {
            words: rest.iter().filter(meant).map(known).collect(),
            lead: if question { None } else { lead },
            question,
            wish,
            tells,
            after_article,
            count: in_all,
            number: rest.iter().any(is_number),
        }
    }

    fn names(&self, stem: &Stem) -> bool {
        self.words.iter().any(|word| same(word, stem))
    }

    fn leads_with(&self, stem: &Stem) -> bool {
        self.lead.as_ref().is_some_and(|lead| same(lead, stem))
    }
}

fn points(said: &Said<'_>, tool: &KnownTool) -> u32 {
    let (verb, looks_up) = (tool.verb(), tool.looks_up);
    if said.tells || (said.question && !looks_up) {
        return 0;
    }
    let lead_stem = said.lead.map(|(stem, _)| stem);
    let lead_is_act = !said.after_article && lead_stem.is_some_and(is_act);
    let lead_is_lookup = !said.after_article && lead_stem.is_some_and(is_lookup);
    let short = said.count <= SHORT_WORDS;
    // "weather in oslo" and "what is the weather" say `get` without saying it.
    let verb_said = verb.is_some_and(|verb| said.names(verb)) || (looks_up && !lead_is_act);
    let object_said = tool.objects().any(|stem| said.names(stem));
    // Looking up needs a word of the tool's own: its object, or its own verb said outright.
    if !object_said && !verb.is_some_and(|verb| said.names(verb)) {
        return 0;
    }
    let leads_to_object = |stem: &Stem| {
        // A leading verb names no object by its letters ("list the planets", `add_to_list`), only by what it means.
        said.leads_with(stem) && (lead_stem != Some(stem.text.as_str()) || !(lead_is_act || lead_is_lookup))
    };
    let lead = if tool.objects().any(leads_to_object) {
        2
    } else {
        let leads = !said.after_article && verb.is_some_and(|verb| said.leads_with(verb));
        u32::from(leads || (looks_up && lead_is_lookup))
    };
    // A text that begins with another act wants that one; and a verb, a parameter and a word of the description
    // somewhere in a text are an accident.
    if lead == 0 && (lead_is_act || lead_is_lookup || !object_said || !short) {
        return 0;
    }
    let wish = u32::from(said.wish && object_said);
    let number = u32::from(said.number && tool.takes_number);
    let parameters = tool.parameters.iter().filter(|name| name.iter().any(|stem| said.names(stem))).count() as u32;
    let described = tool.described.iter().filter(|stem| said.names(stem)).count() as u32;
    2 * u32::from(object_said) + u32::from(verb_said) + lead + wish + number + parameters + described.min(2)
}

fn same(word: &(&str, Concepts), stem: &Stem) -> bool {
    word.1 & stem.concepts != 0 || word.0 == stem.text
}

fn is_number(word: &Word<'_>) -> bool {
    word.plain.bytes().all(|byte| byte.is_ascii_digit())
}

/// `notes.md`: letters after a dot.
fn is_file_name(word: &str) -> bool {
    word.rsplit_once('.').is_some_and(|(base, ending)| {
        !base.is_empty()
            && (1..=5).contains(&ending.len())
            && ending.chars().all(|c| c.is_ascii_alphanumeric())
            && ending.chars().any(|c| c.is_ascii_alphabetic())
    })
}
