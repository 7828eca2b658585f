//! Writes GGUF files for tests, byte by byte, so that wrong ones can be written too.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::Value as Json;

use crate::support;

/// Numbers of the value types used here.
pub(crate) const U32: u32 = 4;
pub(crate) const F32: u32 = 6;
pub(crate) const FLAG: u32 = 7;
pub(crate) const TEXT: u32 = 8;
pub(crate) const LIST: u32 = 9;

/// A file in the making; every part can be spoilt.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) version: u32,
    pub(crate) alignment: usize,
    /// Key, value with its type in front.
    pub(crate) keys: Vec<(String, Vec<u8>)>,
    pub(crate) tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Row first.
    pub(crate) dimensions: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

pub(crate) fn typed(kind: u32, value: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), value].concat()
}

pub(crate) fn list(kind: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    let count = (elements.len() as u64).to_le_bytes();
    [LIST.to_le_bytes().to_vec(), kind.to_le_bytes().to_vec(), count.to_vec(), elements.concat()].concat()
}

impl File {
    pub(crate) fn set(&mut self, key: &str, value: Vec<u8>) {
        self.keys.retain(|(own, _)| own != key);
        self.keys.push((key.to_owned(), value));
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("known tensor")
    }

    /// Header, keys and the tensor list, offsets as they are due.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        let mut offset = 0usize;
        for tensor in &self.tensors {
            bytes.extend(text(&tensor.name));
            bytes.extend((tensor.dimensions.len() as u32).to_le_bytes());
            tensor.dimensions.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
            bytes.extend(tensor.kind.to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(self.alignment);
        }
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        for tensor in &self.tensors {
            bytes.extend(&tensor.data);
            bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        }
        bytes
    }
}

/// The golden model, with the tests' tokenizer and template, as a GGUF file in F32.
pub(crate) fn golden() -> File {
    let mut file = File { version: 3, alignment: 32, keys: Vec::new(), tensors: golden_tensors() };
    file.set("general.architecture", typed(TEXT, &text("llada2")));
    let whole = [
        ("context_length", 1024u32),
        ("embedding_length", 64),
        ("block_count", 3),
        ("feed_forward_length", 128),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 16),
        ("attention.value_length", 16),
        ("rope.dimension_count", 8),
        ("vocab_size", 320),
        ("expert_count", 16),
        ("expert_used_count", 4),
        ("expert_feed_forward_length", 32),
        ("expert_shared_count", 1),
        ("expert_group_count", 4),
        ("expert_group_used_count", 2),
        ("expert_gating_func", 2),
        ("leading_dense_block_count", 1),
    ];
    for (key, value) in whole {
        file.set(&format!("llada2.{key}"), typed(U32, &value.to_le_bytes()));
    }
    let numbers =
        [("attention.layer_norm_rms_epsilon", 1e-6f32), ("rope.freq_base", 600_000.0), ("expert_weights_scale", 2.5)];
    for (key, value) in numbers {
        file.set(&format!("llada2.{key}"), typed(F32, &value.to_le_bytes()));
    }
    file.set("llada2.expert_weights_norm", typed(FLAG, &[1]));
    tokenizer(&mut file);
    file
}

pub(crate) fn tokenizer(file: &mut File) {
    let json = support::tokenizer_json();
    let mut tokens: BTreeMap<u64, (&str, u32)> = BTreeMap::new();
    for (token, id) in json["model"]["vocab"].as_object().expect("vocabulary") {
        tokens.insert(id.as_u64().expect("id"), (token, 1));
    }
    for added in json["added_tokens"].as_array().expect("list") {
        let kind = if added["special"] == true { 3 } else { 4 };
        tokens.insert(added["id"].as_u64().expect("id"), (added["content"].as_str().expect("text"), kind));
    }
    let texts: Vec<Vec<u8>> = tokens.values().map(|(token, _)| text(token)).collect();
    let kinds: Vec<Vec<u8>> = tokens.values().map(|(_, kind)| kind.to_le_bytes().to_vec()).collect();
    let merge = |pair: &Json| text(&format!("{} {}", pair[0].as_str().expect("text"), pair[1].as_str().expect("text")));
    let merges: Vec<Vec<u8>> = json["model"]["merges"].as_array().expect("list").iter().map(merge).collect();
    file.set("tokenizer.ggml.model", typed(TEXT, &text("gpt2")));
    file.set("tokenizer.ggml.pre", typed(TEXT, &text("gpt-2")));
    file.set("tokenizer.ggml.tokens", list(TEXT, &texts));
    file.set("tokenizer.ggml.token_type", list(5, &kinds));
    file.set("tokenizer.ggml.merges", list(TEXT, &merges));
    file.set("tokenizer.ggml.eos_token_id", typed(U32, &260u32.to_le_bytes()));
    file.set("tokenizer.chat_template", typed(TEXT, &text(support::TEMPLATE)));
}

fn golden_tensors() -> Vec<Tensor> {
    let bytes = std::fs::read(support::golden().join("model.safetensors")).expect("golden weights");
    let weights = SafeTensors::deserialize(&bytes).expect("safetensors");
    let get = |name: &str| {
        let view = weights.tensor(name).expect("golden tensor");
        assert_eq!(view.dtype(), Dtype::F32);
        (view.shape().iter().rev().map(|n| *n as u64).collect::<Vec<u64>>(), view.data().to_vec())
    };
    let mut tensors = Vec::new();
    let mut add = |name: String, (dimensions, data): (Vec<u64>, Vec<u8>)| {
        tensors.push(Tensor { name, dimensions, kind: 0, data });
    };
    add("token_embd.weight".into(), get("model.word_embeddings.weight"));
    add("output_norm.weight".into(), get("model.norm.weight"));
    add("output.weight".into(), get("lm_head.weight"));
    for n in 0..3 {
        let plain = [
            ("attn_norm", "input_layernorm"),
            ("attn_qkv", "attention.query_key_value"),
            ("attn_q_norm", "attention.query_layernorm"),
            ("attn_k_norm", "attention.key_layernorm"),
            ("attn_output", "attention.dense"),
            ("ffn_norm", "post_attention_layernorm"),
        ];
        for (own, published) in plain {
            add(format!("blk.{n}.{own}.weight"), get(&format!("model.layers.{n}.{published}.weight")));
        }
        for part in ["gate", "up", "down"] {
            let mlp = format!("model.layers.{n}.mlp");
            if n == 0 {
                add(format!("blk.0.ffn_{part}.weight"), get(&format!("{mlp}.{part}_proj.weight")));
                continue;
            }
            let shared = get(&format!("{mlp}.shared_experts.{part}_proj.weight"));
            add(format!("blk.{n}.ffn_{part}_shexp.weight"), shared);
            let each: Vec<_> = (0..16).map(|j| get(&format!("{mlp}.experts.{j}.{part}_proj.weight"))).collect();
            let dimensions = [each[0].0.clone(), vec![16]].concat();
            let data = each.into_iter().flat_map(|(_, data)| data).collect();
            add(format!("blk.{n}.ffn_{part}_exps.weight"), (dimensions, data));
        }
        if n > 0 {
            add(format!("blk.{n}.ffn_gate_inp.weight"), get(&format!("model.layers.{n}.mlp.gate.weight")));
            add(format!("blk.{n}.exp_probs_b.bias"), get(&format!("model.layers.{n}.mlp.gate.expert_bias")));
        }
    }
    tensors
}
