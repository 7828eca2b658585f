//! Puts the gateway together: one function reads as the path of a request, from the outside in. Must never hold
//! logic of a layer or a handler.

use std::sync::Arc;

use crate::backends::ModelEntry;
use crate::config::ServerSettings;
use crate::metrics::Metrics;
use crate::route;

/// What handlers share (`axum::extract::State<Arc<Gateway>>`).
pub struct Gateway {
    /// Plans requests and runs the plans.
    pub router: route::Router,
    /// The listening side's settings (hold_headers, keep_alive, …).
    pub settings: ServerSettings,
    /// What `GET /v1/models` lists, in order.
    pub models: Vec<ModelEntry>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}
