//! Server-sent events. Must never let a line break into a frame: JSON escapes them.

use bytes::Bytes;
use memchr::memchr2_iter;
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

/// An event without a name whose data was written elsewhere.
pub(crate) fn data_as_written(data: &str) -> Bytes {
    as_written(Vec::with_capacity(data.len() + 8), data)
}

/// An event of this name whose data was written elsewhere. A name that is none is left out.
pub(crate) fn named_as_written(name: &str, data: &str) -> Bytes {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    as_written(if is_name { format!("event: {name}\n").into_bytes() } else { Vec::new() }, data)
}

/// JSON needs no line breaks: those between its words are white space, and inside its texts they are escaped.
fn as_written(mut out: Vec<u8>, data: &str) -> Bytes {
    out.extend_from_slice(b"data: ");
    let start = out.len();
    out.extend_from_slice(data.as_bytes());
    for at in memchr2_iter(b'\n', b'\r', data.as_bytes()) {
        out[start + at] = b' ';
    }
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_others_breaks_a_frame() {
        assert_eq!(data_as_written("{\n\"a\":\r\n1}"), "data: { \"a\":  1}\n\n".as_bytes());
        assert_eq!(named_as_written("a.b", "{}"), "event: a.b\ndata: {}\n\n".as_bytes());
        assert_eq!(named_as_written("a\ndata: evil", "{}"), "data: {}\n\n".as_bytes());
        assert_eq!(named_as_written("", "{}"), "data: {}\n\n".as_bytes());
    }
}
