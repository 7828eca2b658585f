//! Words of a text, cut to a stem, and the everyday concepts they stand for. English only: a text in another language
//! matches no concept and so claims nothing. Must never grow into a language model; a trained classifier will take
//! its place.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::LazyLock;

/// Words looked at from the start of a text: what is wanted is said early, and the cost stays small.
const MOST_WORDS: usize = 48;

/// One word of the asked text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Lower case, as written.
    pub(super) plain: String,
    /// Cut so that `lights`, `light`, `lighting` are one.
    pub(super) stem: String,
    /// Whether its sentence ends here.
    pub(super) ends_sentence: bool,
}

/// The first words of a text. A file name (`notes.md`) is one word.
pub(super) fn leading_words(text: &str) -> Vec<Word> {
    text.split_whitespace().flat_map(split_marks).take(MOST_WORDS).collect()
}

/// The words of an identifier or a description, stemmed: `set_light`, `setLight`, `Sets a light.`
pub(super) fn stems(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .flat_map(split_camel)
        .filter(|word| !word.is_empty())
        .map(|word| stem(&word.to_lowercase()))
}

/// A run without spaces, cut at marks. Dots stay inside file names and numbers.
fn split_marks(run: &str) -> impl Iterator<Item = Word> + '_ {
    let ends = run.ends_with(['.', '!', '?']);
    let pieces: Vec<&str> =
        run.split(|c: char| !c.is_alphanumeric() && c != '.' && c != '\'').filter(|piece| !piece.is_empty()).collect();
    let last = pieces.len().saturating_sub(1);
    pieces.into_iter().enumerate().filter_map(move |(index, piece)| {
        let plain = piece.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        let stem = stem(&plain);
        (!plain.is_empty()).then_some(Word { plain, stem, ends_sentence: ends && index == last })
    })
}

fn split_camel(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = rest
            .char_indices()
            .zip(rest.chars().skip(1))
            .find(|((_, before), after)| before.is_lowercase() && after.is_uppercase())
            .map_or(rest.len(), |((at, before), _)| at + before.len_utf8());
        let (head, tail) = rest.split_at(cut);
        rest = tail;
        Some(head)
    })
}

/// A rough stem: good enough to compare two words, not to be read.
pub(super) fn stem(word: &str) -> String {
    let mut stem = word.strip_suffix("'s").unwrap_or(word);
    for ending in ["ing", "ers", "ies", "er", "ed", "es", "s", "e", "y"] {
        if let Some(shorter) = stem.strip_suffix(ending)
            && shorter.chars().count() >= 3
        {
            stem = shorter;
            break;
        }
    }
    stem.to_owned()
}

/// A set of everyday concepts, as bits.
pub(super) type Concepts = u32;

/// Words that mean the same to a household or an assistant: `heat the bath` and `set_thermostat(room, celsius)` share
/// two of them. A word may stand for several.
const GROUPS: &[&str] = &[
    "set turn switch put make change adjust toggle keep",
    "on off",
    "add put note append",
    "create make add note set",
    "set start",
    "light lights lamp lamps",
    "room kitchen bathroom bath bedroom hall hallway office garage cellar attic garden balcony living dining basement nursery porch",
    "thermostat heat heating warm warmer cool cooler degree degrees temperature celsius fahrenheit",
    "timer timers countdown minutes minute seconds alarm clock wake time",
    "remind reminder reminders forget remember",
    "music play song songs album artist playlist hear listen",
    "weather forecast rain raining snow sunny cloudy umbrella windy cold warm",
    "today tomorrow tonight monday tuesday wednesday thursday friday saturday sunday day date when",
    "list lists shopping grocery groceries todo",
    "message messages send text tell notify sms",
    "device devices tv television fan heater oven dishwasher washer vacuum kettle printer radio appliance sprinkler alarm speaker blinds",
    "mail email inbox",
    "calendar meeting appointment event schedule",
    "file files folder directory path filename",
    "run execute exec command shell terminal script",
    "search find look lookup google",
    "web internet online website url page browser",
    "cron schedule recurring every",
];

/// Words that name an everyday act, so a message or tool name that begins with one is about doing it.
const ACTS: &str = "set turn switch put make change adjust toggle create add send play start stop remove delete write \
                    edit update run exec execute open close book schedule cancel move copy save upload apply append";

/// Words that ask for knowledge rather than for an act.
const LOOKUPS: &str = "get read list search find fetch check show lookup query view describe";

/// Asked for every word of every tool; hashed without a seed, as everything here.
static CONCEPTS: LazyLock<HashMap<String, Concepts, BuildHasherDefault<DefaultHasher>>> = LazyLock::new(|| {
    let mut concepts = HashMap::default();
    for (bit, group) in GROUPS.iter().enumerate() {
        for word in group.split_whitespace() {
            *concepts.entry(stem(word)).or_insert(0) |= 1 << bit;
        }
    }
    concepts
});

static ACT_STEMS: LazyLock<Vec<String>> = LazyLock::new(|| ACTS.split_whitespace().map(stem).collect());
static LOOKUP_STEMS: LazyLock<Vec<String>> = LazyLock::new(|| LOOKUPS.split_whitespace().map(stem).collect());

/// The concepts a stem stands for; 0 for most words.
pub(super) fn concepts(stem: &str) -> Concepts {
    CONCEPTS.get(stem).copied().unwrap_or(0)
}

/// Whether a stem names something to be done.
pub(super) fn is_act(stem: &str) -> bool {
    ACT_STEMS.iter().any(|act| act == stem)
}

/// Whether a stem names something to be found out.
pub(super) fn is_lookup(stem: &str) -> bool {
    LOOKUP_STEMS.iter().any(|lookup| lookup == stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_in_many_forms_has_one_stem() {
        for forms in
            [["light", "lights"], ["remind", "reminder"], ["message", "messages"], ["list", "lists"], ["time", "timer"]]
        {
            assert_eq!(stem(forms[0]), stem(forms[1]));
        }
        assert_eq!(stem("on"), "on");
        assert_eq!(stem("is"), "is");
    }

    #[test]
    fn identifiers_and_file_names_are_read_as_people_do() {
        assert_eq!(stems("setLight_now").collect::<Vec<_>>(), ["set", "light", "now"]);
        let words: Vec<String> = leading_words("Read notes.md, please!").into_iter().map(|word| word.plain).collect();
        assert_eq!(words, ["read", "notes.md", "please"]);
    }

    #[test]
    fn every_group_has_a_bit() {
        assert!(GROUPS.len() <= Concepts::BITS as usize);
    }
}
