//! What an answer cost. Counts only; must never estimate.

/// Tokens of one answer, as the backend's own tokenizer counts them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the rendered prompt, those from or into a cache included; 0: not counted, see [`Usage::prompt`].
    pub prompt_tokens: u64,
    /// Tokens generated, the end token included.
    pub completion_tokens: u64,
    /// Prompt tokens whose K/V came from a cache.
    pub cached_tokens: u64,
    /// Prompt tokens that were written into a cache, where the backend bills them apart.
    pub cache_write_tokens: u64,
    /// Generated tokens that went into reasoning, where the backend tells.
    pub reasoning_tokens: u64,
    /// Present when a diffusion engine answered.
    pub diffusion: Option<DiffusionStats>,
}

impl Usage {
    /// Tokens of the prompt, where the backend counted them: no prompt is empty, but Ollama leaves its count out where it
    /// was cached.
    pub fn prompt(&self) -> Option<u64> {
        Some(self.prompt_tokens).filter(|tokens| *tokens > 0)
    }
}

/// How a diffusion answer was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiffusionStats {
    /// Denoise steps: forwards of the active block, confirming ones included.
    pub steps: u32,
    /// Blocks generated, the one shared with the prompt's tail included.
    pub blocks: u32,
    /// Written tokens that were replaced (T2T), deleted, or pushed right by an insertion.
    pub edits: u32,
    /// Tokens a grammar left no choice about, written without asking the model.
    pub forced_tokens: u32,
    /// Tokens generated, the end token included (TPF = tokens / steps).
    pub tokens: u32,
}

impl DiffusionStats {
    /// Tokens per forward; 0 when nothing ran.
    pub fn tokens_per_forward(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { f64::from(self.tokens) / f64::from(self.steps) }
    }
}
