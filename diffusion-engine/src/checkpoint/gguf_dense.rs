//! The shape of a dense chat model in a GGUF file (`llama`, `qwen2`, `qwen3`, `gemma`, `gemma3`), from the keys that
//! llama.cpp's converter writes. Must never guess a value the forward depends on, nor let through a key that would
//! change it.

use std::ops::RangeInclusive;

use weir_kernels::kernels::MAX_HEAD_DIM;

use crate::error::LoadError;
use crate::options::EngineKind;

use super::config::ModelConfig;
use super::gguf::{Gguf, Value};

/// `general.architecture` of those that can be loaded.
pub(crate) const ARCHITECTURES: [&str; 5] = ["llama", "qwen2", "qwen3", "gemma", "gemma3"];

/// Gemma 3: every sixth layer sees everything, the others a window.
const GEMMA_WINDOW_EVERY: usize = 6;
const GEMMA_LOCAL_THETA: f32 = 10_000.0;
/// Heads of this model are not scaled by their own size (its key `query_pre_attn_scalar` is not in the file).
const GEMMA3_27B_LAYERS: usize = 62;

/// What dense models differ in.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    /// Elements of a head that turn together in the file: neighbours, or those half the rotary part apart.
    pub(crate) turns_neighbours: bool,
    pub(crate) has_qkv_bias: bool,
    pub(crate) has_qk_norm: bool,
    /// GELU (tanh form) in place of SiLU.
    pub(crate) is_gelu: bool,
    /// A norm behind attention and one behind the feed-forward.
    pub(crate) has_post_norms: bool,
    /// Factor of the embeddings.
    pub(crate) embedding_scale: f32,
    /// Positions are divided by this before they turn anything.
    pub(crate) rope_divisor: f32,
    /// Layers that see a window only.
    pub(crate) window: Option<Window>,
    /// The answer ends at the first of these tokens.
    pub(crate) ends: Vec<u32>,
    /// What a prompt begins with, whether the template says so or not.
    pub(crate) begin: Option<u32>,
}

/// Layers with a window; every `every`-th sees everything instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// A token sees so many positions, its own included.
    pub(crate) positions: usize,
    pub(crate) every: usize,
    pub(crate) theta: f32,
}

impl Window {
    pub(crate) fn of_layer(self, layer: usize) -> Option<Window> {
        (!(layer + 1).is_multiple_of(self.every)).then_some(self)
    }
}

/// Whether this file holds a dense model.
pub(crate) fn is_dense(gguf: &Gguf) -> bool {
    gguf.text("general.architecture").is_some_and(|name| ARCHITECTURES.contains(&name))
}

/// Reads and checks the shape.
pub(crate) fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
    let architecture = gguf.text("general.architecture").unwrap_or_default().to_owned();
    let keys = Keys { gguf, architecture: &architecture };
    keys.refuse_what_the_forward_cannot_do()?;
    let is_gemma = architecture.starts_with("gemma");
    let heads = keys.whole("attention.head_count", 1..=1024, None)?;
    let kv_heads = keys.whole("attention.head_count_kv", 1..=heads, Some(heads))?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(keys.wrong("attention.head_count_kv", "must divide attention.head_count"));
    }
    let hidden = keys.whole("embedding_length", 1..=1 << 16, None)?;
    let head_dim = keys.whole("attention.key_length", 2..=MAX_HEAD_DIM, Some(hidden / heads))?;
    let values = keys.whole("attention.value_length", 2..=MAX_HEAD_DIM, Some(head_dim))?;
    let rotary_dim = keys.whole("rope.dimension_count", 2..=head_dim, Some(head_dim))?;
    if values != head_dim {
        return Err(keys.wrong("attention.value_length", "must be attention.key_length"));
    }
    if !rotary_dim.is_multiple_of(2) {
        return Err(keys.wrong("rope.dimension_count", "must be even: elements of a head turn in pairs"));
    }
    let layers = keys.whole("block_count", 1..=512, None)?;
    if architecture == "gemma3" && layers >= GEMMA3_27B_LAYERS {
        return Err(keys.wrong("block_count", "gemma 3 27B scales its queries in another way, which is not supported"));
    }
    let rows = gguf.tensors().find(|(name, _)| *name == "token_embd.weight").and_then(|(_, shape)| shape.first());
    let vocab = *rows.ok_or_else(|| LoadError::Tensor {
        file: gguf.name().to_owned(),
        tensor: "token_embd.weight".to_owned(),
        message: "is missing".to_owned(),
    })?;
    if !(2..=1 << 21).contains(&vocab) {
        return Err(keys.wrong("vocab_size", "expected 2 to 2^21 rows of token_embd.weight"));
    }
    let window = match architecture.as_str() {
        "gemma3" => Some(Window {
            positions: keys.whole("attention.sliding_window", 1..=1 << 22, None)?,
            every: GEMMA_WINDOW_EVERY,
            theta: keys.number("rope.local_freq_base", 1.0..=1e12, Some(GEMMA_LOCAL_THETA))?,
        }),
        _ => None,
    };
    let theta = if architecture == "gemma3" { 1e6 } else { 1e4 };
    Ok(ModelConfig {
        kind: EngineKind::Autoregressive,
        vocab,
        hidden,
        intermediate: keys.whole("feed_forward_length", 1..=1 << 20, None)?,
        layers,
        dense_layers: layers,
        heads,
        kv_heads,
        head_dim,
        norm_eps: keys.number("attention.layer_norm_rms_epsilon", 0.0..=0.1, None)?,
        context: keys.whole("context_length", 1..=1 << 22, None)?,
        rope_theta: keys.number("rope.freq_base", 1.0..=1e12, Some(theta))?,
        rotary_dim,
        tied: !gguf.tensors().any(|(name, _)| name == "output.weight"),
        moe: None,
        block_size: None,
        delete_token: None,
        split_token: None,
        dense: Some(Dense {
            turns_neighbours: architecture == "llama",
            has_qkv_bias: architecture == "qwen2",
            has_qk_norm: matches!(architecture.as_str(), "qwen3" | "gemma3"),
            is_gelu: is_gemma,
            has_post_norms: architecture == "gemma3",
            embedding_scale: if is_gemma { (hidden as f32).sqrt() } else { 1.0 },
            rope_divisor: keys.rope_divisor()?,
            window,
            ends: keys.ends(vocab)?,
            begin: keys.begin(vocab)?,
        }),
        architecture,
    })
}

/// Texts of control tokens that end an answer in the families above, besides the ids that the file names.
const ENDS: [&str; 7] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "</s>"];
/// GGUF's number for a token that acts.
const CONTROL: i128 = 3;

struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, rest: &str) -> String {
        format!("{}.{rest}", self.architecture)
    }

    fn wrong(&self, rest: &str, message: &str) -> LoadError {
        self.at(&self.key(rest), message)
    }

    fn at(&self, key: &str, message: &str) -> LoadError {
        LoadError::Config { file: self.gguf.name().to_owned(), field: key.to_owned(), message: message.to_owned() }
    }

    fn whole(&self, rest: &str, range: RangeInclusive<usize>, default: Option<usize>) -> Result<usize, LoadError> {
        let value = match self.gguf.get(&self.key(rest)) {
            Some(Value::Whole(whole)) => usize::try_from(*whole).ok(),
            Some(_) => None,
            None => default,
        };
        value
            .filter(|value| range.contains(value))
            .ok_or_else(|| self.wrong(rest, &format!("expected a whole number in {}..={}", range.start(), range.end())))
    }

    fn number(&self, rest: &str, range: RangeInclusive<f32>, default: Option<f32>) -> Result<f32, LoadError> {
        let value = match self.gguf.get(&self.key(rest)) {
            Some(Value::Number(number)) => Some(*number as f32),
            Some(_) => None,
            None => default,
        };
        value
            .filter(|value| range.contains(value))
            .ok_or_else(|| self.wrong(rest, &format!("expected a number in {}..={}", range.start(), range.end())))
    }

    fn refuse_what_the_forward_cannot_do(&self) -> Result<(), LoadError> {
        match self.gguf.get(&self.key("expert_count")) {
            None | Some(Value::Whole(0)) => {}
            Some(_) => return Err(self.wrong("expert_count", "models with experts are not supported here; expected 0")),
        }
        for rest in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if self.gguf.get(&self.key(rest)).is_some() {
                return Err(self.wrong(rest, "capped logits (Gemma 2) are not supported"));
            }
        }
        if self.architecture != "gemma3" && self.gguf.get(&self.key("attention.sliding_window")).is_some() {
            return Err(self.wrong("attention.sliding_window", "only gemma3's windows are supported"));
        }
        if self.gguf.get("split.count").is_some_and(|count| !matches!(count, Value::Whole(1))) {
            let message = "is one part of several; join them first (`llama-gguf-split --merge`)";
            return Err(self.at("split.count", message));
        }
        Ok(())
    }

    fn rope_divisor(&self) -> Result<f32, LoadError> {
        match self.gguf.text(&self.key("rope.scaling.type")) {
            Some("linear") => self.number("rope.scaling.factor", 1.0..=1e4, None),
            None | Some("none") => match self.gguf.get(&self.key("rope.scaling.factor")) {
                None => Ok(1.0),
                Some(_) => self.number("rope.scaling.factor", 1.0..=1.0, None),
            },
            Some(_) => Err(self.wrong("rope.scaling.type", "expected none or linear")),
        }
    }

    fn id(&self, key: &str, vocab: usize) -> Result<Option<u32>, LoadError> {
        match self.gguf.get(key) {
            None => Ok(None),
            Some(Value::Whole(id)) if (0..vocab as i128).contains(id) => Ok(u32::try_from(*id).ok()),
            Some(_) => Err(self.at(key, &format!("expected a token's number below {vocab}"))),
        }
    }

    fn ends(&self, vocab: usize) -> Result<Vec<u32>, LoadError> {
        let mut ends = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            ends.extend(self.id(key, vocab)?);
        }
        let texts = self.gguf.texts("tokenizer.ggml.tokens");
        let texts = texts.map_err(|message| self.at("tokenizer.ggml.tokens", &message))?;
        let kinds = self.gguf.wholes("tokenizer.ggml.token_type").unwrap_or_default();
        let named = texts.iter().zip(kinds).enumerate();
        let named = named.filter(|(id, (text, kind))| *kind == CONTROL && *id < vocab && ENDS.contains(text));
        ends.extend(named.map(|(id, _)| id as u32));
        ends.sort_unstable();
        ends.dedup();
        match ends.is_empty() {
            true => Err(self.at("tokenizer.ggml.eos_token_id", "is missing: nothing says where an answer ends")),
            false => Ok(ends),
        }
    }

    fn begin(&self, vocab: usize) -> Result<Option<u32>, LoadError> {
        let begins = match self.gguf.get("tokenizer.ggml.add_bos_token") {
            Some(Value::Flag(flag)) => *flag,
            Some(_) => return Err(self.at("tokenizer.ggml.add_bos_token", "expected true or false")),
            // What llama.cpp does with a file that does not say.
            None => {
                self.gguf.text("tokenizer.ggml.model") == Some("llama")
                    || self.gguf.text("tokenizer.ggml.pre") == Some("llama-bpe")
            }
        };
        if begins { self.id("tokenizer.ggml.bos_token_id", vocab) } else { Ok(None) }
    }
}
