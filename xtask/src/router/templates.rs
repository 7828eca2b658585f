//! Reads `training/router/*.txt`: sentence patterns of every family in one language, and the words that fill them. A file
//! is made of sections: `= family` begins patterns, one a line; `@ name` begins a bank, one entry a line, or entries
//! parted by lines of `---` where they have several lines. `(a|b|)` in a pattern is a choice, `{name}` is filled.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use weir_router_policies::classify::Family;

/// Which side of the fence a pattern or source is on. A pattern's text is on one side only, in every language and seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    Train,
    /// For the temperature.
    Calibrate,
    /// Never seen in training; the card's figures.
    HeldOut,
}

/// One sentence pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) family: Family,
    pub(crate) text: String,
    pub(crate) split: Split,
}

/// One language.
#[derive(Debug, Clone)]
pub(crate) struct Language {
    pub(crate) name: String,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) banks: BTreeMap<String, Vec<String>>,
}

/// Reads all of them, in the order of their names. `shared.txt` holds banks that every language has.
pub(crate) fn read(folder: &Path) -> Result<Vec<Language>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    files.sort();
    let mut languages = Vec::new();
    let mut shared = BTreeMap::new();
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let language = parse(&name, &text)?;
        if name == "shared" { shared = language.banks } else { languages.push(language) }
    }
    for language in &mut languages {
        for (name, bank) in &shared {
            language.banks.entry(name.clone()).or_insert_with(|| bank.clone());
        }
    }
    Ok(languages)
}

fn parse(name: &str, text: &str) -> Result<Language> {
    let mut patterns: BTreeMap<Family, Vec<String>> = BTreeMap::new();
    let mut banks: BTreeMap<String, String> = BTreeMap::new();
    let mut family = None;
    let mut bank: Option<String> = None;
    for (at, line) in text.lines().enumerate() {
        if let Some(word) = line.strip_prefix("= ") {
            let named = Family::named(word.trim()).with_context(|| format!("{name} line {}: no family", at + 1))?;
            family = Some(named);
            bank = None;
        } else if let Some(word) = line.strip_prefix("@ ") {
            bank = Some(word.trim().to_owned());
            family = None;
        } else if let Some(bank) = &bank {
            let entries = banks.entry(bank.clone()).or_default();
            entries.push_str(line);
            entries.push('\n');
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            let Some(family) = family else { bail!("{name} line {}: outside of any section", at + 1) };
            patterns.entry(family).or_default().push(line.replace("\\n", "\n"));
        }
    }
    let entries = |text: String| -> Vec<String> {
        let parts: Vec<&str> =
            if text.contains("\n---\n") { text.split("\n---\n").collect() } else { text.lines().collect() };
        parts
            .into_iter()
            .map(|part| part.trim_end().replace("\\n", "\n"))
            .filter(|part| !part.trim().is_empty())
            .collect()
    };
    Ok(Language {
        name: name.to_owned(),
        patterns: patterns.into_iter().flat_map(|(family, texts)| parted(family, texts)).collect(),
        banks: banks.into_iter().map(|(name, text)| (name, entries(text))).collect(),
    })
}

/// Of each family's patterns in a language a sixth calibrates and a fifth is held out, chosen by their texts' hash.
fn parted(family: Family, mut texts: Vec<String>) -> Vec<Pattern> {
    texts.sort_by_key(|text| hash(text.as_bytes()));
    let count = texts.len();
    let (held_out, calibrate) = (count.div_ceil(5), count.div_ceil(6));
    let split = |at: usize| {
        if at < held_out {
            Split::HeldOut
        } else if at < held_out + calibrate {
            Split::Calibrate
        } else {
            Split::Train
        }
    };
    texts.into_iter().enumerate().map(|(at, text)| Pattern { family, text, split: split(at) }).collect()
}

/// FNV-1a and a last stir, for order that does not depend on where a pattern stands in its file.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (sum ^ (sum >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
