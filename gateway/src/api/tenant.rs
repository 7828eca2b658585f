//! Who asks: an id made from the key a caller sends, the same for the same key. Must never keep, show or log the key.

use std::fmt::Write;
use std::sync::Arc;

use http::HeaderMap;
use ring::digest::{SHA256, digest};

/// Where callers put a key, the first that is there counts.
const KEYS: [&str; 2] = ["authorization", "x-api-key"];

/// Bytes of the digest that make the id.
const BYTES: usize = 16;

/// The tenant of these headers; `None` for a caller without a key.
pub fn of(headers: &HeaderMap) -> Option<Arc<str>> {
    let key = KEYS.iter().find_map(|name| headers.get(*name)).filter(|key| !key.is_empty())?;
    let digest = digest(&SHA256, key.as_bytes());
    let mut id = String::with_capacity(2 * BYTES);
    for byte in digest.as_ref().iter().take(BYTES) {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    Some(id.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_is_the_same_tenant_and_cannot_be_read_from_it() {
        let with = |name: &'static str, key: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, key.parse().expect("a header"));
            of(&headers)
        };
        let one = with("authorization", "Bearer secret-1").expect("a key");
        assert_eq!(with("authorization", "Bearer secret-1"), Some(Arc::clone(&one)));
        assert_ne!(with("authorization", "Bearer secret-2"), Some(Arc::clone(&one)));
        assert!(with("x-api-key", "secret-1").is_some());
        assert_eq!((one.len(), one.contains("secret")), (32, false));
        assert_eq!((with("authorization", ""), of(&HeaderMap::new())), (None, None));
    }
}
