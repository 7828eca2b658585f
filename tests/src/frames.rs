//! Server-sent events as a strict client reads them: only LF line ends, one `data` line an event, comments apart. Strict
//! on purpose: what the gateway sends must be the plainest form, whatever its upstream sent.

use serde_json::Value;

/// A streamed answer, taken apart.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// JSON events in order, error events included.
    pub chunks: Vec<Value>,
    /// How many `[DONE]` came.
    pub done: usize,
    /// Whether `[DONE]` was the last event.
    pub done_last: bool,
    /// Comment lines.
    pub comments: usize,
    /// What does not belong into a plain event stream.
    pub strange: Vec<String>,
}

impl Frames {
    /// Takes a whole body apart.
    pub fn read(body: &str) -> Self {
        let mut frames = Frames::default();
        for event in body.split("\n\n").filter(|event| !event.is_empty()) {
            if event.starts_with(':') && !event.contains('\n') {
                frames.comments += 1;
                continue;
            }
            frames.done_last = false;
            match event.strip_prefix("data: ").filter(|data| !data.contains('\n')) {
                Some("[DONE]") => {
                    frames.done += 1;
                    frames.done_last = true;
                }
                Some(data) => match serde_json::from_str(data) {
                    Ok(chunk) => frames.chunks.push(chunk),
                    Err(_) => frames.strange.push(event.to_owned()),
                },
                None => frames.strange.push(event.to_owned()),
            }
        }
        if !body.is_empty() && !body.ends_with("\n\n") {
            frames.strange.push("the body ends inside an event".to_owned());
        }
        frames
    }

    /// All content deltas, joined.
    pub fn text(&self) -> String {
        self.deltas().filter_map(|delta| delta["content"].as_str()).collect()
    }

    /// Tool calls put together from their deltas: id, name, arguments.
    pub fn calls(&self) -> Vec<(String, String, String)> {
        let mut calls: Vec<(String, String, String)> = Vec::new();
        for piece in self.deltas().filter_map(|delta| delta["tool_calls"].as_array()).flatten() {
            let index = usize::try_from(piece["index"].as_u64().unwrap_or(0)).unwrap_or(0);
            if calls.len() <= index {
                calls.resize(index + 1, Default::default());
            }
            let call = &mut calls[index];
            call.0.push_str(piece["id"].as_str().unwrap_or_default());
            call.1.push_str(piece["function"]["name"].as_str().unwrap_or_default());
            call.2.push_str(piece["function"]["arguments"].as_str().unwrap_or_default());
        }
        calls
    }

    /// Every finish reason that was given.
    pub fn finish_reasons(&self) -> Vec<&str> {
        self.choices().filter_map(|choice| choice["finish_reason"].as_str()).collect()
    }

    /// The error events.
    pub fn errors(&self) -> Vec<&Value> {
        self.chunks.iter().filter(|chunk| chunk.get("error").is_some()).collect()
    }

    /// The usage objects that are not null.
    pub fn usages(&self) -> Vec<&Value> {
        self.chunks.iter().filter_map(|chunk| chunk.get("usage").filter(|usage| usage.is_object())).collect()
    }

    /// Complete: one finish reason, then `[DONE]` last and once, no error, nothing strange.
    pub fn is_complete(&self) -> bool {
        self.finish_reasons().len() == 1
            && self.done == 1
            && self.done_last
            && self.errors().is_empty()
            && self.strange.is_empty()
    }

    /// Broken off, and truthfully so: the last event is an error, no finish reason, no `[DONE]`.
    pub fn is_broken_off(&self) -> bool {
        self.finish_reasons().is_empty()
            && self.done == 0
            && self.errors().len() == 1
            && self.chunks.last().is_some_and(|chunk| chunk.get("error").is_some())
            && self.strange.is_empty()
    }

    fn choices(&self) -> impl Iterator<Item = &Value> {
        self.chunks.iter().filter_map(|chunk| chunk["choices"].as_array()).flatten()
    }

    fn deltas(&self) -> impl Iterator<Item = &Value> {
        self.choices().map(|choice| &choice["delta"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n";

    #[test]
    fn the_judge_knows_complete_from_broken_off() {
        let whole = Frames::read(&format!(": keep-alive\n\n{STOP}data: [DONE]\n\n"));
        assert!(whole.is_complete() && !whole.is_broken_off() && whole.comments == 1 && whole.text() == "a");
        let error = Frames::read("data: {\"error\":{\"message\":\"x\"}}\n\n");
        assert!(error.is_broken_off() && !error.is_complete());
    }

    #[test]
    fn the_judge_refuses_lies() {
        assert!(!Frames::read(STOP).is_complete(), "no [DONE]");
        assert!(!Frames::read(&format!("{STOP}data: [DONE]\n\ndata: [DONE]\n\n")).is_complete(), "twice");
        assert!(!Frames::read(&format!("data: [DONE]\n\n{STOP}")).is_complete(), "not last");
        assert!(!Frames::read(&format!("{STOP}data: {{\"error\":1}}\n\n")).is_broken_off(), "finished and failed");
        assert!(!Frames::read(&format!("{STOP}data: [DONE]\n")).is_complete(), "cut inside an event");
        assert!(!Frames::read(&format!("{}data: [DONE]\r\n\r\n", STOP)).is_complete(), "CR LF");
    }
}
