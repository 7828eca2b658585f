//! Stands in for `api::openai_chat` until it is there. To be deleted.
#![allow(missing_docs)]

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::stack::Gateway;

pub mod error {
    use super::*;
    pub fn refusal(status: http::StatusCode, code: &'static str, message: &str) -> Response {
        let body = serde_json::json!({"error": {"message": message, "type": code, "param": null, "code": code}});
        (status, axum::Json(body)).into_response()
    }
}

pub async fn chat(State(_gateway): State<Arc<Gateway>>) -> Response {
    error::refusal(http::StatusCode::NOT_IMPLEMENTED, "pending", "pending")
}
pub async fn models(State(_gateway): State<Arc<Gateway>>) -> Response {
    error::refusal(http::StatusCode::NOT_IMPLEMENTED, "pending", "pending")
}
pub async fn model(State(_gateway): State<Arc<Gateway>>) -> Response {
    error::refusal(http::StatusCode::NOT_IMPLEMENTED, "pending", "pending")
}
