//! From a text to the rows of the weights it touches: words, pairs of words and runs of letters, hashed. The trainer calls
//! this very code, so that training and routing cannot see different things; vectors in the tests hold it, because the
//! shipped weights depend on every bit of it. Must never look further than the window, however long a text is.

use std::cell::Cell;

use crate::features::Features;

/// Bytes looked at from the beginning of a text, and from its end.
const HEAD_BYTES: usize = 1600;
const TAIL_BYTES: usize = 400;
/// Tokens at each end that count as the edge: what is wanted is said there, what it is wanted of stands between.
const EDGE_TOKENS: usize = 14;

/// Rows of each part of the table, which lie behind each other.
pub const ROWS: [usize; 3] = [1 << 15, 1 << 16, 1 << 9];
/// Rows of the table.
pub const ROWS_ALL: usize = ROWS[0] + ROWS[1] + ROWS[2];

/// The rows a text touches, each once, in the order in which they were met.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Grams {
    /// By the edges, by the whole window, and by its measures.
    pub parts: [Vec<u32>; 3],
}

/// A word, a number, a mark, or one letter of a script without spaces.
struct Token {
    hash: u64,
    /// Its letters, as places in the window's letters.
    from: usize,
    to: usize,
    alone: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Lead = 1,
    Trail,
    LeadPair,
    TrailPair,
    Word,
    Pair,
    Three,
    Four,
    Triple,
    Measure,
}

impl Grams {
    /// Reads `text`, and of `features` what says how the text is meant.
    pub fn of(text: &str, features: &Features) -> Grams {
        let (head, tail) = window(text);
        let mut read = Read::new(head.len() + tail.len());
        read.more(head);
        let counts = read.counts;
        read.more(tail);
        let Read { letters, tokens, .. } = read;
        let mut edge = Part::new(0, tokens.len().min(4 * EDGE_TOKENS) * 3);
        let first_last = tokens.len().saturating_sub(EDGE_TOKENS);
        let edges = (0..tokens.len().min(EDGE_TOKENS)).chain(first_last.max(EDGE_TOKENS)..tokens.len());
        for at in edges {
            let token = &tokens[at];
            if at < EDGE_TOKENS {
                edge.add(Kind::Lead, token.hash);
            }
            if at >= first_last {
                edge.add(Kind::Trail, token.hash);
            }
            let Some(next) = tokens.get(at + 1) else { continue };
            let pair = join(token.hash, next.hash);
            if at + 1 < EDGE_TOKENS {
                edge.add(Kind::LeadPair, pair);
            }
            if at >= first_last {
                edge.add(Kind::TrailPair, pair);
            }
        }
        let edge = edge.met();
        let mut body = Part::new(1, letters.len() * 2 + tokens.len() * 2);
        let mut threes = Vec::with_capacity(64);
        for (at, token) in tokens.iter().enumerate() {
            body.add(Kind::Word, token.hash);
            if let Some(next) = tokens.get(at + 1) {
                let pair = join(token.hash, next.hash);
                body.add(Kind::Pair, pair);
                if token.alone
                    && let Some(third) = tokens.get(at + 2)
                {
                    body.add(Kind::Triple, join(pair, third.hash));
                }
            }
            if !token.alone {
                // One letter before and behind: the blanks that end a word.
                let word = &letters[token.from..token.to];
                threes.clear();
                threes.extend(word.windows(3).map(spell));
                threes.iter().for_each(|three| body.add(Kind::Three, *three));
                // Four letters are the three they begin with, and one more.
                let fours = threes.iter().zip(&word[3..]);
                fours.for_each(|(three, last)| body.add(Kind::Four, spell_on(*three, *last)));
            }
        }
        let body = body.met();
        Grams { parts: [edge, body, measures(text, head, tokens.len(), &counts, features)] }
    }
}

/// The first and the last bytes of a text, whole letters only; the second is empty where the first is all.
fn window(text: &str) -> (&str, &str) {
    if text.len() <= HEAD_BYTES + TAIL_BYTES {
        return (text, "");
    }
    let mut head = HEAD_BYTES;
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    let mut tail = text.len() - TAIL_BYTES;
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    (&text[..head], &text[tail..])
}

/// What of a text is read so far.
struct Read {
    /// Small ones, with a blank before and behind each word.
    letters: Vec<char>,
    tokens: Vec<Token>,
    counts: Counts,
}

/// Characters of each kind.
#[derive(Clone, Copy, Default)]
struct Counts {
    digits: u64,
    marks: u64,
    upper: u64,
    line_ends: u64,
    unspaced: u64,
    kana: u64,
}

/// A word whose end was not met.
struct Word {
    from: usize,
    hash: u64,
}

impl Read {
    fn new(bytes: usize) -> Self {
        Read {
            letters: Vec::with_capacity(bytes * 3 / 2),
            tokens: Vec::with_capacity(bytes / 3 + 1),
            counts: Counts::default(),
        }
    }

    /// Cuts into tokens. Letters are lower case, a run of digits is one to three zeros, a run of one mark is one mark.
    fn more(&mut self, text: &str) {
        let mut word: Option<Word> = None;
        let (mut digits, mut mark) = (0_u8, '\0');
        let mut rest = text;
        loop {
            // Nearly all are letters of ASCII, and those stand together.
            let run = rest.bytes().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (run, others) = rest.split_at(run);
            if !run.is_empty() {
                (digits, mark) = (0, '\0');
                let word = word.get_or_insert_with(|| self.begin());
                self.counts.upper += run.bytes().filter(u8::is_ascii_uppercase).count() as u64;
                self.letters.extend(run.bytes().map(|byte| char::from(byte.to_ascii_lowercase())));
                word.hash = run.bytes().fold(word.hash, |hash, byte| spell_on(hash, byte.to_ascii_lowercase().into()));
            }
            let mut others = others.chars();
            let Some(c) = others.next() else { break };
            rest = others.as_str();
            self.count(c);
            if c.is_numeric() {
                digits = (digits + 1).min(4);
                if digits > 3 {
                    continue;
                }
            } else {
                digits = 0;
            }
            if is_unspaced(c) || !c.is_alphanumeric() {
                self.end(word.take());
                if !c.is_whitespace() && c != mark {
                    let from = self.letters.len();
                    self.letters.push(c);
                    self.tokens.push(Token { hash: spell(&[c]), from, to: self.letters.len(), alone: true });
                }
                // A line's end is a mark of its own where it stands twice: paragraphs.
                mark = if c.is_alphanumeric() { '\0' } else { c };
                continue;
            }
            mark = '\0';
            let word = word.get_or_insert_with(|| self.begin());
            let mut put = |letter: char| {
                self.letters.push(letter);
                word.hash = spell_on(word.hash, letter);
            };
            if c.is_numeric() {
                put('0');
            } else {
                c.to_lowercase().for_each(put);
            }
        }
        self.end(word);
    }

    fn begin(&mut self) -> Word {
        let from = self.letters.len();
        self.letters.push(' ');
        Word { from, hash: spell(&[]) }
    }

    fn end(&mut self, word: Option<Word>) {
        if let Some(Word { from, hash }) = word {
            self.letters.push(' ');
            self.tokens.push(Token { hash, from, to: self.letters.len(), alone: false });
        }
    }

    /// One that is no letter of ASCII.
    fn count(&mut self, c: char) {
        let counts = &mut self.counts;
        if c.is_ascii() {
            counts.digits += u64::from(c.is_ascii_digit());
            counts.marks += u64::from(c.is_ascii_punctuation());
            counts.line_ends += u64::from(c == '\n');
        } else {
            counts.upper += u64::from(c.is_uppercase());
            counts.unspaced += u64::from(is_unspaced(c));
            counts.kana += u64::from(matches!(c, '\u{3040}'..='\u{30ff}'));
        }
    }
}

/// Scripts that put no blanks between words.
fn is_unspaced(c: char) -> bool {
    c >= '\u{0e00}'
        && matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Measures of the whole: few values each.
fn measures(text: &str, head: &str, tokens: usize, counts: &Counts, features: &Features) -> Vec<u32> {
    let mut part = Part::new(2, 24);
    let mut measure = |name: u64, value: u64| part.add(Kind::Measure, join(name, value));
    let chars = head.chars().count() as u64;
    let (share, log) = (|part: u64| share_of_hundred(part, chars), log_of);
    measure(1, log(text.len() as u64));
    measure(2, log(counts.line_ends + 1));
    measure(3, share(counts.digits));
    measure(4, share(counts.marks));
    measure(5, share(counts.upper));
    measure(6, (share(counts.unspaced) << 3) | share(counts.kana));
    measure(7, u64::from(text.contains("```")));
    measure(8, u64::from(text.trim_end().ends_with(['?', '？'])));
    measure(9, u64::from(text.contains("\n\n")));
    measure(10, log(tokens as u64));
    measure(11, u64::from(features.tool_needed));
    measure(12, u64::from(features.planning_shape));
    measure(13, u64::from(features.transform_shape));
    measure(14, u64::from(features.structure_demanded));
    measure(15, u64::from(text.contains('?')));
    measure(16, u64::from(features.edit_shape));
    measure(17, u64::from(features.has_code));
    measure(18, u64::from(features.question));
    measure(19, log(features.constraint_words));
    measure(20, log(features.quoted_chars));
    part.met()
}

/// One of few values: how much a part is of the whole.
fn share_of_hundred(part: u64, whole: u64) -> u64 {
    match part * 100 / whole.max(1) {
        0 if part == 0 => 0,
        0..2 => 1,
        2..5 => 2,
        5..10 => 3,
        10..20 => 4,
        _ => 5,
    }
}

fn log_of(value: u64) -> u64 {
    u64::from(u64::BITS - value.leading_zeros())
}

thread_local! {
    /// Bits for the rows of any part, none of them set: a text sets few, and clearing all takes longer than to read it.
    static CLEAR: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// One part of the table: which rows were met.
struct Part {
    at: u32,
    bits: u32,
    seen: Vec<u64>,
    rows: Vec<u32>,
}

impl Part {
    fn new(part: usize, expected: usize) -> Self {
        let at = ROWS[..part].iter().sum::<usize>() as u32;
        let mut seen = CLEAR.take();
        seen.resize(ROWS[1].div_ceil(64), 0);
        Part { at, bits: ROWS[part].trailing_zeros(), seen, rows: Vec::with_capacity(expected) }
    }

    /// The rows that were met.
    fn met(mut self) -> Vec<u32> {
        for row in &self.rows {
            self.seen[(row - self.at) as usize / 64] = 0;
        }
        CLEAR.set(self.seen);
        self.rows
    }

    fn add(&mut self, kind: Kind, value: u64) {
        let row = (mixed(join(kind as u64, value)) >> (64 - self.bits)) as usize;
        let (word, bit) = (row / 64, 1 << (row % 64));
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.rows.push(self.at + row as u32);
        }
    }
}

/// FNV-1a over letters instead of bytes.
fn spell(letters: &[char]) -> u64 {
    letters.iter().fold(0xcbf2_9ce4_8422_2325, |hash, letter| spell_on(hash, *letter))
}

/// With one letter more.
fn spell_on(hash: u64, letter: char) -> u64 {
    (hash ^ u64::from(letter)).wrapping_mul(0x0000_0100_0000_01b3)
}

fn join(first: u64, second: u64) -> u64 {
    (first.rotate_left(29) ^ second).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The last steps of MurmurHash3: every bit of the input moves every bit of the row.
fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[cfg(test)]
mod plain;
