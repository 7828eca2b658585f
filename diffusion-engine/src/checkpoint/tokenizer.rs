//! Text to token ids and back. Control tokens come in by id only: plain text never turns into one, whatever it
//! spells. Must never put text into an error or a log.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::{DecoderWrapper, Tokenizer};
use weir_protocol::EngineError;

use crate::error::LoadError;
use crate::options::EngineKind;

use super::config::ModelConfig;
use super::source::Named;

const MASK: &str = "<|mask|>";
const ENDS: [&str; 2] = ["<|role_end|>", "<|endoftext|>"];

/// Most that the control tokens' lengths, each squared, may come to: all of their endings are kept (see `escape`), and Llama
/// 3's 256 come to a hundredth.
const MOST_CONTROL: usize = 32 << 20;

/// Rows of the published models' vocabulary, and their ids for checkpoints whose tokenizer does not name them
/// (`<|role_end|>`, `<|endoftext|>`). In Ling-2.0 `<|role_end|>` has the number of LLaDA2's mask.
const PUBLISHED_VOCAB: usize = 157_184;
const PUBLISHED_MASK: u32 = 156_895;
const PUBLISHED_ENDS: [u32; 2] = [156_900, 156_892];
const PUBLISHED_AR_ENDS: [u32; 2] = [156_895, 156_892];

/// A checkpoint's tokenizer and the ids the engine acts on.
pub(crate) struct TextTokenizer {
    inner: Tokenizer,
    /// Control tokens, longest text first, so that the first match is the longest.
    specials: Vec<(String, u32)>,
    /// Where each of them stands there.
    special_ids: BTreeMap<u32, usize>,
    /// Ordinary tokens that stand for their own text.
    added: BTreeMap<u32, String>,
    /// Never written by a decoder; present for a diffusion model.
    pub(crate) mask: Option<u32>,
    /// The answer ends at the first of these.
    pub(crate) ends: Vec<u32>,
    /// What a prompt begins with, whether its template says so or not.
    begin: Option<u32>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json`; every id must be below the config's vocabulary.
    pub(crate) fn parse(file: &Named, config: &ModelConfig) -> Result<Self, LoadError> {
        let wrong = |field: &str, message: String| LoadError::Tokenizer {
            file: file.name.clone(),
            field: field.to_owned(),
            message,
        };
        // The library asserts on some malformed files where it could return an error.
        let parsed = catch_unwind(AssertUnwindSafe(|| Tokenizer::from_bytes(&*file.bytes)));
        let mut inner = match parsed {
            Ok(Ok(inner)) => inner,
            Ok(Err(error)) => return Err(wrong("(whole file)", error.to_string())),
            Err(_) => return Err(wrong("(whole file)", "the tokenizer library rejects it".into())),
        };
        // Settings for training batches; here they would cut or pad prompts.
        inner.with_truncation(None).map_err(|error| wrong("truncation", error.to_string()))?.with_padding(None);
        inner.set_encode_special_tokens(true);

        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0) as usize;
        if largest >= config.vocab {
            let message = format!("id {largest} in a model with vocab_size {}", config.vocab);
            return Err(wrong("model.vocab / added_tokens", message));
        }
        let named = inner.get_added_tokens_decoder().into_iter().filter(|(_, token)| !token.content.is_empty());
        let (special, plain): (Vec<_>, Vec<_>) = named.partition(|(_, token)| token.special);
        let added = plain.into_iter().map(|(id, token)| (id, token.content)).collect();
        let mut specials: Vec<(String, u32)> = special.into_iter().map(|(id, token)| (token.content, id)).collect();
        specials.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        if specials.iter().map(|(text, _)| text.len() * text.len()).sum::<usize>() > MOST_CONTROL {
            return Err(wrong("added_tokens", "the texts of its control tokens are too long".into()));
        }
        let special_ids: BTreeMap<u32, usize> = specials.iter().zip(0..).map(|((_, id), at)| (*id, at)).collect();

        let published = config.vocab == PUBLISHED_VOCAB;
        let diffusion = config.kind == EngineKind::Diffusion;
        let by_text = |text: &str| inner.token_to_id(text);
        let mask = by_text(MASK).or((published && diffusion).then_some(PUBLISHED_MASK));
        if diffusion && mask.is_none() {
            return Err(wrong("added_tokens", format!("`{MASK}` is missing")));
        }
        let mut ends: Vec<u32> = match &config.dense {
            Some(dense) => dense.ends.clone(),
            None => ENDS.into_iter().filter_map(by_text).collect(),
        };
        let begin = config.dense.as_ref().and_then(|dense| dense.begin);
        if ends.is_empty() && published {
            ends.extend(if diffusion { PUBLISHED_ENDS } else { PUBLISHED_AR_ENDS });
        }
        if ends.is_empty() {
            return Err(wrong("added_tokens", format!("none of {ENDS:?} is present")));
        }
        Ok(TextTokenizer { inner, specials, special_ids, added, mask, ends, begin })
    }

    /// A prompt with the token that it must begin with.
    pub(crate) fn begun(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(begin) = self.begin.filter(|begin| ids.first() != Some(begin)) {
            ids.insert(0, begin);
        }
        ids
    }

    /// Control tokens' texts, longest first.
    pub(crate) fn special_texts(&self) -> impl Iterator<Item = &str> {
        self.specials.iter().map(|(text, _)| text.as_str())
    }

    /// Id of the control token at `index` of [`TextTokenizer::special_texts`].
    pub(crate) fn special_id(&self, index: usize) -> Option<u32> {
        self.specials.get(index).map(|(_, id)| *id)
    }

    /// Text of the control token `id`.
    pub(crate) fn special_text(&self, id: u32) -> Option<&str> {
        self.specials.get(*self.special_ids.get(&id)?).map(|(text, _)| text.as_str())
    }

    /// The bytes that token `id` stands for in an answer, if it is an ordinary token of a byte-level vocabulary.
    /// `None` for control tokens and for ids without a token.
    pub(crate) fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        if self.special_ids.contains_key(&id) {
            return None;
        }
        if let Some(added) = self.added.get(&id) {
            return Some(added.clone().into_bytes());
        }
        self.inner.id_to_token(id)?.chars().map(byte_of).collect()
    }

    /// Whether every byte has its own character in the vocabulary, as in GPT-2's and LLaDA2's.
    pub(crate) fn is_byte_level(&self) -> bool {
        matches!(self.inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)))
    }

    /// Token ids of text that may spell added tokens such as `<tool_call>`, but never control tokens.
    pub(crate) fn encode_answer(&self, text: &str) -> Vec<u32> {
        self.encode_plain(text).unwrap_or_default()
    }

    /// Token ids of plain text: never a control token.
    pub(crate) fn encode_plain(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let ids = self.encode(text)?;
        if !self.has_special(&ids) {
            return Ok(ids);
        }
        // A vocabulary may hold a control token's text as an ordinary entry too. Single characters cannot spell one.
        let mut ids = Vec::new();
        for character in text.chars() {
            ids.extend(self.encode(character.encode_utf8(&mut [0; 4]))?);
        }
        match self.has_special(&ids) {
            false => Ok(ids),
            true => Err(EngineError::invalid("messages", "the text contains a character that is a control token")),
        }
    }

    fn has_special(&self, ids: &[u32]) -> bool {
        ids.iter().any(|id| self.special_ids.contains_key(id))
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        // The library's regular expressions can give up on a text by a panic.
        match catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, false))) {
            Ok(Ok(encoding)) => Ok(encoding.get_ids().to_vec()),
            _ => Err(EngineError::internal("the tokenizer failed on a prompt")),
        }
    }

    /// Text of one token within an answer, a control token's too.
    pub(crate) fn token_text(&self, id: u32) -> String {
        if let Some(text) = self.special_text(id) {
            return text.to_owned();
        }
        let alone = self.decode(&[id]);
        if self.is_byte_level() {
            return alone;
        }
        // Other decoders take the space off the first token: what a second one adds has it.
        let twice = self.decode(&[id, id]);
        twice.strip_prefix(alone.as_str()).map_or(alone.clone(), str::to_owned)
    }

    /// Bytes that the token whose text by itself is `text` adds to an answer, a part of a character too; `None` of a control
    /// token, and where they cannot be told.
    pub(crate) fn token_bytes(&self, id: u32, text: &str) -> Option<Vec<u8>> {
        if self.special_ids.contains_key(&id) {
            return None;
        }
        if !text.contains(char::REPLACEMENT_CHARACTER) {
            return Some(text.as_bytes().to_vec());
        }
        if self.is_byte_level() {
            return self.bytes(id);
        }
        self.byte(id).map(|byte| vec![byte])
    }

    /// The byte that a piece of a SentencePiece vocabulary stands for.
    pub(crate) fn byte(&self, id: u32) -> Option<u8> {
        let piece = self.inner.id_to_token(id)?;
        u8::from_str_radix(piece.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
    }

    /// Text of `ids` without control tokens. Bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        #[cfg(test)]
        DECODED.with(|count| count.set(count.get() + ids.len()));
        let decoded = catch_unwind(AssertUnwindSafe(|| self.inner.decode(ids, true)));
        decoded.ok().and_then(Result::ok).unwrap_or_default()
    }
}

#[cfg(test)]
thread_local! {
    /// Tokens that this thread has decoded.
    pub(crate) static DECODED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The byte that a character of a byte-level vocabulary stands for: printable Latin-1 characters are themselves, the
/// other bytes follow in order from U+0100 on (the GPT-2 mapping).
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    match code.checked_sub(0x100) {
        None => u8::try_from(code).ok().filter(printable),
        Some(index) => (0..=u8::MAX).filter(|byte| !printable(byte)).nth(index as usize),
    }
}
