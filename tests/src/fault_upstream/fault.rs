//! The faults by name: what a test writes into a path.

/// How the upstream behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers well.
    Fine,
    /// Answers well with a tool call.
    Tools,
    /// Answers well with two tool calls at once, their pieces mixed.
    ParallelTools,
    /// Two tool calls without an index.
    MissingIndex,
    /// Two tool calls under one index.
    ReusedIndex,
    /// Answers with the last message's text.
    Echo,
    /// Refuses with this status and an error of the protocol.
    Status(u16),
    /// 400 with the words for a context that is too long.
    Overflow,
    /// 502 with an HTML page, as proxies send.
    Html,
    /// 200 with an HTML page, as a login wall sends.
    HtmlOk,
    /// 200 with a line of plain text.
    PlainText,
    /// A good stream under a content type that is not true.
    WrongType,
    /// A good stream, compressed although nobody asked for it.
    Gzip,
    /// A compressed stream that ends in its middle.
    GzipCut,
    /// Takes the request and never answers.
    Silent,
    /// Sends its headers and nothing more.
    SilentAfterHeaders,
    /// Keeps the connection alive, and says nothing, for ever.
    Pings,
    /// Sends half of the answer and nothing more.
    Hang,
    /// Says something again and again, for ever, as fast as it is read.
    Endless,
    /// Says something again and again, for ever, slowly.
    Drip,
    /// Cuts the connection after so many bytes of the body.
    Cut(usize),
    /// Cuts the connection before anything was said.
    CutEarly,
    /// Cuts the connection in the middle of what is said.
    CutLate,
    /// A well-ended body without finish reason and last word.
    NoFinish,
    /// A finish reason but no last word; good clients take it as complete.
    NoDone,
    /// The last word but no finish reason.
    DoneOnly,
    /// Finish reason and last word come twice.
    DoubleFinish,
    /// An empty body with status 200.
    Empty,
    /// An error event before any content.
    ErrorFirst,
    /// An error event after some content.
    ErrorEvent,
    /// A piece that is not JSON, after some content.
    Malformed,
    /// Each byte on its own.
    ByteByByte,
    /// Each byte on its own, of a text whose characters have several.
    SplitUtf8,
    /// CR LF line ends.
    CrLf,
    /// Comments between the events, and a first one before.
    Comments,
    /// JSON spread over several `data:` lines.
    MultiLine,
    /// A plain JSON answer although a stream was asked for.
    PlainJson,
    /// A good stream whose every part has fields that no protocol knows, and an event that none knows.
    Extras,
    /// Headers about rate limits, on a good stream.
    Limits,
    /// Resets the connection instead of answering.
    Reset,
    /// Sends header after header, slowly, and never ends them.
    SlowHeaders,
    /// Breaks the transfer's own framing after some content.
    BadChunk,
    /// Promises a longer body than it sends.
    ShortBody,
}

/// All names without a number.
const NAMES: [(&str, Fault); 41] = [
    ("fine", Fault::Fine),
    ("tools", Fault::Tools),
    ("parallel-tools", Fault::ParallelTools),
    ("missing-index", Fault::MissingIndex),
    ("reused-index", Fault::ReusedIndex),
    ("echo", Fault::Echo),
    ("overflow", Fault::Overflow),
    ("html", Fault::Html),
    ("html-ok", Fault::HtmlOk),
    ("plain-text", Fault::PlainText),
    ("wrong-type", Fault::WrongType),
    ("gzip", Fault::Gzip),
    ("gzip-cut", Fault::GzipCut),
    ("silent", Fault::Silent),
    ("silent-after-headers", Fault::SilentAfterHeaders),
    ("pings", Fault::Pings),
    ("hang", Fault::Hang),
    ("endless", Fault::Endless),
    ("drip", Fault::Drip),
    ("cut-early", Fault::CutEarly),
    ("cut-late", Fault::CutLate),
    ("no-finish", Fault::NoFinish),
    ("no-done", Fault::NoDone),
    ("done-only", Fault::DoneOnly),
    ("double-finish", Fault::DoubleFinish),
    ("empty", Fault::Empty),
    ("error-first", Fault::ErrorFirst),
    ("error-event", Fault::ErrorEvent),
    ("malformed", Fault::Malformed),
    ("byte-by-byte", Fault::ByteByByte),
    ("split-utf8", Fault::SplitUtf8),
    ("crlf", Fault::CrLf),
    ("comments", Fault::Comments),
    ("multi-line", Fault::MultiLine),
    ("plain-json", Fault::PlainJson),
    ("extras", Fault::Extras),
    ("limits", Fault::Limits),
    ("reset", Fault::Reset),
    ("slow-headers", Fault::SlowHeaders),
    ("bad-chunk", Fault::BadChunk),
    ("short-body", Fault::ShortBody),
];

impl Fault {
    /// By its name; `cut-N` and plain status numbers carry their number.
    pub fn parse(name: &str) -> Option<Fault> {
        if let Some(bytes) = name.strip_prefix("cut-").and_then(|number| number.parse().ok()) {
            return Some(Fault::Cut(bytes));
        }
        if let Ok(status @ 400..=599) = name.parse() {
            return Some(Fault::Status(status));
        }
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault)
    }

    /// Whether it needs the socket itself, below HTTP.
    pub(super) fn is_raw(self) -> bool {
        matches!(self, Fault::Reset | Fault::SlowHeaders | Fault::BadChunk | Fault::ShortBody)
    }
}
