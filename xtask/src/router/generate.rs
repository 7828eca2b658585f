//! Makes prompts from the patterns: choices made, banks drawn from, grids, numbers and lists made up, and the small dirt
//! of how people type. The same seed makes the same prompts.

use super::templates::{Language, Pattern, Split};
use weir_protocol::{ChatRequest, Message, Role, Tool};
use weir_router_policies::classify::Family;

/// A prompt whose family is known.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) text: String,
    pub(crate) family: Family,
    pub(crate) language: String,
    /// `made`, or the public set it is from.
    pub(crate) source: String,
    pub(crate) split: Split,
    /// Whether an agent's tools are offered beside it.
    pub(crate) tools: bool,
}

impl Sample {
    /// As it would come in.
    pub(crate) fn request(&self) -> ChatRequest {
        ChatRequest {
            messages: vec![Message::text(Role::User, self.text.clone())],
            tools: if self.tools { offered() } else { Vec::new() },
            ..ChatRequest::default()
        }
    }
}

/// The bank of strangers' texts.
const STRANGE: &str = "strange";

/// Longest prompt made, in characters.
const CHARS_MAX: usize = 3000;

/// `of_pattern` prompts of each pattern on the given side. `texts` are strangers' texts, to be worked on in English
/// prompts beside our own few sentences; only training has any.
pub(crate) fn samples(
    languages: &[Language],
    split: Split,
    of_pattern: usize,
    seed: u64,
    texts: &[String],
) -> Vec<Sample> {
    let mut made = Vec::new();
    for language in languages {
        let mut language = language.clone();
        if language.name == "en" && !texts.is_empty() {
            language.banks.insert(STRANGE.to_owned(), texts.to_vec());
        }
        let language = &language;
        for pattern in language.patterns.iter().filter(|pattern| pattern.split == split) {
            // Each pattern has draws of its own: another pattern more or less changes no other prompt.
            let mut dice = Dice(seed ^ super::templates::hash(pattern.text.as_bytes()));
            for _ in 0..of_pattern {
                made.push(sample(language, pattern, &mut dice));
            }
        }
    }
    made
}

fn sample(language: &Language, pattern: &Pattern, dice: &mut Dice) -> Sample {
    let text = fill(&choose(&pattern.text, dice), language, dice, 0);
    let text = dirtied(text, language, dice);
    Sample {
        text: text.chars().take(CHARS_MAX).collect(),
        family: pattern.family,
        language: language.name.clone(),
        source: "made".to_owned(),
        split: pattern.split,
        tools: dice.below(3) == 0,
    }
}

/// Makes every choice of a pattern, innermost last.
fn choose(pattern: &str, dice: &mut Dice) -> String {
    let Some(from) = pattern.find('(') else { return pattern.to_owned() };
    let mut depth = 0;
    let mut parts = vec![from + 1];
    let mut end = None;
    for (at, c) in pattern.char_indices().skip_while(|(at, _)| *at < from) {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth == 1 => parts.push(at + 1),
            _ => {}
        }
        if depth == 0 {
            end = Some(at);
            break;
        }
    }
    // A bracket without an end, or without a choice in it, is meant as it stands.
    let Some(end) = end else { return pattern.to_owned() };
    let before = &pattern[..from];
    if parts.len() == 1 {
        let inner = choose(&pattern[from + 1..end], dice);
        return format!("{before}({inner}){}", choose(&pattern[end + 1..], dice));
    }
    let pick = dice.below(parts.len());
    let stop = parts.get(pick + 1).map_or(end, |next| next - 1);
    let chosen = choose(&pattern[parts[pick]..stop], dice);
    format!("{before}{chosen}{}", choose(&pattern[end + 1..], dice))
}

/// Fills `{name}`; unknown names stay, which [`every_slot_is_known`](tests) forbids.
fn fill(pattern: &str, language: &Language, dice: &mut Dice, depth: usize) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, behind)) = after.split_once('}') else { return out + "{" + after };
        match slot(name, language, dice, depth) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&format!("{{{name}}}")),
        }
        rest = behind;
    }
    out + rest
}

/// Names that are made up instead of drawn from a bank.
#[cfg(test)]
const MADE: [&str; 13] =
    ["n", "m", "x", "text", "long", "list", "grid", "edges", "expr", "time", "date", "clues", "rules"];

#[cfg(test)]
pub(crate) fn is_known(name: &str, language: &Language) -> bool {
    MADE.contains(&name) || language.banks.contains_key(name)
}

fn slot(name: &str, language: &Language, dice: &mut Dice, depth: usize) -> Option<String> {
    Some(match name {
        "n" => (2 + dice.below(11)).to_string(),
        "m" => (15 + dice.below(960)).to_string(),
        "x" => format!("{}.{}", dice.below(90), dice.below(100)),
        "text" => sentences(language, 2 + dice.below(5), dice),
        "long" => sentences(language, 6 + dice.below(22), dice),
        "list" => {
            let bank = language.banks.get("thing")?;
            let count = 3 + dice.below(7);
            let things: Vec<&str> = (0..count).map(|_| dice.of(bank).as_str()).collect();
            things.join(if ["zh", "ja"].contains(&language.name.as_str()) { "、" } else { ", " })
        }
        "clues" => numbered(language.banks.get("clue")?, language, dice),
        "rules" => numbered(language.banks.get("rule")?, language, dice),
        "grid" => grid(dice),
        "edges" => {
            let node = |dice: &mut Dice| char::from(b'A' + dice.below(7) as u8);
            let edges: Vec<String> =
                (0..3 + dice.below(5)).map(|_| format!("{}->{}", node(dice), node(dice))).collect();
            edges.join(", ")
        }
        "expr" => expression(dice, 0),
        "time" => format!("{}:{:02}", dice.below(24), dice.below(12) * 5),
        "date" => format!("{}-{:02}-{:02}", 2019 + dice.below(9), 1 + dice.below(12), 1 + dice.below(28)),
        _ => {
            let bank = language.banks.get(name)?;
            let entry: &String = dice.of(bank);
            let entry = choose_in_bank(entry, dice);
            // An entry may have slots of its own, and those none.
            if depth < 2 { fill(&entry, language, dice, depth + 1) } else { entry }
        }
    })
}

/// Entries of several lines are material (code, tables): their brackets are their own.
fn choose_in_bank(entry: &str, dice: &mut Dice) -> String {
    if entry.contains('\n') || entry.contains("()") { entry.to_owned() } else { choose(entry, dice) }
}

fn sentences(language: &Language, count: usize, dice: &mut Dice) -> String {
    if let Some(texts) = language.banks.get(STRANGE).filter(|_| dice.below(2) == 0) {
        let text: &String = dice.of(texts);
        return text.chars().take(count * 60).collect();
    }
    let Some(bank) = language.banks.get("sentence") else { return String::new() };
    let mut text = String::new();
    for at in 0..count {
        let sentence: &String = dice.of(bank);
        let sentence = choose(sentence, dice);
        text.push_str(&fill(&sentence, language, dice, 1));
        text.push_str(if at + 1 < count && dice.below(7) == 0 { "\n" } else { " " });
    }
    text.trim_end().to_owned()
}

/// Some lines of a bank, numbered, dashed, or run on.
fn numbered(bank: &[String], language: &Language, dice: &mut Dice) -> String {
    let style = dice.below(4);
    let lines: Vec<String> = (0..3 + dice.below(9))
        .map(|at| {
            let line: &String = dice.of(bank);
            let line = fill(line, language, dice, 1);
            match style {
                0 => format!("{}. {line}", at + 1),
                1 => format!("- {line}"),
                2 => format!("({}) {line}", at + 1),
                _ => line,
            }
        })
        .collect();
    lines.join(if style == 3 { " " } else { "\n" })
}

fn grid(dice: &mut Dice) -> String {
    let width = if dice.below(3) == 0 { 9 } else { 4 };
    let blank = *dice.of(&['.', '_', '0']);
    let row = |dice: &mut Dice| -> String {
        let cell = |dice: &mut Dice| {
            if dice.below(2) == 0 { blank } else { char::from(b'1' + dice.below(width) as u8) }
        };
        let cells: Vec<String> = (0..width).map(|_| cell(dice).to_string()).collect();
        cells.join(if dice.below(2) == 0 { " " } else { "" })
    };
    let rows: Vec<String> = (0..width).map(|_| row(dice)).collect();
    rows.join("\n")
}

fn expression(dice: &mut Dice, depth: usize) -> String {
    if depth >= 2 || dice.below(3) == 0 {
        return match dice.below(4) {
            0 => "x".to_owned(),
            1 => format!("{}", 2 + dice.below(98)),
            2 => format!("{}x", 2 + dice.below(8)),
            _ => format!("x^{}", 2 + dice.below(3)),
        };
    }
    let (left, right) = (expression(dice, depth + 1), expression(dice, depth + 1));
    let sign = *dice.of(&["+", "-", "*", "/"]);
    if dice.below(3) == 0 { format!("({left} {sign} {right})") } else { format!("{left} {sign} {right}") }
}

/// How people type: without capitals, marks or accents, with slips, with a greeting before or thanks behind.
fn dirtied(mut text: String, language: &Language, dice: &mut Dice) -> String {
    let empty = Vec::new();
    if dice.below(5) == 0 {
        let before = language.banks.get("before").unwrap_or(&empty);
        if !before.is_empty() {
            let gap = if ["zh", "ja"].contains(&language.name.as_str()) { "" } else { " " };
            text = format!("{}{gap}{text}", dice.of(before));
        }
    }
    if dice.below(7) == 0 {
        let behind = language.banks.get("behind").unwrap_or(&empty);
        if !behind.is_empty() {
            text = format!("{text}{}", dice.of(behind));
        }
    }
    let short = text.chars().count() < 200;
    if short && dice.below(4) == 0 {
        text = text.to_lowercase();
    }
    if dice.below(6) == 0 {
        text = text.trim_end_matches(['.', '?', '!', '。', '？', '！']).to_owned();
    }
    if dice.below(16) == 0 {
        text = text.chars().map(without_accent).collect();
    }
    if dice.below(8) == 0 {
        for _ in 0..1 + dice.below(2) {
            text = slipped(&text, dice);
        }
    }
    text
}

fn without_accent(c: char) -> char {
    match c {
        'à' | 'á' | 'â' | 'ã' | 'ä' => 'a',
        'è' | 'é' | 'ê' | 'ë' => 'e',
        'ì' | 'í' | 'î' | 'ï' => 'i',
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' => 'o',
        'ù' | 'ú' | 'û' | 'ü' => 'u',
        'ç' => 'c',
        'ñ' => 'n',
        'ß' => 's',
        other => other,
    }
}

/// Two neighbouring letters in the wrong order, or one left out.
fn slipped(text: &str, dice: &mut Dice) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    if letters.len() < 8 {
        return text.to_owned();
    }
    let at = dice.below(letters.len() - 1);
    if letters[at].is_alphabetic() && letters[at + 1].is_alphabetic() {
        if dice.below(2) == 0 {
            letters.swap(at, at + 1);
        } else {
            letters.remove(at);
        }
    }
    letters.into_iter().collect()
}

/// What an agent offers every time.
fn offered() -> Vec<Tool> {
    let tool = |name: &str, does: &str, parameters: &[&str]| Tool {
        name: name.to_owned(),
        description: Some(does.to_owned()),
        parameters: serde_json::json!({"type": "object", "properties": parameters.iter()
            .map(|name| ((*name).to_owned(), serde_json::json!({"type": "string"})))
            .collect::<serde_json::Map<_, _>>()}),
        ..Tool::default()
    };
    vec![
        tool("read", "Gives the lines of a workspace file.", &["path"]),
        tool("write", "Puts text into a workspace file.", &["path", "content"]),
        tool("exec", "Runs a shell command.", &["command"]),
        tool("web_search", "Searches the web.", &["query"]),
        tool("cron", "Keeps scheduled jobs.", &["action", "job"]),
        tool("message", "Delivers a message to somebody.", &["target", "body"]),
        tool("set_light", "Switches a lamp on or off.", &["room", "on"]),
    ]
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `count`, which is small and not 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    /// One of `bank`, which is not empty.
    pub(crate) fn of<'a, T>(&mut self, bank: &'a [T]) -> &'a T {
        &bank[self.below(bank.len())]
    }
}
