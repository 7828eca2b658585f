//! The faults by name: what a test writes into a path.

/// How the upstream behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers well.
    Fine,
    /// Answers well with a tool call.
    Tools,
    /// Answers with the last message's text.
    Echo,
    /// Refuses with this status and an error of the dialect.
    Status(u16),
    /// 400 with the words for a context that is too long.
    Overflow,
    /// 502 with an HTML page, as proxies send.
    Html,
    /// Takes the request and never answers.
    Silent,
    /// Sends its headers and nothing more.
    SilentAfterHeaders,
    /// Sends half of the answer and nothing more.
    Hang,
    /// Cuts the connection after so many bytes of the body.
    Cut(usize),
    /// A well-ended body without finish reason and `[DONE]`.
    NoFinish,
    /// A finish reason but no `[DONE]`; good clients take it as complete.
    NoDone,
    /// `[DONE]` but no finish reason.
    DoneOnly,
    /// An empty body with status 200.
    Empty,
    /// An error event before any content.
    ErrorFirst,
    /// An error event after some content.
    ErrorEvent,
    /// A chunk that is not JSON, after some content.
    Malformed,
    /// Each byte on its own.
    ByteByByte,
    /// CR LF line ends.
    CrLf,
    /// Comments between the events, and a first one before.
    Comments,
    /// JSON spread over several `data:` lines.
    MultiLine,
    /// A plain JSON answer although a stream was asked for.
    PlainJson,
}

impl Fault {
    /// By its name; `cut-N` and plain status numbers carry their number.
    pub fn parse(name: &str) -> Option<Fault> {
        if let Some(bytes) = name.strip_prefix("cut-") {
            return bytes.parse().ok().map(Fault::Cut);
        }
        if let Ok(status @ 400..=599) = name.parse() {
            return Some(Fault::Status(status));
        }
        Some(match name {
            "fine" => Fault::Fine,
            "tools" => Fault::Tools,
            "echo" => Fault::Echo,
            "overflow" => Fault::Overflow,
            "html" => Fault::Html,
            "silent" => Fault::Silent,
            "silent-after-headers" => Fault::SilentAfterHeaders,
            "hang" => Fault::Hang,
            "no-finish" => Fault::NoFinish,
            "no-done" => Fault::NoDone,
            "done-only" => Fault::DoneOnly,
            "empty" => Fault::Empty,
            "error-first" => Fault::ErrorFirst,
            "error-event" => Fault::ErrorEvent,
            "malformed" => Fault::Malformed,
            "byte-by-byte" => Fault::ByteByByte,
            "crlf" => Fault::CrLf,
            "comments" => Fault::Comments,
            "multi-line" => Fault::MultiLine,
            "plain-json" => Fault::PlainJson,
            _ => return None,
        })
    }
}
