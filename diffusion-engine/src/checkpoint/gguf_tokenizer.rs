//! A GGUF file's `tokenizer.*` keys as the text of `tokenizer.json` and `tokenizer_config.json`, so that one set of
//! rules checks both. A file that carries its `tokenizer.huggingface.json` is taken at its word; otherwise the
//! byte-level BPE that llama.cpp calls `gpt2` is built from tokens and merges, SentencePiece's (`llama`) from tokens and
//! scores. Must never make plain text a control
//! token: every token keeps its own id.

use serde_json::{Map, Value as Json, json};

use crate::error::LoadError;

use super::gguf::{Gguf, Value};
use super::gguf_split;
use super::source::{Bytes, Named};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const MERGES: &str = "tokenizer.ggml.merges";
const WHOLE: &str = "tokenizer.huggingface.json";
const TEMPLATE: &str = "tokenizer.chat_template";

/// Types of tokens that act: written by id only, or matched in plain text before BPE.
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;
/// Bytes of a SentencePiece token; the longest ones known are runs of some 30 spaces.
const MOST_PIECE: usize = 512;
/// Fills up the vocabulary.
const UNUSED: i128 = 5;

/// Tokens that `tokenizer_config.json` names, and the keys of their ids.
const NAMED: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("mask_token", "tokenizer.ggml.mask_token_id"),
];

/// The text of `tokenizer.json`.
pub(crate) fn tokenizer(gguf: &Gguf) -> Result<Named, LoadError> {
    match gguf.text(WHOLE) {
        Some(text) => Ok(named(gguf, WHOLE, text.to_owned())),
        None => Ok(named(gguf, "tokenizer.ggml", built(gguf)?.to_string())),
    }
}

/// The text of `tokenizer_config.json`: the chat template and the tokens it may name.
pub(crate) fn tokenizer_config(gguf: &Gguf) -> Result<Named, LoadError> {
    let mut config = Map::new();
    let template = gguf.text(TEMPLATE).ok_or_else(|| wrong(gguf, TEMPLATE, "is missing, or is not a text".into()))?;
    config.insert("chat_template".into(), template.into());
    let tokens = gguf.texts(TOKENS).map_err(|message| wrong(gguf, TOKENS, message))?;
    for (name, key) in NAMED {
        match gguf.get(key) {
            None => {}
            Some(Value::Whole(id)) => {
                let text = usize::try_from(*id).ok().and_then(|id| tokens.get(id));
                let text =
                    text.ok_or_else(|| wrong(gguf, key, format!("{id} in a list of {} tokens", tokens.len())))?;
                config.insert(name.into(), (*text).into());
            }
            Some(_) => return Err(wrong(gguf, key, "expected a whole number".into())),
        }
    }
    Ok(named(gguf, "tokenizer.ggml", Json::Object(config).to_string()))
}

fn built(gguf: &Gguf) -> Result<Json, LoadError> {
    let is_byte_level = match gguf.text(MODEL) {
        Some("gpt2") => true,
        Some("llama") => false,
        _ => return Err(wrong(gguf, MODEL, "expected gpt2 (byte-level BPE) or llama (SentencePiece BPE)".into())),
    };
    let known = gguf.text(PRE).and_then(gguf_split::byte_level);
    let how = match known {
        _ if !is_byte_level => gguf_split::pieces(!matches!(gguf.get(PREFIX), Some(Value::Flag(false)))),
        Some(how) => how,
        None => {
            let known = gguf_split::KNOWN.join(", ");
            let message = format!("expected one of {known}, or a `{WHOLE}` that says how to split");
            return Err(wrong(gguf, PRE, message));
        }
    };
    let tokens = gguf.texts(TOKENS).map_err(|message| wrong(gguf, TOKENS, message))?;
    let types = match gguf.get(TYPES) {
        Some(_) => gguf.wholes(TYPES).map_err(|message| wrong(gguf, TYPES, message))?,
        None => return Err(wrong(gguf, TYPES, "is missing: nothing tells control tokens from text".into())),
    };
    if types.len() != tokens.len() {
        return Err(wrong(gguf, TYPES, format!("{} types for {} tokens", types.len(), tokens.len())));
    }
    let mut vocab = Map::new();
    let mut added = Vec::new();
    for (id, (token, kind)) in tokens.iter().zip(types).enumerate() {
        // SentencePiece fills its vocabulary up with such that are tokens all the same.
        if kind == UNUSED && is_byte_level {
            continue;
        }
        if vocab.insert((*token).to_owned(), id.into()).is_some() {
            return Err(wrong(gguf, TOKENS, format!("token {id} has the text of an earlier one")));
        }
        if kind == CONTROL || kind == USER_DEFINED {
            added.push(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind == CONTROL
            }));
        }
    }
    if !is_byte_level {
        let unknown = tokens.iter().position(|token| *token == "<unk>").map(|_| "<unk>");
        return Ok(gguf_split::file(how, added, &vocab, pieces_merges(gguf, &tokens)?, unknown));
    }
    let merges = gguf.texts(MERGES).map_err(|message| wrong(gguf, MERGES, message))?;
    let mut pairs = Vec::new();
    for (index, merge) in merges.iter().enumerate() {
        let (left, right) = merge
            .split_once(' ')
            .ok_or_else(|| wrong(gguf, MERGES, format!("element {index} is not two tokens with a space between")))?;
        pairs.push(json!([left, right]));
    }
    Ok(gguf_split::file(how, added, &vocab, pairs, None))
}

/// SentencePiece's merges: any two tokens that make a third, best score of the third first.
fn pieces_merges(gguf: &Gguf, tokens: &[&str]) -> Result<Vec<Json>, LoadError> {
    let scores = gguf.numbers(SCORES).map_err(|message| wrong(gguf, SCORES, message))?;
    if scores.len() != tokens.len() {
        return Err(wrong(gguf, SCORES, format!("{} scores for {} tokens", scores.len(), tokens.len())));
    }
    // Every way to cut a token in two is looked at: the time grows with the square.
    if let Some(long) = tokens.iter().position(|token| token.len() > MOST_PIECE) {
        return Err(wrong(gguf, TOKENS, format!("token {long} is longer than {MOST_PIECE} bytes, which no piece is")));
    }
    Ok(gguf_split::merges(tokens, &scores))
}

fn named(gguf: &Gguf, key: &str, text: String) -> Named {
    Named { name: format!("{} ({key})", gguf.name()), bytes: Bytes::Owned(text.into_bytes()) }
}

fn wrong(gguf: &Gguf, field: &str, message: String) -> LoadError {
    LoadError::Tokenizer { file: gguf.name().to_owned(), field: field.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value as Json;

    use crate::checkpoint::open::Checkpoint;
    use crate::options::ModelFiles;

    /// `training/dense_golden.py` wrote the files, and the ids that sentencepiece (the pieces) and transformers' own
    /// classes (the others) give for texts that are easy to get wrong.
    #[test]
    fn every_kind_gives_the_ids_of_its_reference() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dense");
        let cases = std::fs::read(fixtures.join("tokens.json")).expect("fixture");
        let cases: Json = serde_json::from_slice(&cases).expect("JSON");
        let mut wrong = Vec::new();
        for (name, texts) in cases.as_object().expect("by file") {
            let file = ModelFiles::Dir(fixtures.join(format!("{name}.gguf")));
            let checkpoint = Checkpoint::open(file).expect("opens");
            let config = checkpoint.config().expect("config");
            let tokenizer = checkpoint.tokenizer(&config).expect("tokenizer");
            let specials: Vec<u32> = (0..).map_while(|index| tokenizer.special_id(index)).collect();
            assert!(!specials.is_empty(), "{name}");
            for case in texts.as_array().expect("texts") {
                let text = case["text"].as_str().expect("text");
                let due: Vec<u32> = serde_json::from_value(case["ids"].clone()).expect("ids");
                let ids = tokenizer.encode_plain(text).expect("encodes");
                assert!(!ids.iter().any(|id| specials.contains(id)), "{name}: {text:?} acts");
                if ids != due {
                    wrong.push(format!("{name}: {text:?} gave {ids:?} where {due:?} is due"));
                }
                let back = tokenizer.decode(&ids);
                if back != case["back"].as_str().expect("text") {
                    wrong.push(format!("{name}: {text:?} came back as {back:?} where {} is due", case["back"]));
                }
                // The space before everything is the first token's own.
                let parts: String = ids.iter().map(|id| tokenizer.token_text(*id)).collect();
                let spelt = parts == back || parts.strip_prefix(' ') == Some(back.as_str());
                if !spelt && !parts.contains(char::REPLACEMENT_CHARACTER) {
                    wrong.push(format!("{name}: {text:?} has tokens that spell {parts:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
