//! A GGUF file's `llada2.*` or `bailingmoe2.*` keys as the fields of `config.json`, so that one set of rules checks
//! both (facts: llama.cpp's `bailingmoe2`, the proposed `llada2`; `expert_capacity`, `block_size`, `delete_token_id`
//! and `split_token_id` are Weir's own names for what LLaDA2.2 adds). Must never guess a value.

use serde_json::{Map, Value as Json};

use crate::error::LoadError;

use super::config::ModelConfig;
use super::gguf::{Gguf, Value};
use super::gguf_names::EXPERT_BIAS;
use super::source::{Bytes, Named};

/// Field of `config.json`, key after the architecture's name.
const FIELDS: [(&str, &str); 24] = [
    ("vocab_size", "vocab_size"),
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("max_position_embeddings", "context_length"),
    ("rope_theta", "rope.freq_base"),
    ("rotary_dim", "rope.dimension_count"),
    ("num_experts", "expert_count"),
    ("num_experts_per_tok", "expert_used_count"),
    ("moe_intermediate_size", "expert_feed_forward_length"),
    ("num_shared_experts", "expert_shared_count"),
    ("n_group", "expert_group_count"),
    ("topk_group", "expert_group_used_count"),
    ("routed_scaling_factor", "expert_weights_scale"),
    ("norm_topk_prob", "expert_weights_norm"),
    ("first_k_dense_replace", "leading_dense_block_count"),
    ("expert_capacity", "expert_capacity"),
    ("block_size", "block_size"),
    ("delete_token_id", "delete_token_id"),
    ("split_token_id", "split_token_id"),
];

/// GGUF's number for sigmoid scores.
const SIGMOID: i128 = 2;

/// Reads and checks the shape of the model in `gguf`.
pub(crate) fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
    let architecture = gguf.text("general.architecture").unwrap_or_default();
    ModelConfig::parse(&file(gguf)?).map_err(|error| match error {
        LoadError::Config { file, field, message } => {
            let known = FIELDS.iter().find(|(own, _)| *own == field);
            LoadError::Config {
                file,
                field: known.map_or(field, |(_, rest)| format!("{architecture}.{rest}")),
                message,
            }
        }
        other => other,
    })
}

/// The keys as a `config.json`.
pub(crate) fn file(gguf: &Gguf) -> Result<Named, LoadError> {
    let architecture = gguf.text("general.architecture");
    let model_type = match architecture {
        Some("llada2") => "llada2_moe",
        Some("bailingmoe2") => "bailing_moe_v2",
        own => {
            let known = super::gguf_dense::ARCHITECTURES.join(", ");
            let message = format!("expected llada2, bailingmoe2, {known}; this is `{}`", own.unwrap_or_default());
            return Err(wrong(gguf, "general.architecture", &message));
        }
    };
    let architecture = architecture.unwrap_or_default();
    let key = |rest: &str| format!("{architecture}.{rest}");
    refuse_what_has_no_field(gguf, &key)?;

    let mut fields = Map::new();
    fields.insert("model_type".into(), model_type.into());
    for (field, rest) in FIELDS {
        if let Some(value) = gguf.get(&key(rest)) {
            let value = json(value).ok_or_else(|| wrong(gguf, &key(rest), "expected one number or flag"))?;
            fields.insert(field.into(), value);
        }
    }
    // What a file without the key means in llama.cpp.
    fields.entry("norm_topk_prob").or_insert(false.into());
    if !fields.contains_key("vocab_size") {
        let tokens = gguf.texts("tokenizer.ggml.tokens").map_err(|message| {
            wrong(gguf, &key("vocab_size"), &format!("is missing, and so is `tokenizer.ggml.tokens`: {message}"))
        })?;
        fields.insert("vocab_size".into(), tokens.len().into());
    }
    fields.insert("tie_word_embeddings".into(), (!gguf.tensors().any(|(name, _)| name == "output.weight")).into());
    let has_bias = gguf.tensors().any(|(name, _)| name.ends_with(EXPERT_BIAS));
    fields.insert("moe_router_enable_expert_bias".into(), has_bias.into());

    Ok(Named { name: gguf.name().to_owned(), bytes: Bytes::Owned(Json::Object(fields).to_string().into_bytes()) })
}

/// Keys that have no field in `config.json` but would change the forward.
fn refuse_what_has_no_field(gguf: &Gguf, key: &dyn Fn(&str) -> String) -> Result<(), LoadError> {
    let whole = |key: &str| match gguf.get(key) {
        Some(Value::Whole(whole)) => Some(*whole),
        _ => None,
    };
    let experts = key("expert_count");
    let gating = key("expert_gating_func");
    if whole(&experts).is_some_and(|count| count > 0) && whole(&gating) != Some(SIGMOID) {
        return Err(wrong(gguf, &gating, "expected 2 (sigmoid)"));
    }
    let (keys, values) = (key("attention.key_length"), key("attention.value_length"));
    if gguf.get(&values).is_some() && whole(&keys) != whole(&values) {
        return Err(wrong(gguf, &values, "differs from attention.key_length"));
    }
    let extra = key("nextn_predict_layers");
    if gguf.get(&extra).is_some() && whole(&extra) != Some(0) {
        return Err(wrong(gguf, &extra, "layers that predict further tokens are not supported; expected 0"));
    }
    let scaling = key("rope.scaling.type");
    if gguf.get(&scaling).is_some() && gguf.text(&scaling) != Some("none") {
        return Err(wrong(gguf, &scaling, "this engine knows none only"));
    }
    if matches!(gguf.get("diffusion.shift_logits"), Some(Value::Flag(true))) {
        return Err(wrong(gguf, "diffusion.shift_logits", "LLaDA2's logits are not shifted; expected false"));
    }
    if gguf.get("split.count").is_some() && whole("split.count") != Some(1) {
        let message = "is one part of several; join them first (`llama-gguf-split --merge`)";
        return Err(wrong(gguf, "split.count", message));
    }
    Ok(())
}

fn json(value: &Value) -> Option<Json> {
    match value {
        Value::Whole(whole) => i64::try_from(*whole).ok().map(Json::from),
        Value::Number(number) => serde_json::Number::from_f64(*number).map(Json::Number),
        Value::Flag(flag) => Some((*flag).into()),
        Value::Text(_) | Value::List(_) => None,
    }
}

fn wrong(gguf: &Gguf, field: &str, message: &str) -> LoadError {
    LoadError::Config { file: gguf.name().to_owned(), field: field.to_owned(), message: message.to_owned() }
}
