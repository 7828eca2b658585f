//! Asks for a key where there are tenants, before the body is read, and shows each tenant how its rates stand. Must never
//! say more about a wrong key than that it is wrong.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use weir_protocol::{Denial, EngineError};

use crate::api;
use crate::caller::Caller;
use crate::metrics::Metrics;
use crate::record::Record;
use crate::tenants::{RatesLeft, Tenants};

/// Who knows the keys.
#[derive(Clone)]
pub struct Auth {
    tenants: Arc<Tenants>,
    metrics: Arc<Metrics>,
}

impl Auth {
    /// With these tenants.
    pub fn new(tenants: Arc<Tenants>, metrics: Arc<Metrics>) -> Self {
        Auth { tenants, metrics }
    }
}

/// The layer.
pub async fn layer<N: Future<Output = Response>>(
    auth: Auth,
    mut request: Request,
    next: impl FnOnce(Request) -> N,
) -> Response {
    let caller = match Caller::known(request.headers(), auth.tenants.directory()) {
        Some(caller) => caller,
        None => {
            let denial = Denial::Key;
            let message = "missing or unknown API key: send it as `Authorization: Bearer …` or `x-api-key`".to_owned();
            let error = EngineError::Denied { denial, message, retry_after: None };
            auth.metrics.denied("none", "key");
            return api::refused(request.uri().path(), &error);
        }
    };
    let left = caller.rates_left();
    if let (Some((tenant, _)), Some(record)) = (caller.tenant(), request.extensions().get::<Record>()) {
        record.tenant(&tenant.name);
    }
    request.extensions_mut().insert(caller);
    let mut response = next(request).await;
    if let Some(left) = left.and_then(|left| left.get().copied()) {
        show(response.headers_mut(), &left);
    }
    response
}

/// In the words of OpenAI's clients, which others have taken over. A tenant that has limits sees its own and not what is
/// left of the operator's account with an upstream.
fn show(headers: &mut HeaderMap, left: &RatesLeft) {
    let rates = [
        ("requests", left.limits.requests_per_minute, left.requests),
        ("tokens", left.limits.tokens_per_minute, left.tokens),
    ];
    if rates.iter().any(|(_, limit, _)| *limit > 0) {
        let upstreams = headers.keys().filter(|name| name.as_str().contains("ratelimit-")).cloned();
        for name in upstreams.collect::<Vec<_>>() {
            headers.remove(name);
        }
    }
    for (what, limit, (remaining, back_us)) in rates {
        if limit == 0 {
            continue;
        }
        let values = [
            ("limit", limit.to_string()),
            ("remaining", remaining.to_string()),
            ("reset", format!("{}ms", back_us.div_ceil(1000))),
        ];
        for (word, value) in values {
            let name = HeaderName::try_from(format!("x-ratelimit-{word}-{what}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }
}
