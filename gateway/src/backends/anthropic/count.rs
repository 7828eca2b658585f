//! How many tokens a prompt has, by the upstream's own count. Must never be asked in another dialect than its own: it would
//! count another prompt.

use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::{Anthropic, own_headers, unsealed};
use crate::backends::upstream::body::forwarded;
use crate::backends::upstream::demands::unsupported;
use crate::backends::upstream::once::Once;
use crate::config::BackendSettings;

/// Counts at one upstream.
#[derive(Debug, Clone)]
pub struct Counter(Once);

impl Counter {
    /// # Errors
    /// There is no HTTP client.
    pub fn new(settings: &BackendSettings) -> Result<Self, reqwest::Error> {
        Once::new(settings, &Anthropic::new(settings), "/messages/count_tokens").map(Counter)
    }

    /// The tokens of this request's prompt.
    ///
    /// # Errors
    /// It is in another dialect, or the upstream did not count.
    pub async fn count(&self, request: &ChatRequest) -> Result<u64, EngineError> {
        if !request.is_in(Dialect::AnthropicMessages) {
            return Err(unsupported("messages", "only Anthropic's own dialect is counted there"));
        }
        let settings = self.0.settings();
        let named = settings.models.iter().find(|model| **model == request.model);
        let model = named.unwrap_or(&settings.model).as_str();
        let mut ours = vec![("model", model.into())];
        ours.extend(unsealed::without(&request.raw).map(|messages| ("messages", messages)));
        let counted = self.0.ask(forwarded(request, &ours)?, own_headers(request)).await?;
        let odd = || EngineError::Upstream { status: 0, message: "it gave no count".into(), retry_after: None };
        counted["input_tokens"].as_u64().ok_or_else(odd)
    }
}
