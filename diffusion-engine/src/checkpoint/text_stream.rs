//! Tokens in, text out, as early as it is certain: an incomplete code point waits for its rest, and text that may
//! be the start of a stop text waits until it is not. Must never emit a character twice or part of a stop text.

use super::tokenizer::TextTokenizer;

/// Tokens of a byte-level vocabulary that are read with the next one: three bytes are enough to know where a character
/// begins, whatever came before, and each of these has one at least.
const BYTES_BEFORE: usize = 3;

/// Most tokens that a character is written with where each byte is one: more of them that make none never will.
const LONGEST_CHARACTER: usize = 4;

/// The text of one answer as it grows. What a token costs does not depend on how many came before, nor on whether they
/// make characters.
pub(crate) struct TextStream {
    stops: Vec<String>,
    /// Tokens whose text may still change, after `context` tokens that only give the decoder its surroundings.
    window: Vec<u32>,
    context: usize,
    /// Text of the surroundings by themselves; of a byte-level vocabulary, which needs none, always empty.
    before: String,
    /// Bytes of the text after `before` that were taken already.
    taken: usize,
    /// Text that is certain but may begin a stop text.
    held: String,
}

/// What a token brought.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// Text that is ready, possibly empty.
    pub(crate) text: String,
    /// The stop text that was met: nothing follows.
    pub(crate) stopped: Option<String>,
}

impl TextStream {
    /// For an answer that ends at the first of `stops`; empty ones are ignored.
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        TextStream { stops, window: Vec::new(), context: 0, before: String::new(), taken: 0, held: String::new() }
    }

    /// Adds a token.
    pub(crate) fn push(&mut self, token: u32, tokenizer: &TextTokenizer) -> Progress {
        let alone = tokenizer.decode(&[token]);
        if tokenizer.is_byte_level() {
            // Without text it has no bytes, and changes nothing.
            if !alone.is_empty() {
                self.window.push(token);
                self.push_bytes(tokenizer);
            }
        } else {
            self.window.push(token);
            self.push_piece(token, alone, tokenizer);
        }
        self.release()
    }

    /// Bytes after bytes: what is not UTF-8 is certain at once, but for an end that may be a character's beginning.
    fn push_bytes(&mut self, tokenizer: &TextTokenizer) {
        let text = tokenizer.decode(&self.window);
        let certain = text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(&text).len();
        self.take(&text, certain);
        if self.window.len() > BYTES_BEFORE {
            self.window.drain(..self.window.len() - BYTES_BEFORE);
            // Read from within a character the beginning differs, but not the end.
            self.taken = tokenizer.decode(&self.window).len().saturating_sub(text.len() - certain);
        }
        self.context = self.window.len() - usize::from(certain < text.len());
    }

    /// Pieces, some of which may be bytes. The last one alone is surroundings enough for decoders that join words by
    /// spaces. A byte is none, since what follows would be read together with it, nor is a token without text: then those
    /// from before stay, or all where nothing came before.
    fn push_piece(&mut self, token: u32, alone: String, tokenizer: &TextTokenizer) {
        let is_part =
            alone.is_empty() || alone.contains(char::REPLACEMENT_CHARACTER) || tokenizer.byte(token).is_some();
        if is_part && self.window.len() - self.context > LONGEST_CHARACTER {
            return;
        }
        let (whole, text) = self.read(tokenizer);
        let certain = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
        self.take(&text, certain);
        if certain < text.len() || text.is_empty() {
            return;
        }
        self.taken = 0;
        if !is_part {
            self.window.clear();
            self.window.push(token);
            (self.context, self.before) = (1, alone);
        } else if self.context == 0 {
            (self.context, self.before) = (self.window.len(), whole);
        } else {
            self.window.truncate(self.context);
        }
    }

    /// The window's text with and without that of its surroundings. Bytes that break the character before them change its
    /// text, too; it is gone, so they are read by themselves.
    fn read(&self, tokenizer: &TextTokenizer) -> (String, String) {
        let whole = tokenizer.decode(&self.window);
        let text = match whole.strip_prefix(self.before.as_str()) {
            Some(text) => text.to_owned(),
            None => tokenizer.decode(self.window.get(self.context..).unwrap_or_default()),
        };
        (whole, text)
    }

    /// Bytes of text that are certain but held back, and whether more of the last token is still to come.
    pub(crate) fn held(&self) -> (usize, bool) {
        (self.held.len(), self.window.len() > self.context)
    }

    /// Everything that is left; an incomplete code point comes out as U+FFFD.
    pub(crate) fn finish(&mut self, tokenizer: &TextTokenizer) -> Progress {
        let (_, text) = self.read(tokenizer);
        self.take(&text, text.len());
        let mut progress = self.release();
        if progress.stopped.is_none() {
            progress.text.push_str(&std::mem::take(&mut self.held));
        }
        progress
    }

    fn take(&mut self, text: &str, until: usize) {
        if let Some(new) = text.get(self.taken..until) {
            self.held.push_str(new);
            self.taken = until;
        }
    }

    /// Lets go of what cannot be part of a stop text.
    fn release(&mut self) -> Progress {
        let met = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = met.min_by_key(|(at, stop)| (*at, stop.len())) {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            return Progress { text, stopped: Some(stop.clone()) };
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Progress { text: std::mem::replace(&mut self.held, rest), stopped: None }
    }
}

/// Bytes of the longest end of `text` that is a beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let fits = |length: &usize| stop.is_char_boundary(*length) && text.ends_with(&stop[..*length]);
    (1..stop.len()).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::config::ModelConfig;
    use super::super::open::Checkpoint;
    use super::super::source::{Bytes, Named};
    use super::super::tokenizer::DECODED;
    use super::*;
    use crate::options::ModelFiles;
    use crate::test_files;

    fn tokenizer() -> TextTokenizer {
        let named = |value: serde_json::Value| Named {
            name: "test".into(),
            bytes: Bytes::Owned(value.to_string().into_bytes()),
        };
        let config = ModelConfig::parse(&named(test_files::config_json("llada2_moe"))).expect("config");
        TextTokenizer::parse(&named(test_files::tokenizer_json()), &config).expect("tokenizer")
    }

    /// All pieces of the stream and what stopped it.
    fn run(ids: &[u32], stops: &[String], tokenizer: &TextTokenizer) -> (Vec<String>, Option<String>) {
        let mut stream = TextStream::new(stops);
        let mut pieces = Vec::new();
        for id in ids {
            let progress = stream.push(*id, tokenizer);
            pieces.push(progress.text);
            if progress.stopped.is_some() {
                return (pieces, progress.stopped);
            }
        }
        let last = stream.finish(tokenizer);
        pieces.push(last.text);
        (pieces, last.stopped)
    }

    #[test]
    fn a_code_point_waits_for_its_last_byte() {
        let tokenizer = tokenizer();
        let ids: Vec<u32> = "a😀é".bytes().map(u32::from).collect();
        let (pieces, _) = run(&ids, &[], &tokenizer);
        assert_eq!(pieces, ["a", "", "", "", "😀", "", "é", ""]);
        let (cut, _) = run(&ids[..3], &[], &tokenizer);
        assert_eq!(cut.concat(), "a\u{FFFD}");
    }

    #[test]
    fn what_may_begin_a_stop_text_waits() {
        let tokenizer = tokenizer();
        let ids: Vec<u32> = "ab-x-->c".bytes().map(u32::from).collect();
        let (pieces, stopped) = run(&ids, &["-->".into(), String::new()], &tokenizer);
        assert_eq!((pieces.concat().as_str(), stopped.as_deref()), ("ab-x", Some("-->")));
        assert_eq!(pieces[2], "", "a minus may begin the arrow");
        let (pieces, stopped) = run(&ids[..6], &["-->".into()], &tokenizer);
        assert_eq!((pieces.concat().as_str(), stopped), ("ab-x--", None));
    }

    /// SentencePiece writes characters that it has no token for byte by byte, and reads what neighbours make together.
    #[test]
    fn every_kind_of_vocabulary_streams_what_it_decodes() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dense");
        for name in ["pieces", "prefixed-pieces", "bytes-gpt-2", "bytes-qwen2"] {
            let file = ModelFiles::Dir(fixtures.join(format!("{name}.gguf")));
            let checkpoint = Checkpoint::open(file).expect("opens");
            let config = checkpoint.config().expect("config");
            let tokenizer = checkpoint.tokenizer(&config).expect("tokenizer");
            for text in ["鬱鬱 a", "鬱a鬱", "a 鬱鬱鬱", "🦀🦀鬱 b 🦀\n鬱", "  a 鬱  b", "a鬱"] {
                let ids = tokenizer.encode_plain(text).expect("encodes");
                let (pieces, _) = run(&ids, &[], &tokenizer);
                assert_eq!(pieces.concat(), tokenizer.decode(&ids), "{name}: {text:?} {pieces:?}");
                let stop = text.chars().last().expect("not empty").to_string();
                let (pieces, stopped) = run(&ids, std::slice::from_ref(&stop), &tokenizer);
                let decoded = tokenizer.decode(&ids);
                let before = decoded.split(&stop).next();
                assert_eq!((Some(&*pieces.concat()), stopped), (before, Some(stop)), "{name}: {text:?}");
            }
        }
    }

    /// Bytes that break a character of which the answer has the text already are read by themselves; none of the words
    /// after them is lost.
    #[test]
    fn pieces_that_are_no_characters_cost_no_words() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dense");
        let checkpoint = Checkpoint::open(ModelFiles::Dir(fixtures.join("pieces.gguf"))).expect("opens");
        let config = checkpoint.config().expect("config");
        let tokenizer = checkpoint.tokenizer(&config).expect("tokenizer");
        let byte = |byte: u8| (0..config.vocab as u32).find(|id| tokenizer.byte(*id) == Some(byte)).expect("a byte");
        let word = tokenizer.encode_plain("x").expect("encodes");
        for (text, broken) in [("é", 1), ("🦀", 1), ("🦀", 2), ("鬱", 7), ("é", 400)] {
            let bytes = text.bytes().chain(std::iter::repeat_n(0xFF, broken)).map(byte);
            let ids: Vec<u32> = bytes.chain(word.iter().copied()).collect();
            let lost = "\u{FFFD}".repeat(broken);
            let (pieces, _) = run(&ids, &[], &tokenizer);
            let whole = pieces.concat();
            assert!(whole.starts_with(&format!("{text}{lost}")) && whole.ends_with('x'), "{whole}");
            let (pieces, _) = run(&ids[..ids.len() - word.len()], &[], &tokenizer);
            assert_eq!(pieces.concat(), format!("{text}{lost}"));
            let ids: Vec<u32> = word.iter().copied().chain(ids).collect();
            let (pieces, _) = run(&ids, &[], &tokenizer);
            assert!(pieces.concat().starts_with(&format!("x{text}{lost}")), "{pieces:?}");
        }
        for cycle in [&[0xFF_u8][..], &[0xFF, 0x0A], &[0x0A], &[0xC3, 0xA9], &[0xC3, 0xA9, 0xFF], &[0xF0, 0x9F]] {
            let ids: Vec<u32> = cycle.iter().copied().cycle().take(500).map(byte).collect();
            let before = DECODED.get();
            let (pieces, _) = run(&ids, &[], &tokenizer);
            let decoded = DECODED.get() - before;
            assert!(decoded < 16 * ids.len(), "{cycle:?}: {decoded}");
            let valid = String::from_utf8(cycle.to_vec()).is_ok();
            assert!(!valid || pieces.concat() == tokenizer.decode(&ids), "{cycle:?}");
        }
    }

    /// A caller can force bytes that are no characters, without an end.
    #[test]
    fn a_token_costs_the_same_however_many_made_no_character() {
        let tokenizer = tokenizer();
        for cycle in [&[0xFF_u8][..], &[0xF0], &[0xF0, 0x9F], &[0xA9], &[0xF0, 0x9F, 0xA6, 0xFF], &[0xC3, 0x41]] {
            let ids: Vec<u32> = cycle.iter().copied().cycle().take(500).map(u32::from).collect();
            let mut stream = TextStream::new(&[]);
            let mut text = String::new();
            for id in &ids {
                text.push_str(&stream.push(*id, &tokenizer).text);
                assert!(stream.window.len() <= BYTES_BEFORE, "{cycle:?}");
                assert!(stream.held.is_empty(), "{cycle:?}");
            }
            assert!(tokenizer.decode(&ids).len() - text.len() <= 3, "only the last one waits: {cycle:?}");
            text.push_str(&stream.finish(&tokenizer).text);
            assert_eq!(text, tokenizer.decode(&ids), "{cycle:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_that_rarely_are_characters(bytes in proptest::collection::vec(proptest::sample::select(
            &[0x41u8, 0x80, 0x9F, 0xA0, 0xA6, 0xBF, 0xC0, 0xC3, 0xE0, 0xE4, 0xED, 0xEF, 0xBD, 0xF0, 0xF4, 0xFF][..]), 0..24))
        {
            let tokenizer = tokenizer();
            let ids: Vec<u32> = bytes.into_iter().map(u32::from).collect();
            prop_assert_eq!(run(&ids, &[], &tokenizer).0.concat(), tokenizer.decode(&ids));
        }

        #[test]
        fn the_pieces_are_the_whole(ids in proptest::collection::vec(0u32..267, 0..40)) {
            let tokenizer = tokenizer();
            prop_assert_eq!(run(&ids, &[], &tokenizer).0.concat(), tokenizer.decode(&ids));
        }

        #[test]
        fn stops_cut_at_the_first(ids in proptest::collection::vec(97u32..100, 0..30), stops in proptest::collection::vec("[a-c]{1,4}", 1..3)) {
            let tokenizer = tokenizer();
            let whole = tokenizer.decode(&ids);
            let (pieces, stopped) = run(&ids, &stops, &tokenizer);
            // The stop text that is complete first wins; of those that end together the one that starts first.
            let ends = stops.iter().filter_map(|stop| whole.find(stop.as_str()).map(|at| (at + stop.len(), at, stop.clone())));
            match ends.min() {
                Some((_, at, stop)) => {
                    prop_assert_eq!((pieces.concat(), stopped), (whole[..at].to_owned(), Some(stop)));
                }
                None => prop_assert_eq!((pieces.concat(), stopped), (whole, None)),
            }
        }
    }
}
