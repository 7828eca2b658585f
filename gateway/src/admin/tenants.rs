//! What each tenant may take and has taken. Must never show a key or its hash.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::live::Live;
use crate::tenants::Tenant;
use crate::tenants::limits::Used;

/// `GET /admin/tenants`
pub(super) async fn list(State(live): State<Arc<Live>>) -> Json<Value> {
    let tenants = Arc::clone(&live.current().gateway.tenants);
    let all = tenants.directory().iter().map(async |tenant| shown(tenant, tenants.used(tenant).await.ok()));
    Json(json!({"tenants": join_all(all).await}))
}

fn shown(tenant: &Tenant, used: Option<Used>) -> Value {
    let limits = &tenant.limits;
    // 0 is no limit.
    let limit = |figure: u64| (figure > 0).then_some(figure);
    json!({
        "name": &*tenant.name,
        "keys": tenant.keys.iter().map(|(_, expires)| json!({"expires": expires})).collect::<Vec<_>>(),
        "models": tenant.models,
        "backends": &*tenant.backends,
        "background": tenant.background,
        "limits": {
            "requests_per_minute": limit(limits.requests_per_minute),
            "tokens_per_minute": limit(limits.tokens_per_minute),
            "concurrent": limit(limits.concurrent),
            "tokens_per_day": limit(limits.tokens_per_day),
            "money_per_day": limit(limits.money_per_day).map(money),
        },
        // Null where the store is away.
        "used": used.map(|used| json!({
            "requests_left": limit(limits.requests_per_minute).map(|_| used.requests_left),
            "tokens_left": limit(limits.tokens_per_minute).map(|_| used.tokens_left),
            "concurrent": used.concurrent,
            "tokens_today": used.day_tokens,
            "money_today": money(used.day_money),
        })),
    })
}

/// From millionths.
fn money(millionths: u64) -> f64 {
    millionths as f64 / 1e6
}
