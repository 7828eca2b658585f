//! `GET /v1/models`: what a caller may put into `model`. Must never ask a backend: agents probe this before each job
//! and take a slow answer for a dead gateway.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde::Serialize;
use weir_protocol::EngineError;

use crate::api::answering::failure::Failure;
use crate::api::anthropic_messages;
use crate::api::openai_chat::error;
use crate::backends::ModelEntry;
use crate::caller::Caller;
use crate::config::nearest;
use crate::stack::Gateway;

/// The dialect demands a date. When a model was made is not known here, so all show the same one: 1 January 2026.
const CREATED: u64 = 1_767_225_600;
const CREATED_AT: &str = "2026-01-01T00:00:00Z";

#[derive(Serialize)]
struct ModelObject<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<u64>,
}

impl<'a> From<&'a ModelEntry> for ModelObject<'a> {
    fn from(entry: &'a ModelEntry) -> Self {
        ModelObject {
            id: &entry.id,
            object: "model",
            created: CREATED,
            owned_by: entry.backend.as_deref().unwrap_or("weir"),
            context_window: entry.context_tokens,
        }
    }
}

#[derive(Serialize)]
struct ModelList<'a> {
    object: &'static str,
    data: Vec<ModelObject<'a>>,
}

/// The same for Anthropic's clients, which ask at the same path.
#[derive(Serialize)]
struct AnthropicModel<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_input_tokens: Option<u64>,
}

impl<'a> From<&'a ModelEntry> for AnthropicModel<'a> {
    fn from(entry: &'a ModelEntry) -> Self {
        let (id, max_input_tokens) = (entry.id.as_str(), entry.context_tokens);
        AnthropicModel { kind: "model", id, display_name: id, created_at: CREATED_AT, max_input_tokens }
    }
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: Vec<AnthropicModel<'a>>,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
    has_more: bool,
}

/// Anthropic's clients always send this; nobody else does.
fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// All of them.
pub async fn list(State(gateway): State<Arc<Gateway>>, caller: Caller, headers: HeaderMap) -> Response {
    let models = theirs(&gateway, &caller);
    if is_anthropic(&headers) {
        let data = models.iter().copied().map(AnthropicModel::from).collect();
        let first_id = models.first().map(|entry| entry.id.as_str());
        let last_id = models.last().map(|entry| entry.id.as_str());
        return Json(AnthropicList { data, first_id, last_id, has_more: false }).into_response();
    }
    let data = models.iter().copied().map(ModelObject::from).collect();
    Json(ModelList { object: "list", data }).into_response()
}

/// One, by its id; ids may contain slashes.
pub async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    // What is no text is nobody's id.
    let id = id.map(|Path(id)| id).unwrap_or_default();
    match (find(&theirs(&gateway, &caller), &id), is_anthropic(&headers)) {
        (Ok(entry), true) => Json(AnthropicModel::from(entry)).into_response(),
        (Ok(entry), false) => Json(ModelObject::from(entry)).into_response(),
        (Err(error), true) => anthropic_messages::error::response(&Failure::from(&error)),
        (Err(error), false) => error::response(Failure::from(&error)),
    }
}

/// Those that the caller may name, and that somebody answers whom it may ask.
fn theirs<'a>(gateway: &'a Gateway, caller: &Caller) -> Vec<&'a ModelEntry> {
    let fits = |id: &str| caller.may_name(id) && gateway.router.serves(id, caller.backends());
    gateway.models.iter().filter(|entry| fits(&entry.id)).collect()
}

fn find<'a>(models: &[&'a ModelEntry], id: &str) -> Result<&'a ModelEntry, EngineError> {
    models.iter().copied().find(|entry| entry.id == id).ok_or_else(|| {
        let near = nearest(id, models.iter().map(|entry| entry.id.as_str()));
        let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        EngineError::UnknownModel { model: id.chars().take(64).collect(), hint }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, backend: Option<&str>, context_tokens: Option<u64>) -> ModelEntry {
        ModelEntry { id: id.into(), backend: backend.map(Into::into), context_tokens }
    }

    #[test]
    fn a_model_has_the_shape_clients_parse() {
        let shown = |entry: &ModelEntry| serde_json::to_string(&ModelObject::from(entry)).expect("plain data");
        assert_eq!(
            shown(&entry("org/m", Some("up"), Some(4096))),
            r#"{"id":"org/m","object":"model","created":1767225600,"owned_by":"up","context_window":4096}"#
        );
        assert_eq!(
            shown(&entry("auto", None, None)),
            r#"{"id":"auto","object":"model","created":1767225600,"owned_by":"weir"}"#
        );
        let shown = |entry: &ModelEntry| serde_json::to_string(&AnthropicModel::from(entry)).expect("plain data");
        assert_eq!(
            shown(&entry("org/m", Some("up"), Some(4096))),
            r#"{"type":"model","id":"org/m","display_name":"org/m","created_at":"2026-01-01T00:00:00Z","max_input_tokens":4096}"#
        );
    }

    #[test]
    fn ids_are_found_exactly_or_with_a_hint() {
        let (auto, diffusion) = (entry("auto", None, None), entry("diffusion", Some("diffusion"), None));
        let models = [&auto, &diffusion];
        assert_eq!(find(&models, "auto").map(|entry| entry.id.as_str()), Ok("auto"));
        let error = find(&models, "difusion").map(|_| ()).expect_err("unknown");
        assert_eq!(error.to_string(), "unknown model `difusion` (did you mean `diffusion`?)");
    }
}
