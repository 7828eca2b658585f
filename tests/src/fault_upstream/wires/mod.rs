//! How a good answer, and a refusal, look in each protocol. Pure: the same saying gives the same bytes.

mod chat;
mod completions;
mod messages;
mod ollama;
mod responses;

use serde_json::Value;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI chat completions; sglang speaks it too.
    Chat,
    /// OpenAI completions.
    Completions,
    /// OpenAI responses.
    Responses,
    /// Anthropic messages.
    Messages,
    /// Ollama's own.
    Ollama,
}

/// What is answered.
pub(super) enum Saying {
    /// This text, word by word.
    Text(String),
    /// Calls, their arguments in two pieces each.
    Calls(Calls),
}

/// How calls are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// One call, by the book.
    One,
    /// Two calls, by the book, their pieces mixed.
    Two,
    /// Two calls one after another, without any index.
    WithoutIndex,
    /// Two calls one after another, both with the same index.
    SameIndex,
}

impl Calls {
    /// How many.
    pub(super) fn count(self) -> usize {
        if self == Calls::One { 1 } else { 2 }
    }

    /// The places of the calls whose pieces come, in order.
    fn order(self) -> &'static [usize] {
        match self {
            Calls::One => &[0, 0],
            Calls::Two => &[0, 1, 1, 0],
            Calls::WithoutIndex | Calls::SameIndex => &[0, 0, 1, 1],
        }
    }

    /// Whether a call opens right before its own pieces, not all at the start.
    fn one_by_one(self) -> bool {
        matches!(self, Calls::WithoutIndex | Calls::SameIndex)
    }

    /// The index a call is given.
    fn index(self, at: usize) -> Option<usize> {
        match self {
            Calls::One | Calls::Two => Some(at),
            Calls::WithoutIndex => None,
            Calls::SameIndex => Some(0),
        }
    }
}

/// An event: its name where the protocol names events, and its data.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) name: Option<String>,
    pub(super) data: String,
}

impl Event {
    fn plain(data: impl ToString) -> Self {
        Event { name: None, data: data.to_string() }
    }

    /// The same with fields that no protocol knows, in each of its parts.
    pub(super) fn with_extras(&self) -> Self {
        let Ok(mut data) = serde_json::from_str::<Value>(&self.data) else { return self.clone() };
        add_extras(&mut data);
        for part in ["message", "content_block", "response", "item", "usage"] {
            data.get_mut(part).into_iter().for_each(add_extras);
        }
        for part in ["/choices/0", "/choices/0/delta"] {
            data.pointer_mut(part).into_iter().for_each(add_extras);
        }
        Event { data: data.to_string(), ..self.clone() }
    }
}

fn add_extras(part: &mut Value) {
    if let Some(members) = part.as_object_mut() {
        members.insert("x_up".into(), serde_json::json!({"kept": true}));
    }
}

/// A streamed answer in its parts.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Before anything is said.
    pub(super) opening: Vec<Event>,
    /// What is said.
    pub(super) content: Vec<Event>,
    /// Why it ended, with the counts that belong to it.
    pub(super) finish: Vec<Event>,
    /// The protocol's last word, where it has one after the finish.
    pub(super) last: Vec<Event>,
}

impl Wire {
    /// From the path below the fault.
    pub(super) fn of_path(path: &str) -> Option<Wire> {
        Some(match path {
            "v1/chat/completions" => Wire::Chat,
            "v1/completions" => Wire::Completions,
            "v1/responses" => Wire::Responses,
            "v1/messages" => Wire::Messages,
            "api/chat" => Wire::Ollama,
            _ => return None,
        })
    }

    /// Its streams' content type.
    pub(super) fn media_type(self) -> &'static str {
        if self == Wire::Ollama { "application/x-ndjson" } else { "text/event-stream" }
    }

    /// The parts of a streamed answer.
    pub(super) fn tell(self, saying: &Saying, request: &Value) -> Told {
        match self {
            Wire::Chat => chat::tell(saying, request),
            Wire::Completions => completions::tell(saying, request),
            Wire::Responses => responses::tell(saying),
            Wire::Messages => messages::tell(saying),
            Wire::Ollama => ollama::tell(saying),
        }
    }

    /// The answer as one document.
    pub(super) fn whole(self, saying: &Saying) -> Value {
        match self {
            Wire::Chat => chat::whole(saying),
            Wire::Completions => completions::whole(saying),
            Wire::Responses => responses::whole(saying),
            Wire::Messages => messages::whole(saying),
            Wire::Ollama => ollama::whole(saying),
        }
    }

    /// A refusal's body.
    pub(super) fn refusal(self, message: &str, code: &str) -> Value {
        match self {
            Wire::Chat | Wire::Completions | Wire::Responses => chat::refusal(message, code),
            Wire::Messages => messages::refusal(message, code),
            Wire::Ollama => ollama::refusal(message),
        }
    }

    /// An error inside a stream.
    pub(super) fn error(self, message: &str) -> Event {
        match self {
            Wire::Chat | Wire::Completions => Event::plain(chat::refusal(message, "broken_on_command")),
            Wire::Responses => responses::error(message),
            Wire::Messages => messages::error(message),
            Wire::Ollama => Event::plain(ollama::refusal(message)),
        }
    }

    /// An event that no client knows, where the protocol has names for events.
    pub(super) fn note(self) -> Option<Event> {
        let data = serde_json::json!({"type": "x_up.note", "kept": true}).to_string();
        (self == Wire::Messages).then(|| Event { name: Some("x_up.note".into()), data })
    }

    /// Something that says nothing, to keep the connection alive.
    pub(super) fn ping(self) -> String {
        match self {
            Wire::Chat | Wire::Completions | Wire::Responses => ": still here\n\n".into(),
            Wire::Messages => "event: ping\ndata: {\"type\":\"ping\"}\n\n".into(),
            Wire::Ollama => "\n".into(),
        }
    }

    /// An event as it is sent, with this line end.
    pub(super) fn frame(self, event: &Event, end: &str) -> String {
        match (self, &event.name) {
            (Wire::Ollama, _) => format!("{}{end}", event.data),
            (_, Some(name)) => format!("event: {name}{end}data: {}{end}{end}", event.data),
            (_, None) => format!("data: {}{end}{end}", event.data),
        }
    }

    /// What the last user turn of a request says.
    pub(super) fn asked(self, request: &Value) -> String {
        let list = if self == Wire::Responses { &request["input"] } else { &request["messages"] };
        let last = list.as_array().and_then(|turns| turns.last()).unwrap_or(list);
        match last.get("content").unwrap_or(last) {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
            _ => String::new(),
        }
    }
}

/// The events of calls: each opened, then its arguments in two pieces, in the order these calls come in.
fn pieces(
    calls: Calls,
    arguments: &str,
    open: impl Fn(usize) -> Event,
    piece: impl Fn(usize, &str) -> Event,
) -> Vec<Event> {
    let (first, second) = arguments.split_at(arguments.len() / 3);
    let mut begun = vec![false; calls.count()];
    let mut events = Vec::new();
    if !calls.one_by_one() {
        events.extend((0..calls.count()).map(&open));
    }
    for at in calls.order() {
        if calls.one_by_one() && !begun[*at] {
            events.push(open(*at));
        }
        let text = if std::mem::replace(&mut begun[*at], true) { second } else { first };
        events.push(piece(*at, text));
    }
    events
}
