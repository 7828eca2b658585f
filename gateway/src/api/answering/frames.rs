//! Server-sent events. Must never let a line break into a frame: JSON escapes them.

use bytes::Bytes;
use serde::Serialize;

/// A comment: shows that the answer is alive, and clients ignore it.
pub(crate) const COMMENT: &[u8] = b": keep-alive\n\n";

/// An event without a name.
pub(crate) fn data(value: &impl Serialize) -> Bytes {
    write(Vec::new(), value)
}

/// An event of this name.
pub(crate) fn named(name: &str, value: &impl Serialize) -> Bytes {
    write(format!("event: {name}\n").into_bytes(), value)
}

fn write(mut out: Vec<u8>, value: &impl Serialize) -> Bytes {
    let start = out.len();
    out.extend_from_slice(b"data: ");
    if serde_json::to_writer(&mut out, value).is_err() {
        // Strings and numbers always serialize; if ever not, the client must not take the stream for whole. All
        // dialects' clients look for `error`.
        out.truncate(start);
        out.extend_from_slice(
            br#"data: {"type":"error","error":{"message":"internal error","type":"server_error","param":null,"code":"internal"}}"#,
        );
    }
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}
