//! Lists of words in which every word of a text is looked up: a hash and one comparison each, instead of a comparison with
//! every entry. Hashed without a seed, as everything here: lists are part of the program, so nobody can aim at them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Values by word.
#[derive(Debug)]
pub(super) struct LookedUp<T>(HashMap<&'static str, T, BuildHasherDefault<Fnv>>);

impl<T: Copy + Default> LookedUp<T> {
    /// Of words that may stand there more than once: `add` puts their values together.
    pub(super) fn of(words: impl Iterator<Item = (&'static str, T)>, add: impl Fn(&mut T, T)) -> Self {
        let mut all = HashMap::default();
        words.for_each(|(word, value)| add(all.entry(word).or_default(), value));
        LookedUp(all)
    }

    /// That of a word; the default for all others.
    pub(super) fn get(&self, word: &str) -> T {
        self.0.get(word).copied().unwrap_or_default()
    }
}

/// FNV-1a: short words are hashed in as many steps as they have bytes.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
