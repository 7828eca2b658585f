//! What is compiled into the binary: the default config, the default policy and the nano models, so that Weir runs
//! without a download. Bytes only; nothing here may interpret them.

use weir_diffusion_engine::{DecoderKind, ModelFiles, Recipe};

use crate::config::EngineRole;

/// The lowest config layer.
pub const CONFIG: &str = include_str!("../../config/weir.toml");

/// The routing rules used when a config names none.
pub const POLICY: &str = include_str!("../../config/policies/balanced.toml");

/// Policies ready to use, by name (`policy.profile`).
pub const PROFILES: [(&str, &str); 6] = [
    ("balanced", POLICY),
    ("fastest", include_str!("../../config/policies/fastest.toml")),
    ("cheapest", include_str!("../../config/policies/cheapest.toml")),
    ("quality", include_str!("../../config/policies/quality.toml")),
    ("diffusion-first", include_str!("../../config/policies/diffusion-first.toml")),
    ("ar-first", include_str!("../../config/policies/ar-first.toml")),
];

/// What the nano models are packed in where nothing else is said: a third quicker, and their answers as right
/// (docs/quantisation.md).
pub const NANO_RECIPE: Recipe = Recipe::Q8;

/// What the diffusion one is decoded with where nothing else is said: it was trained to edit, too, but is right more often
/// without, in half the forwards (docs/decoders.md).
pub const NANO_DECODER: DecoderKind = DecoderKind::Threshold;

/// The files of a nano model.
pub fn nano(role: EngineRole) -> ModelFiles {
    match role {
        EngineRole::Diffusion => ModelFiles::Embedded {
            config: include_bytes!("../../models/nano/diffusion/config.json"),
            tokenizer: include_bytes!("../../models/nano/diffusion/tokenizer.json"),
            tokenizer_config: include_bytes!("../../models/nano/diffusion/tokenizer_config.json"),
            weights: include_bytes!("../../models/nano/diffusion/model.safetensors"),
        },
        EngineRole::Ar => ModelFiles::Embedded {
            config: include_bytes!("../../models/nano/ar/config.json"),
            tokenizer: include_bytes!("../../models/nano/ar/tokenizer.json"),
            tokenizer_config: include_bytes!("../../models/nano/ar/tokenizer_config.json"),
            weights: include_bytes!("../../models/nano/ar/model.safetensors"),
        },
    }
}

/// The config of a nano model.
pub fn nano_config(role: EngineRole) -> &'static [u8] {
    match role {
        EngineRole::Diffusion => include_bytes!("../../models/nano/diffusion/config.json"),
        EngineRole::Ar => include_bytes!("../../models/nano/ar/config.json"),
    }
}
