//! GGUF's tensor names and the published (Hugging Face) ones, both ways (facts: llama.cpp's `bailingmoe2` and the
//! proposed `llada2`). GGUF keeps a layer's experts merged. Must never know a shape.

/// Outside the layers: GGUF, published.
const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.word_embeddings.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Of a layer: after `blk.N.`, after `model.layers.N.`.
const LAYER: [(&str, &str); 17] = [
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_qkv.weight", "attention.query_key_value.weight"),
    ("attn_q_norm.weight", "attention.query_layernorm.weight"),
    ("attn_k_norm.weight", "attention.key_layernorm.weight"),
    ("attn_output.weight", "attention.dense.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
    ("ffn_gate_inp.weight", "mlp.gate.weight"),
    (EXPERT_BIAS, "mlp.gate.expert_bias"),
    ("ffn_gate_exps.weight", "mlp.experts.gate_proj.weight"),
    ("ffn_up_exps.weight", "mlp.experts.up_proj.weight"),
    ("ffn_down_exps.weight", "mlp.experts.down_proj.weight"),
    ("ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight"),
    ("ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight"),
    ("ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight"),
];

/// The bias that steers the choice of experts, after `blk.N.`.
pub(super) const EXPERT_BIAS: &str = "exp_probs_b.bias";

/// The published name of a GGUF tensor; an unknown one keeps its own, which no architecture asks for.
pub(crate) fn published(name: &str) -> String {
    if let Some((_, published)) = WHOLE.iter().find(|(gguf, _)| *gguf == name) {
        return (*published).to_owned();
    }
    let in_layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let known = in_layer.and_then(|(layer, rest)| {
        let (_, published) = LAYER.iter().find(|(gguf, _)| *gguf == rest)?;
        // One spelling of a number only, so that two names cannot become one.
        let plain: usize = layer.parse().ok()?;
        (plain.to_string() == layer).then(|| format!("model.layers.{layer}.{published}"))
    });
    known.unwrap_or_else(|| name.to_owned())
}

/// The GGUF name of a published tensor, for errors; a single expert's is that of all its layer's experts.
pub(super) fn stored(name: &str) -> String {
    if let Some((gguf, _)) = WHOLE.iter().find(|(_, published)| *published == name) {
        return (*gguf).to_owned();
    }
    let in_layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let known = in_layer.and_then(|(layer, rest)| {
        let merged = rest.strip_prefix("mlp.experts.").and_then(|expert| expert.split_once('.'));
        let merged = merged.filter(|(expert, _)| expert.parse::<usize>().is_ok());
        let merged = merged.map(|(_, part)| format!("mlp.experts.{part}"));
        let rest = merged.as_deref().unwrap_or(rest);
        LAYER.iter().find(|(_, published)| *published == rest).map(|(gguf, _)| format!("blk.{layer}.{gguf}"))
    });
    known.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_goes_there_and_back() {
        for (gguf, hf) in WHOLE {
            assert_eq!((published(gguf).as_str(), stored(hf).as_str()), (hf, gguf));
        }
        for (gguf, hf) in LAYER {
            let (gguf, hf) = (format!("blk.12.{gguf}"), format!("model.layers.12.{hf}"));
            assert_eq!((published(&gguf), stored(&hf)), (hf, gguf));
        }
        assert_eq!(stored("model.layers.3.mlp.experts.7.up_proj.weight"), "blk.3.ffn_up_exps.weight");
        for unknown in ["blk.01.attn_norm.weight", "blk.x.attn_norm.weight", "rope_freqs.weight", "blk.1.other"] {
            assert_eq!(published(unknown), unknown);
        }
    }
}
