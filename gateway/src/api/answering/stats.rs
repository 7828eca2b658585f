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

/// What only Weir has; clients that do not know it skip it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Extra {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) draft: Option<DraftBody>,
    /// The backend that went on where another was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) continued_by: Option<String>,
}

impl Extra {
    /// A draft.
    pub(crate) fn draft(draft: DraftBody) -> Self {
        Extra { draft: Some(draft), ..Extra::default() }
    }

    /// Who went on; `None` where nobody had to.
    pub(crate) fn continued(backend: Option<String>) -> Option<Self> {
        backend.map(|backend| Extra { continued_by: Some(backend), ..Extra::default() })
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
