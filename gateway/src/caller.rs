//! Who asks: an id made from the key a caller sends, and which kind of client it is. Must never keep, show or log the
//! key itself.

mod hints;

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use ring::digest::{SHA256, digest};
use weir_protocol::{ChatRequest, Hints, Role};

use crate::record::Record;
use crate::tenants::{Directory, RatesSlot, Tenant};

/// Where callers put a key, the first that is there counts.
const KEYS: [&str; 2] = ["authorization", "x-api-key"];
const SCHEME: &[u8] = b"Bearer ";
/// Bytes of the digest that make the id.
const ID_BYTES: usize = 16;
/// A client says by this header what it is, where nothing else tells.
const CLIENT: &str = "x-weir-client";
const OPENCLAW: &str = "openclaw";
/// What OpenClaw's own agents begin parts of their system text with (`facts/openclaw.md` §1.2): without a plugin it
/// sends no header that tells it from any other program with the same SDK.
const OPENCLAW_MARK: &str = "<!-- openclaw:";

/// A kind of client whose own way with errors is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientKind {
    /// OpenClaw: retries for minutes what looks as if it may pass, unless told to go elsewhere.
    OpenClaw,
    /// Any other.
    #[default]
    Other,
}

/// Who sent a request. Handlers take it as an argument.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    id: Option<Arc<str>>,
    client: ClientKind,
    tenant: Option<(Arc<Tenant>, RatesSlot)>,
    hints: Hints,
    record: Option<Record>,
}

impl Caller {
    /// What the headers tell.
    pub fn of(headers: &HeaderMap) -> Self {
        Caller { id: id(headers), client: client(headers), tenant: None, hints: hints::of(headers), record: None }
    }

    /// The same where there are tenants: `None` for a key that nobody has.
    pub fn known(headers: &HeaderMap, directory: &Directory) -> Option<Self> {
        if directory.is_empty() {
            return Some(Caller::of(headers));
        }
        let tenant = directory.owner(key(headers)?)?;
        Some(Caller {
            id: Some(Arc::clone(&tenant.name)),
            client: tenant.client.unwrap_or_else(|| client(headers)),
            tenant: Some((Arc::clone(tenant), RatesSlot::default())),
            hints: hints::of(headers),
            record: None,
        })
    }

    /// Whose key it is, where there are tenants, and where to note how its rates stand.
    pub fn tenant(&self) -> Option<&(Arc<Tenant>, RatesSlot)> {
        self.tenant.as_ref()
    }

    /// What is kept of the request.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// How the tenant's rates stand, once that is known.
    pub fn rates_left(&self) -> Option<RatesSlot> {
        self.tenant.as_ref().map(|(_, left)| Arc::clone(left))
    }

    /// Whether it may name this model.
    pub fn may_name(&self, model: &str) -> bool {
        self.tenant.as_ref().is_none_or(|(tenant, _)| tenant.may_name(model))
    }

    /// Backends and groups that may serve it; empty: all.
    pub fn backends(&self) -> &[String] {
        self.tenant.as_ref().map_or(&[], |(tenant, _)| &tenant.backends)
    }

    /// `request` as this caller's.
    pub fn sign(&self, request: ChatRequest) -> ChatRequest {
        let background = request.background || self.tenant.as_ref().is_some_and(|(tenant, _)| tenant.background);
        ChatRequest { tenant: self.id(), background, hints: self.hints.clone(), ..request }
    }

    /// The same id for the same key; `None` for a caller without one.
    pub fn id(&self) -> Option<Arc<str>> {
        self.id.clone()
    }

    /// The kind of client that sent `request`.
    pub fn client(&self, request: &ChatRequest) -> ClientKind {
        let system = || request.messages.iter().take_while(|message| message.role == Role::System);
        let mut texts = system().flat_map(|message| &message.content).filter_map(|part| part.as_text());
        let told = self.tenant.as_ref().is_some_and(|(tenant, _)| tenant.client.is_some());
        if !told && self.client == ClientKind::Other && texts.any(|text| text.contains(OPENCLAW_MARK)) {
            return ClientKind::OpenClaw;
        }
        self.client
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Left there by `layers::auth`.
        let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_else(|| Caller::of(&parts.headers));
        // And there by `layers::record`.
        Ok(Caller { record: parts.extensions.get::<Record>().cloned(), ..caller })
    }
}

/// The key itself, for the one comparison.
pub(crate) fn key(headers: &HeaderMap) -> Option<&[u8]> {
    KEYS.iter().filter_map(|name| in_header(header(headers, name)?.as_bytes())).next()
}

/// One key is one caller, in whichever header its SDK sends it. What stands there for somebody else, such as a proxy's
/// `Basic …`, is no key.
fn in_header(sent: &[u8]) -> Option<&[u8]> {
    let key = match sent.split_at_checked(SCHEME.len()) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(SCHEME) => key.trim_ascii(),
        _ => Some(sent.trim_ascii()).filter(|sent| !sent.contains(&b' '))?,
    };
    (!key.is_empty()).then_some(key)
}

fn id(headers: &HeaderMap) -> Option<Arc<str>> {
    let digest = digest(&SHA256, key(headers)?);
    let mut id = String::with_capacity(2 * ID_BYTES);
    for byte in digest.as_ref().iter().take(ID_BYTES) {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    Some(id.into())
}

/// The first value of a header. A request has few of them: to compare them takes less than to hash a name.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h HeaderValue> {
    headers.iter().find(|(given, _)| given.as_str() == name).map(|(_, value)| value)
}

fn client(headers: &HeaderMap) -> ClientKind {
    let names_it = |name: &str| {
        let value = header(headers, name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.to_ascii_lowercase().contains(OPENCLAW)
    };
    let sends_its_own = || headers.keys().any(|name| name.as_str().starts_with("x-openclaw-"));
    match names_it(CLIENT) || names_it(USER_AGENT.as_str()) || sends_its_own() {
        true => ClientKind::OpenClaw,
        false => ClientKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::Message;

    fn with(name: &'static str, value: &'static str) -> Caller {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header"));
        Caller::of(&headers)
    }

    #[test]
    fn the_same_key_is_the_same_caller_and_cannot_be_read_from_it() {
        let one = with("authorization", "Bearer secret-1").id().expect("a key");
        assert_eq!(with("authorization", "Bearer secret-1").id(), Some(Arc::clone(&one)));
        assert_ne!(with("authorization", "Bearer secret-2").id(), Some(Arc::clone(&one)));
        assert_eq!(with("x-api-key", "secret-1").id(), Some(Arc::clone(&one)));
        assert_eq!(with("authorization", "Bearer ").id(), None);
        assert_eq!((one.len(), one.contains("secret")), (32, false));
        assert_eq!((with("authorization", "").id(), Caller::default().id()), (None, None));
        for empty in ["", "Bearer ", "Basic cHJveHk6c2VjcmV0"] {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", empty.parse().expect("a header"));
            headers.insert("x-api-key", "secret-1".parse().expect("a header"));
            assert_eq!(key(&headers), Some(b"secret-1".as_slice()), "{empty}");
        }
    }

    #[test]
    fn openclaw_is_known_by_its_headers_or_its_system_text() {
        let plain = ChatRequest::default();
        let kind = |name, value| with(name, value).client(&plain);
        assert_eq!(kind("user-agent", "OpenAI/JS 7.15.0"), ClientKind::Other);
        assert_eq!(kind("user-agent", "OpenClaw/2026.9.6"), ClientKind::OpenClaw);
        assert_eq!(kind("x-weir-client", "openclaw"), ClientKind::OpenClaw);
        assert_eq!(kind("x-openclaw-agent-id", "main"), ClientKind::OpenClaw);
        let says = |role| ChatRequest {
            messages: vec![Message::text(role, "You are…\n<!-- openclaw:attempt:STABLE -->")],
            ..ChatRequest::default()
        };
        assert_eq!(Caller::default().client(&says(Role::System)), ClientKind::OpenClaw);
        assert_eq!(Caller::default().client(&says(Role::User)), ClientKind::Other);
    }
}
