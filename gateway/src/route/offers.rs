//! Tools that only a server runs (web search), offered beside functions that the caller runs: agents offer them all day and
//! seldom need them. Who may run them is asked first, if nobody is named, and gets them as they are; whoever else answers gets the
//! request without them, and the caller is told so. Must never leave out what is demanded, nor the only tools that there are.

use std::sync::{Arc, OnceLock};

use weir_protocol::{ChatRequest, ToolChoice};
use weir_router_policies::BackendFacts;

use crate::backends::{Backend, Registry};

/// The name under which decoders note such tools.
const TOOLS: &str = "tools";

/// Those of one request.
pub(super) struct Offers<'a> {
    request: &'a ChatRequest,
    without: OnceLock<Arc<ChatRequest>>,
}

impl<'a> Offers<'a> {
    /// `None`: it makes none that could be left out.
    pub(super) fn of(request: &'a ChatRequest) -> Option<Self> {
        let can_go = request.tool_choice == ToolChoice::Auto && !request.tools.is_empty();
        (can_go && request.unsupported.contains(&TOOLS)).then(|| Offers { request, without: OnceLock::new() })
    }

    /// Whether this backend may run them: it gets the caller's own body.
    pub(super) fn are_run_by(&self, backend: &Backend) -> bool {
        backend.server_tools.of.is_some_and(|dialect| self.request.is_in(dialect))
    }

    /// Whether one of these may.
    pub(super) fn are_run(&self, backends: &Registry, facts: &[BackendFacts]) -> bool {
        facts.iter().filter_map(|one| backends.by_name(&one.name)).any(|backend| self.are_run_by(backend))
    }

    /// The request without them.
    pub(super) fn without(&self) -> &Arc<ChatRequest> {
        self.without.get_or_init(|| Arc::new(left_out(self.request.clone())))
    }

    /// The same, with it said whether somebody waits.
    pub(super) fn without_in(&self, background: bool) -> Arc<ChatRequest> {
        let mut request = Arc::clone(self.without());
        if request.background != background {
            Arc::make_mut(&mut request).background = background;
        }
        request
    }
}

/// This request without them.
pub(super) fn left_out(mut request: ChatRequest) -> ChatRequest {
    request.unsupported.retain(|field| *field != TOOLS);
    // The caller's own words name them.
    request.amended = true;
    request
}
