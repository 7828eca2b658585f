//! Shapes of the asked text that a diffusion model is good at: constraint puzzles, short transforms, text to JSON.
//! Each looks for the material (a grid, edges, a list), not for the word alone: "what is a sudoku" is a question.

use std::borrow::Cow;

use super::words::{Word, any_word, lower};

/// A puzzle or a list beyond this many bytes is no small task any more.
const MOST_BYTES: usize = 4000;

/// A sudoku grid, edges with a start and a goal, or something to plan under constraints.
pub(super) fn is_planning(text: &str) -> bool {
    text.len() <= MOST_BYTES
        && (has_grid(text.lines()) || has_slashed_grid(text) || has_path_question(text) || has_constrained_plan(text))
}

/// A grid written in one line, its rows parted by slashes.
fn has_slashed_grid(text: &str) -> bool {
    text.contains('/')
        && text.split_whitespace().any(|word| word.matches('/').count() >= 3 && has_grid(word.split('/')))
}

/// Cells of the widest puzzle's lines.
const WIDEST: usize = 16;

/// At least four lines in a row of one puzzle width, of digits and blanks.
fn has_grid<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let mut rows = 0;
    let mut width = 0;
    let mut blanks = 0;
    for line in lines {
        let cells = || line.chars().filter(|c| !matches!(c, ' ' | '|' | ',' | '+' | '-' | '\t'));
        let count = cells().take(WIDEST + 1).count();
        // A puzzle of width 4 has no 5 in it; 0 is a blank to some.
        let fits = |digit: u32| digit as usize <= count;
        let is_cell = |c: char| c.to_digit(10).is_some_and(fits) || is_blank_cell(c);
        let is_rule = count == 0 && line.contains('-');
        if is_rule {
            continue;
        }
        if ![4, 6, 9, WIDEST].contains(&count) || !cells().all(is_cell) || (rows > 0 && count != width) {
            rows = 0;
            blanks = 0;
            continue;
        }
        width = count;
        rows += 1;
        blanks += cells().filter(|c| is_blank_cell(*c)).count();
        if rows >= 4 && blanks > 0 {
            return true;
        }
    }
    false
}

fn is_blank_cell(c: char) -> bool {
    matches!(c, '.' | '_' | '?' | '*')
}

/// Two edges or more (`A>B`, `A->B`, `A-B`, `A→B`), and words that ask for the way.
pub(super) fn has_path_question(text: &str) -> bool {
    // Most texts have none.
    if !['-', '>', '→'].iter().any(|arrow| text.contains(*arrow)) {
        return false;
    }
    let edges = text.split_whitespace().filter(|token| is_edge(token)).count();
    if edges < 2 {
        return false;
    }
    let lower = text.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    let asks = ["path", "route", "way", "reach", "shortest", "get"];
    words.any(|word| asks.contains(&word)) || (lower.contains("from ") && lower.contains(" to "))
}

pub(super) fn is_edge(token: &str) -> bool {
    let token = token.trim_matches(|c: char| ",;:.()[]".contains(c));
    ["->", "→", ">", "-"].iter().any(|arrow| {
        token.split_once(arrow).is_some_and(|(from, to)| {
            let node = |name: &str| (1..=3).contains(&name.chars().count()) && name.chars().all(char::is_alphanumeric);
            // Plain numbers around a dash are a range or a date.
            node(from) && node(to) && (*arrow != "-" || !from.chars().any(|c| c.is_ascii_digit()))
        })
    })
}

/// What a plan is named by, among so many words.
pub(super) const PLANS: &[&str] = &["schedule", "plan", "timetable", "assign", "arrange", "allocate", "seat"];
const PLAN_WORDS: usize = 12;

pub(super) const LIMITS: &[&str] = &[
    "before",
    "after",
    "cannot",
    "can't",
    "must",
    "mustn't",
    "constraint",
    "constraints",
    "conflict",
    "exactly",
    "unless",
    "overlap",
    "most",
    "least",
];

/// "schedule …" or "plan …" with two constraints or more.
pub(super) fn has_constrained_plan(text: &str) -> bool {
    let (mut words, mut is_plan, mut limits) = (0, false, 0);
    let decides = |word: &str| {
        words += 1;
        is_plan |= words <= PLAN_WORDS && PLANS.contains(&word);
        limits += usize::from(LIMITS.contains(&word));
        if is_plan { limits > 1 } else { words >= PLAN_WORDS }
    };
    any_word(text, |c| c.is_alphanumeric() || c == '\'', decides) && is_plan
}

/// A short list to be sorted, reversed or deduplicated.
pub(super) fn is_transform(text: &str) -> bool {
    if text.len() > MOST_BYTES {
        return false;
    }
    let (head, payload) = match text.split_once(':') {
        Some((head, payload)) if !payload.trim().is_empty() => (head, payload),
        _ => (text, text),
    };
    names_transform(head) && is_list(payload)
}

fn names_transform(head: &str) -> bool {
    let words = head.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<Cow<'_, str>> = words.take(12).map(lower).collect();
    let alone = |word: &str| {
        [
            "sort",
            "sorted",
            "alphabetical",
            "alphabetically",
            "reverse",
            "reversed",
            "backwards",
            "deduplicate",
            "dedupe",
            "duplicates",
            "unique",
            "repeated",
        ]
        .contains(&word)
    };
    let pairs = [
        ("order", "these"),
        ("turn", "around"),
        ("last", "first"),
        ("word", "once"),
        ("item", "once"),
        ("order", "the"),
    ];
    let has_pair = pairs.iter().any(|(first, second)| {
        words
            .iter()
            .position(|word| word == first)
            .is_some_and(|at| words[at + 1..].iter().take(2).any(|word| word == second))
    });
    words.iter().any(|word| alone(word)) || has_pair
}

/// Words of a short item, at most.
const MOST_WORDS: usize = 4;

/// Three short items or more between commas, semicolons or line ends.
fn is_list(payload: &str) -> bool {
    let mut items = payload.split([',', ';', '\n']).filter(|item| !item.trim().is_empty());
    // The first item may carry the order before it ("sort pear, fig, plum").
    let _first = items.next();
    let is_long = |item: &str| item.split_whitespace().nth(MOST_WORDS).is_some();
    let mut more = 0;
    items.all(|item| {
        more += 1;
        !is_long(item)
    }) && more >= 2
}

/// The text asks for JSON as the form of the answer.
pub(super) fn wants_json(words: &[Word<'_>]) -> bool {
    if !words.iter().any(|word| word.plain == "json") {
        return false;
    }
    let asks = ["what", "why", "how", "is", "are", "explain", "does", "who"];
    if words.first().is_none_or(|word| asks.contains(&&*word.plain)) {
        return false;
    }
    let before = ["as", "to", "in", "into", "valid", "return", "output", "give", "produce", "only", "a", "with"];
    let after = ["with", "object", "only", "containing", "of", "array"];
    // "from csv to json in python" is about a program, not about the answer.
    let program = ["python", "javascript", "rust", "java", "function", "code", "script", "parse", "library"];
    if words.iter().any(|word| program.contains(&&*word.plain)) {
        return false;
    }
    words.iter().enumerate().filter(|(_, word)| word.plain == "json").any(|(at, _)| {
        let preceded = at.checked_sub(1).is_some_and(|before_at| before.contains(&&*words[before_at].plain));
        let followed = words.get(at + 1).is_some_and(|next| after.contains(&&*next.plain));
        preceded || followed
    })
}
