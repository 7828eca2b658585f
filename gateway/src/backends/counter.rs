//! How many tokens a prompt has, by the upstream's own count. Must never be asked in another dialect than its own: it would
//! count another prompt.

use std::sync::Arc;

use weir_protocol::{ChatRequest, EngineError};

use super::upstream::Wire;
use super::upstream::body::forwarded;
use super::upstream::demands::unsupported;
use super::upstream::once::Once;
use crate::config::BackendSettings;

/// Counts at one upstream. A clone is the same one.
#[derive(Clone)]
pub struct Counter {
    once: Once,
    wire: Arc<dyn Wire>,
}

impl Counter {
    /// `None`: upstreams of this kind do not count.
    ///
    /// # Errors
    /// There is no HTTP client.
    pub(super) fn new(settings: &BackendSettings) -> Result<Option<Self>, reqwest::Error> {
        let wire: Arc<dyn Wire> = super::wire(settings).into();
        let at = wire.counts_at().map(|path| Once::new(settings, wire.as_ref(), path)).transpose()?;
        Ok(at.map(|once| Counter { once, wire }))
    }

    /// The tokens of this request's prompt.
    ///
    /// # Errors
    /// It is in another dialect, or the upstream did not count.
    pub async fn count(&self, request: &ChatRequest) -> Result<u64, EngineError> {
        if !self.wire.speaks(request) {
            return Err(unsupported("messages", "only the upstream's own dialect is counted there"));
        }
        let settings = self.once.settings();
        let named = settings.models.iter().find(|model| **model == request.model);
        let model = named.unwrap_or(&settings.model).as_str();
        let ours: Vec<_> = std::iter::once(("model", model.into())).chain(self.wire.unsealed(request)).collect();
        let counted = self.once.ask(forwarded(request, &ours)?, self.wire.own_headers(request)).await?;
        let odd = || EngineError::Upstream { status: 0, message: "it gave no count".into(), retry_after: None };
        counted["input_tokens"].as_u64().ok_or_else(odd)
    }
}
