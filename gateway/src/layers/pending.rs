//! Stands in for the handler of `api::openai_chat` until it is there. To be deleted.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::api::openai_chat::error;
use crate::stack::Gateway;

/// Nothing yet.
pub async fn chat(State(_gateway): State<Arc<Gateway>>) -> Response {
    error::refusal(http::StatusCode::NOT_IMPLEMENTED, "pending", "pending")
}
