//! Named server-sent events as a strict client reads them: `event`, one `data` line whose `type` is the name. Strict on
//! purpose, as [`crate::frames`] is.

use serde_json::Value;

/// A streamed answer, taken apart.
#[derive(Debug, Clone, Default)]
pub struct NamedFrames {
    /// Events in order: name and data, without pings.
    pub events: Vec<(String, Value)>,
    /// Comments and pings.
    pub keep_alives: usize,
    /// What does not belong into such a stream.
    pub strange: Vec<String>,
}

impl NamedFrames {
    /// Takes a whole body apart.
    pub fn read(body: &str) -> Self {
        let mut frames = NamedFrames::default();
        let (whole, rest) = body.rsplit_once("\n\n").unwrap_or(("", body));
        for event in whole.split("\n\n").filter(|event| !event.is_empty()) {
            if event.starts_with(':') && !event.contains('\n') {
                frames.keep_alives += 1;
                continue;
            }
            match event_of(event) {
                Some((name, _)) if name == "ping" => frames.keep_alives += 1,
                Some(named) => frames.events.push(named),
                None => frames.strange.push(event.to_owned()),
            }
        }
        if !rest.is_empty() {
            frames.strange.push("the body ends inside an event".to_owned());
        }
        frames
    }

    /// The names in order.
    pub fn names(&self) -> Vec<&str> {
        self.events.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The data of the events of this name.
    pub fn all(&self, name: &str) -> Vec<&Value> {
        self.events.iter().filter(|(own, _)| own == name).map(|(_, data)| data).collect()
    }

    /// The last event.
    pub fn last(&self) -> (&str, &Value) {
        self.events.last().map_or(("", &Value::Null), |(name, data)| (name.as_str(), data))
    }
}

fn event_of(event: &str) -> Option<(String, Value)> {
    let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
    let data: Value = serde_json::from_str(data).ok().filter(|_| !data.contains('\n'))?;
    (data["type"] == *name).then(|| (name.to_owned(), data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_named_events_are_taken() {
        let frames = NamedFrames::read(
            ": hi\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: a\ndata: {\"type\":\"a\",\"x\":1}\n\n",
        );
        assert_eq!((frames.names(), frames.keep_alives, frames.strange.len()), (vec!["a"], 2, 0));
        for strange in ["data: {}\n\n", "event: a\ndata: {\"type\":\"b\"}\n\n", "event: a\ndata: {\"type\":\"a\"}\n"] {
            assert_eq!(NamedFrames::read(strange).strange.len(), 1, "{strange}");
        }
    }
}
