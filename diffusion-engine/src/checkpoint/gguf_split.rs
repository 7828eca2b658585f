//! How the tokenizers that GGUF files name by a word split a text, and the whole as the text of a `tokenizer.json`. The words
//! are llama.cpp's; the patterns are those of the models' own `tokenizer.json`. Must never be read for a word it does not
//! know: a text split otherwise than in training is another text to the model.

use std::collections::HashSet;

use serde_json::{Map, Value as Json, json};

/// Ling and LLaDA2.
const BAILING: &str = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
/// Llama 3; Qwen is the same but for its digits.
const LLAMA: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const QWEN: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/// The words of byte-level ones.
pub(super) const KNOWN: [&str; 8] =
    ["bailingmoe2", "bailingmoe", "llada-moe", "gpt-2", "smollm", "llama-bpe", "qwen2", "llama3"];

/// SentencePiece's mark for a space.
const SPACE: &str = "\u{2581}";

/// What a tokenizer does besides its vocabulary.
pub(super) struct How {
    normalizer: Json,
    splitter: Json,
    decoder: Json,
    ignore_merges: bool,
    byte_fallback: bool,
}

/// A byte-level tokenizer by llama.cpp's word for it.
pub(super) fn byte_level(word: &str) -> Option<How> {
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let by = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            bytes(false),
        ]})
    };
    let splitter = match word {
        "bailingmoe2" | "bailingmoe" | "llada-moe" => by(BAILING),
        "gpt-2" => bytes(true),
        "smollm" => {
            json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes(true)]})
        }
        "llama-bpe" | "llama3" => by(LLAMA),
        "qwen2" => by(QWEN),
        _ => return None,
    };
    let normalizer = if word == "qwen2" { json!({"type": "NFC"}) } else { Json::Null };
    let ignore_merges = matches!(word, "llama-bpe" | "llama3");
    Some(How { normalizer, splitter, decoder: bytes(true), ignore_merges, byte_fallback: false })
}

/// SentencePiece's BPE; with `prefix`, a text begins with a space.
pub(super) fn pieces(prefix: bool) -> How {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let back = json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "});
    let mut before = vec![replace];
    let mut after = vec![back, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefix {
        before.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        after.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    How {
        normalizer: json!({"type": "Sequence", "normalizers": before}),
        splitter: Json::Null,
        decoder: json!({"type": "Sequence", "decoders": after}),
        ignore_merges: false,
        byte_fallback: true,
    }
}

/// Merges of SentencePiece tokens: any two that make a third, best score of the third first; of equals as they come.
pub(super) fn merges(tokens: &[&str], scores: &[f64]) -> Vec<Json> {
    let known: HashSet<&str> = tokens.iter().copied().collect();
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    let score = |index: &usize| scores.get(*index).copied().unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let mut merges = Vec::new();
    for token in order.iter().filter_map(|index| tokens.get(*index)) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if known.contains(left) && known.contains(right) {
                merges.push(json!([left, right]));
            }
        }
    }
    merges
}

/// The whole file.
pub(super) fn file(
    how: How,
    added: Vec<Json>,
    vocab: &Map<String, Json>,
    merges: Vec<Json>,
    unknown: Option<&str>,
) -> Json {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": how.normalizer,
        "pre_tokenizer": how.splitter, "post_processor": null, "decoder": how.decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": how.byte_fallback, "byte_fallback": how.byte_fallback,
            "ignore_merges": how.ignore_merges, "vocab": vocab, "merges": merges
        }
    })
}
