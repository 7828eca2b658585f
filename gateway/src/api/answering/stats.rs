//! What a diffusion engine adds to an answer's usage, under `diffusion` in every dialect.

use serde::Serialize;
use weir_protocol::Usage;

/// How a diffusion answer was made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DiffusionBody {
    steps: u32,
    blocks: u32,
    edits: u32,
    tokens_per_forward: f64,
    forced_tokens: u32,
    cached_tokens: u64,
}

impl DiffusionBody {
    /// `None` where no diffusion engine answered.
    pub(crate) fn of(usage: &Usage) -> Option<Self> {
        usage.diffusion.as_ref().map(|stats| DiffusionBody {
            steps: stats.steps,
            blocks: stats.blocks,
            edits: stats.edits,
            // Two places are what a reader can use; the division's tail is noise.
            tokens_per_forward: (stats.tokens_per_forward() * 100.0).round() / 100.0,
            forced_tokens: stats.forced_tokens,
            cached_tokens: usage.cached_tokens,
        })
    }
}

/// A look at an unfinished block.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DraftBody {
    /// The active block as text.
    pub(crate) snapshot: String,
    /// Denoise step within the answer.
    pub(crate) step: u32,
    /// Positions still masked.
    pub(crate) masked: u32,
}
