//! Words of a text, cut to a stem, and the everyday concepts they stand for. English only: a text in another language
//! matches no concept and so claims nothing. Must never grow into a language model; a trained classifier will take
//! its place.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::looked_up::LookedUp;

/// Words looked at from the start of a text: what is wanted is said early, and the cost stays small.
const MOST_WORDS: usize = 48;

/// One word of the asked text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// Lower case, as written.
    pub(super) plain: Cow<'a, str>,
    /// Whether its sentence ends here.
    pub(super) ends_sentence: bool,
}

impl Word<'_> {
    /// Cut so that `lights`, `light`, `lighting` are one.
    pub(super) fn stem(&self) -> &str {
        stem(&self.plain)
    }
}

/// A run without spaces. Nearly all are a word of small letters of ASCII, alone or with one mark behind it: those need not
/// be taken apart by each who reads them.
pub(super) struct Run<'a> {
    pub(super) text: &'a str,
    /// The word, where it is such a run.
    pub(super) word: Option<&'a str>,
}

/// A text cut at white space.
pub(super) fn runs(text: &str) -> impl Iterator<Item = Run<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = match rest.as_bytes() {
            [b' ', b'!'..=b'~', ..] => &rest[1..],
            _ => rest.trim_start(),
        };
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        // An apostrophe is a part of some words.
        let is_mark = |byte: u8| byte.is_ascii_punctuation() && byte != b'\'';
        let (length, is_word) = match &rest.as_bytes()[letters..] {
            [] if letters == 0 => return None,
            [] | [b' ' | b'\n', ..] => (letters, true),
            [mark] | [mark, b' ' | b'\n', ..] if letters > 0 && is_mark(*mark) => (letters + 1, true),
            _ => (rest.find(char::is_whitespace).unwrap_or(rest.len()), false),
        };
        let (run, behind) = rest.split_at(length);
        rest = behind;
        Some(Run { text: run, word: is_word.then(|| &run[..letters]) })
    })
}

/// Whether `is` says so of one of the words, in lower case, that `is_letter` parts. What it says must be true of small
/// letters of ASCII and false of ASCII's marks, the apostrophe apart, and of blanks.
pub(super) fn any_word(text: &str, is_letter: impl Fn(char) -> bool, mut is: impl FnMut(&str) -> bool) -> bool {
    runs(text).any(|run| match run.word {
        Some(word) => is(word),
        None => run.text.split(|c| !is_letter(c)).any(|word| !word.is_empty() && is(&lower(word))),
    })
}

/// The same in lower case, as most words are already.
pub(super) fn lower(word: &str) -> Cow<'_, str> {
    match word.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(word.to_lowercase()),
    }
}

/// The first words of a text. A file name (`notes.md`) is one word.
pub(super) struct Leading<'a>(pub(super) Vec<Word<'a>>);

impl<'a> Leading<'a> {
    pub(super) fn new() -> Self {
        Leading(Vec::with_capacity(MOST_WORDS))
    }

    /// Takes the words of the text's next run; says whether there was room for them.
    pub(super) fn take(&mut self, run: &Run<'a>) -> bool {
        let room = MOST_WORDS.saturating_sub(self.0.len());
        match run.word {
            _ if room == 0 => return false,
            Some(word) => self.0.push(Word { plain: Cow::Borrowed(word), ends_sentence: ends_sentence(run.text) }),
            None => self.0.extend(split_marks(run.text).take(room)),
        }
        true
    }
}

/// The same for who reads nothing else of the text.
pub(super) fn leading_words(text: &str) -> Vec<Word<'_>> {
    let mut leading = Leading::new();
    let _all = runs(text).all(|run| leading.take(&run));
    leading.0
}

fn ends_sentence(run: &str) -> bool {
    run.ends_with(['.', '!', '?'])
}

/// The words of an identifier or a description, stemmed: `set_light`, `setLight`, `Sets a light.`
pub(super) fn stems(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .flat_map(split_camel)
        .filter(|word| !word.is_empty())
        .map(|word| stem(&lower(word)).to_owned())
}

/// A run without spaces, cut at marks. Dots stay inside file names and numbers.
fn split_marks(run: &str) -> impl Iterator<Item = Word<'_>> {
    let ends = ends_sentence(run);
    let pieces = run.split(|c: char| !c.is_alphanumeric() && c != '.' && c != '\'');
    let mut pieces = pieces.filter(|piece| !piece.is_empty()).peekable();
    let next = move || pieces.next().map(|piece| (piece, pieces.peek().is_none()));
    std::iter::from_fn(next).filter_map(move |(piece, is_last)| {
        let plain = lower(piece.trim_matches(|c: char| !c.is_alphanumeric()));
        (!plain.is_empty()).then_some(Word { plain, ends_sentence: ends && is_last })
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
pub(super) fn stem(word: &str) -> &str {
    let word = word.strip_suffix("'s").unwrap_or(word);
    let endings = ["ing", "ers", "ies", "er", "ed", "es", "s", "e", "y"];
    let mut shorter = endings.iter().filter_map(|ending| word.strip_suffix(ending));
    shorter.find(|shorter| shorter.chars().count() >= 3).unwrap_or(word)
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

/// Asked for every word of every tool.
static CONCEPTS: LazyLock<LookedUp<Concepts>> = LazyLock::new(|| {
    let groups = GROUPS.iter().enumerate();
    let words = groups.flat_map(|(bit, group)| group.split_whitespace().map(move |word| (stem(word), 1 << bit)));
    LookedUp::of(words, |concepts, more| *concepts |= more)
});

static ACT_STEMS: LazyLock<Vec<&str>> = LazyLock::new(|| ACTS.split_whitespace().map(stem).collect());
static LOOKUP_STEMS: LazyLock<Vec<&str>> = LazyLock::new(|| LOOKUPS.split_whitespace().map(stem).collect());

/// The concepts a stem stands for; 0 for most words.
pub(super) fn concepts(stem: &str) -> Concepts {
    CONCEPTS.get(stem)
}

/// Whether a stem names something to be done.
pub(super) fn is_act(stem: &str) -> bool {
    ACT_STEMS.contains(&stem)
}

/// Whether a stem names something to be found out.
pub(super) fn is_lookup(stem: &str) -> bool {
    LOOKUP_STEMS.contains(&stem)
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
        let words: Vec<String> =
            leading_words("Read notes.md, please!").into_iter().map(|word| word.plain.into_owned()).collect();
        assert_eq!(words, ["read", "notes.md", "please"]);
    }

    #[test]
    fn every_group_has_a_bit() {
        assert!(GROUPS.len() <= Concepts::BITS as usize);
    }
}
