//! `config.json` as the model needs it: every number bounded, every combination that the forward cannot do refused.
//! Must never guess a value the architecture depends on.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use weir_kernels::kernels::MAX_HEAD_DIM;
use weir_kernels::route::Routing;

use crate::error::LoadError;
use crate::options::EngineKind;

use super::gguf_dense::Dense;
use super::source::Named;

/// A model's shape (facts: LLaDA2.0 report §2; config keys as in the published checkpoints).
#[derive(Debug, Clone)]
pub(crate) struct ModelConfig {
    pub(crate) kind: EngineKind,
    pub(crate) architecture: String,
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
    /// Width of the dense feed-forward layers.
    pub(crate) intermediate: usize,
    pub(crate) layers: usize,
    /// The first layers have a dense feed-forward, the others experts.
    pub(crate) dense_layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) norm_eps: f32,
    /// Most positions.
    pub(crate) context: usize,
    pub(crate) rope_theta: f32,
    /// Leading dimensions of a head that are rotated; even.
    pub(crate) rotary_dim: usize,
    /// The output head is the embedding.
    pub(crate) tied: bool,
    /// Present when a layer has experts.
    pub(crate) moe: Option<MoeConfig>,
    /// Tokens of a block as trained, where the file says so (LLaDA2.2).
    pub(crate) block_size: Option<usize>,
    /// What LLaDA2.2's decoder writes to delete a position, and to make room before one.
    pub(crate) delete_token: Option<u32>,
    pub(crate) split_token: Option<u32>,
    /// Present for a chat model of another family, which `dense` runs.
    pub(crate) dense: Option<Dense>,
}

/// The expert layers' shape.
#[derive(Debug, Clone)]
pub(crate) struct MoeConfig {
    pub(crate) experts: usize,
    /// Width of one expert.
    pub(crate) intermediate: usize,
    /// Width of the shared expert, 0 for none.
    pub(crate) shared_intermediate: usize,
    pub(crate) has_bias: bool,
    pub(crate) routing: Routing,
}

impl ModelConfig {
    /// Reads and checks `config.json`.
    pub(crate) fn parse(file: &Named) -> Result<Self, LoadError> {
        let fields = Fields::parse(file)?;
        let architecture = fields.text("model_type", None)?;
        let kind = match architecture.as_str() {
            "llada2_moe" | "llada2_moe_veomni" => EngineKind::Diffusion,
            "bailing_moe_v2" => EngineKind::Autoregressive,
            _ => return Err(fields.wrong("model_type", "expected llada2_moe or bailing_moe_v2")),
        };
        fields.refuse_what_the_forward_cannot_do()?;
        let heads = fields.integer("num_attention_heads", 1..=1024, None)?;
        let kv_heads = fields.integer("num_key_value_heads", 1..=heads, Some(heads))?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(fields.wrong("num_key_value_heads", "must divide num_attention_heads"));
        }
        let hidden = fields.integer("hidden_size", 1..=1 << 16, None)?;
        let head_dim = fields.integer("head_dim", 2..=MAX_HEAD_DIM, Some(hidden / heads))?;
        let layers = fields.integer("num_hidden_layers", 1..=512, None)?;
        let dense_layers = fields.integer("first_k_dense_replace", 0..=layers, Some(0))?;
        let vocab = fields.integer("vocab_size", 2..=1 << 21, None)?;
        let moe = if dense_layers < layers { Some(fields.moe()?) } else { None };
        if kind == EngineKind::Autoregressive && moe.as_ref().is_some_and(|moe| moe.routing.capacity.is_some()) {
            return Err(fields.wrong("expert_capacity", "an autoregressive model has no blocks to route"));
        }
        let delete_token = fields.optional("delete_token_id", 0..=vocab - 1)?.map(|id| id as u32);
        let split_token = fields.optional("split_token_id", 0..=vocab - 1)?.map(|id| id as u32);
        if delete_token.is_some() && delete_token == split_token {
            return Err(fields.wrong("split_token_id", "must be another token than delete_token_id"));
        }
        Ok(ModelConfig {
            kind,
            vocab,
            hidden,
            intermediate: fields.integer("intermediate_size", 1..=1 << 20, None)?,
            layers,
            dense_layers,
            heads,
            kv_heads,
            head_dim,
            norm_eps: fields.number("rms_norm_eps", 0.0..=0.1, Some(1e-6))?,
            context: fields.integer("max_position_embeddings", 1..=1 << 22, None)?,
            rope_theta: fields.number("rope_theta", 1.0..=1e12, None)?,
            rotary_dim: fields.rotary_dim(head_dim)?,
            tied: fields.flag("tie_word_embeddings", false)?,
            moe,
            block_size: fields.optional("block_size", 1..=1 << 16)?,
            delete_token,
            split_token,
            dense: None,
            architecture,
        })
    }
}

impl ModelConfig {
    /// Refuses blocks of another length than a model with block routing was trained with: which experts a token may
    /// visit depends on them.
    pub(crate) fn check_block_length(&self, block_length: usize) -> Result<(), LoadError> {
        match self.block_size {
            Some(trained) if self.routes_by_block() && trained != block_length => {
                let message = format!("{block_length}, but this model routes experts by blocks of {trained}");
                Err(config_error("options", "block_length", &message))
            }
            _ => Ok(()),
        }
    }

    /// Whether a token's experts depend on its whole block (LLaDA2.2).
    pub(crate) fn routes_by_block(&self) -> bool {
        self.moe.as_ref().is_some_and(|moe| moe.routing.capacity.is_some())
    }
}

/// The file's fields, with the name for errors.
struct Fields<'a> {
    file: &'a str,
    map: Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn parse(file: &'a Named) -> Result<Self, LoadError> {
        match serde_json::from_slice(&file.bytes) {
            Ok(Value::Object(map)) => Ok(Fields { file: &file.name, map }),
            Ok(_) => Err(config_error(&file.name, "(whole file)", "expected a JSON object")),
            Err(error) => Err(config_error(&file.name, "(whole file)", &error.to_string())),
        }
    }

    fn wrong(&self, field: &str, message: &str) -> LoadError {
        config_error(self.file, field, message)
    }

    /// The value, `None` where the field is absent or null.
    fn get(&self, field: &str) -> Option<&Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn integer(&self, field: &str, range: RangeInclusive<usize>, default: Option<usize>) -> Result<usize, LoadError> {
        let value = match self.get(field) {
            Some(value) => value.as_u64().and_then(|value| usize::try_from(value).ok()),
            None => default,
        };
        value.filter(|value| range.contains(value)).ok_or_else(|| {
            self.wrong(field, &format!("expected a whole number in {}..={}", range.start(), range.end()))
        })
    }

    fn optional(&self, field: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, LoadError> {
        self.get(field).map(|_| self.integer(field, range, None)).transpose()
    }

    fn number(&self, field: &str, range: RangeInclusive<f64>, default: Option<f64>) -> Result<f32, LoadError> {
        let value = match self.get(field) {
            Some(value) => value.as_f64(),
            None => default,
        };
        value
            .filter(|value| range.contains(value))
            .map(|value| value as f32)
            .ok_or_else(|| self.wrong(field, &format!("expected a number in {}..={}", range.start(), range.end())))
    }

    fn flag(&self, field: &str, default: bool) -> Result<bool, LoadError> {
        match self.get(field) {
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(field, "expected true or false")),
            None => Ok(default),
        }
    }

    fn text(&self, field: &str, default: Option<&str>) -> Result<String, LoadError> {
        match self.get(field) {
            Some(Value::String(text)) => Ok(text.clone()),
            None if default.is_some() => Ok(default.unwrap_or_default().to_owned()),
            _ => Err(self.wrong(field, "expected a text")),
        }
    }

    fn refuse_what_the_forward_cannot_do(&self) -> Result<(), LoadError> {
        for (field, only, default) in
            [("use_bias", false, false), ("use_qkv_bias", false, false), ("use_qk_norm", true, true)]
        {
            if self.flag(field, default)? != only {
                return Err(self.wrong(field, &format!("this engine knows {only} only")));
            }
        }
        for (field, only) in [("hidden_act", "silu"), ("score_function", "sigmoid")] {
            if self.text(field, Some(only))? != only {
                return Err(self.wrong(field, &format!("this engine knows {only} only")));
            }
        }
        if self.get("rope_scaling").is_some() {
            return Err(self.wrong("rope_scaling", "this engine knows null only"));
        }
        Ok(())
    }

    fn rotary_dim(&self, head_dim: usize) -> Result<usize, LoadError> {
        let factor = self.number("partial_rotary_factor", 0.0..=1.0, Some(1.0))?;
        let by_factor = (head_dim as f32 * factor) as usize;
        let by_name = self.integer("rotary_dim", 2..=head_dim, Some(by_factor))?;
        if self.get("partial_rotary_factor").is_some() && by_name != by_factor {
            return Err(self.wrong("rotary_dim", "contradicts partial_rotary_factor"));
        }
        if by_name < 2 || !by_name.is_multiple_of(2) {
            return Err(self.wrong("partial_rotary_factor", "the rotated part of a head must be even and not empty"));
        }
        Ok(by_name)
    }

    /// Groups and how many of them a token keeps.
    fn groups(&self, experts: usize) -> Result<(usize, usize), LoadError> {
        let groups = self.integer("n_group", 1..=experts, Some(1))?;
        if !experts.is_multiple_of(groups) {
            return Err(self.wrong("n_group", "must divide num_experts"));
        }
        Ok((groups, self.integer("topk_group", 1..=groups, Some(groups))?))
    }

    fn moe(&self) -> Result<MoeConfig, LoadError> {
        let experts = self.integer("num_experts", 1..=4096, None)?;
        // A model with block routing may still carry the groups; they do not count (LLaDA2.2).
        let capacity = self.integer("expert_capacity", 0..=experts, Some(0))?;
        let (groups, groups_kept) = if capacity > 0 { (1, 1) } else { self.groups(experts)? };
        let choice = if capacity > 0 { capacity } else { experts / groups * groups_kept };
        let intermediate = self.integer("moe_intermediate_size", 1..=1 << 20, None)?;
        let shared = self.integer("num_shared_experts", 0..=64, Some(0))?;
        Ok(MoeConfig {
            experts,
            intermediate,
            shared_intermediate: intermediate * shared,
            has_bias: self.flag("moe_router_enable_expert_bias", true)?,
            routing: Routing {
                groups,
                groups_kept,
                experts_kept: self.integer("num_experts_per_tok", 1..=choice, None)?,
                normalize: self.flag("norm_topk_prob", true)?,
                scale: self.number("routed_scaling_factor", 0.0..=1e6, Some(1.0))?,
                capacity: (capacity > 0).then_some(capacity),
            },
        })
    }
}

fn config_error(file: &str, field: &str, message: &str) -> LoadError {
    LoadError::Config { file: file.to_owned(), field: field.to_owned(), message: message.to_owned() }
}
