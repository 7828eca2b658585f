//! From an upstream's chunks to events, as a state machine without sockets. An answer is complete only with its finish
//! reason; none is ever made up.

use serde_json::Value;
use weir_protocol::{EngineError, Event, FinishReason, TokenChance, TokenLogprob, Usage};

use super::calls::Calls;
use super::refusal;

/// Reads one answer.
#[derive(Debug)]
pub(super) struct ChunkDecoder {
    /// The model asked for, shown if the upstream does not name the one that answers.
    asked: String,
    window: u64,
    started: bool,
    calls: Calls,
    usage: Option<Usage>,
    reason: Option<FinishReason>,
    ended: bool,
}

impl ChunkDecoder {
    pub(super) fn new(asked: &str, window: u64) -> Self {
        ChunkDecoder {
            asked: asked.to_owned(),
            window,
            started: false,
            calls: Calls::default(),
            usage: None,
            reason: None,
            ended: false,
        }
    }

    /// Whether the finish reason is known, so that only counts can follow.
    pub(super) fn has_reason(&self) -> bool {
        self.reason.is_some()
    }

    /// Whether `Finished` was given.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The data of the next event. Events before a fault are given too.
    pub(super) fn take(&mut self, data: &str, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if self.ended || data.is_empty() {
            return Ok(());
        }
        if data.trim() == "[DONE]" {
            return self.end(events);
        }
        let chunk: Value = serde_json::from_str(data).map_err(|_| cut("a piece of the stream is not JSON"))?;
        self.refuse_error(&chunk)?;
        self.start(&chunk, events);
        self.count(&chunk["usage"]);
        for choice in own_choices(&chunk) {
            events.extend(logprobs(&choice["logprobs"]));
            self.message(&choice["delta"], events);
            self.finish_reason(&choice["finish_reason"])?;
        }
        Ok(())
    }

    /// There is nothing more to read.
    pub(super) fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let Some(mut reason) = self.reason else {
            return Err(cut("the upstream's stream ended without a finish reason"));
        };
        self.calls.end()?;
        // Several servers say `stop` after calls; clients run tools only if told so.
        if reason == FinishReason::Stop && self.calls.any() {
            reason = FinishReason::ToolCalls;
        }
        self.ended = true;
        events.extend(self.usage.take().map(Event::Usage));
        events.push(Event::Finished { reason });
        Ok(())
    }

    /// A whole answer as one document.
    pub(super) fn whole(mut self, body: &[u8]) -> Result<Vec<Event>, EngineError> {
        let answer: Value = serde_json::from_slice(body).map_err(|_| cut("the answer is not JSON"))?;
        self.refuse_error(&answer)?;
        let mut events = Vec::new();
        self.start(&answer, &mut events);
        self.count(&answer["usage"]);
        for choice in own_choices(&answer) {
            events.extend(logprobs(&choice["logprobs"]));
            self.message(&choice["message"], &mut events);
            self.finish_reason(&choice["finish_reason"])?;
        }
        self.end(&mut events)?;
        Ok(events)
    }

    fn refuse_error(&self, chunk: &Value) -> Result<(), EngineError> {
        match chunk.get("error").filter(|error| !error.is_null()) {
            Some(error) => Err(refusal::inside(error, self.window)),
            None if chunk.is_object() => Ok(()),
            None => Err(cut("a piece of the stream is no object")),
        }
    }

    /// The first chunk that names a model or says something begins the answer.
    fn start(&mut self, chunk: &Value, events: &mut Vec<Event>) {
        let model = chunk["model"].as_str().filter(|model| !model.is_empty());
        if self.started || (model.is_none() && own_choices(chunk).next().is_none()) {
            return;
        }
        self.started = true;
        events.push(Event::Started { model: model.unwrap_or(&self.asked).to_owned() });
    }

    fn message(&mut self, message: &Value, events: &mut Vec<Event>) {
        let mut say = |text: &Value, event: fn(String) -> Event| {
            events.extend(text_of(text).filter(|text| !text.is_empty()).map(event));
        };
        // The same thing under two names, depending on the server; never both.
        let reasoning = if message["reasoning_content"].is_null() { "reasoning" } else { "reasoning_content" };
        say(&message[reasoning], Event::ReasoningDelta);
        say(&message["content"], Event::TextDelta);
        say(&message["refusal"], Event::TextDelta);
        for entry in message["tool_calls"].as_array().into_iter().flatten() {
            self.calls.take(entry, events);
        }
    }

    fn finish_reason(&mut self, word: &Value) -> Result<(), EngineError> {
        let Some(word) = word.as_str().filter(|word| !word.is_empty()) else { return Ok(()) };
        self.reason = Some(match word {
            "stop" | "eos" | "end_turn" | "stop_sequence" => FinishReason::Stop,
            "length" | "max_tokens" => FinishReason::Length,
            "tool_calls" | "function_call" => FinishReason::ToolCalls,
            "content_filter" => FinishReason::ContentFilter,
            // `error`, `abort` and the like: not an end we can vouch for.
            other if refusal::is_word(other) => return Err(cut(&format!("the upstream ended with `{other}`"))),
            _ => return Err(cut("the upstream ended with an unknown reason")),
        });
        Ok(())
    }

    fn count(&mut self, usage: &Value) {
        let (Some(prompt_tokens), Some(completion_tokens)) =
            (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64())
        else {
            return;
        };
        let cached_tokens = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        // Some servers count in every chunk: the last word holds.
        self.usage = Some(Usage { prompt_tokens, completion_tokens, cached_tokens, ..Usage::default() });
    }
}

/// The choices with index 0: one is asked for.
fn own_choices(chunk: &Value) -> impl Iterator<Item = &Value> {
    let choices = chunk["choices"].as_array().into_iter().flatten();
    choices.filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0)
}

/// Log-probabilities in OpenAI's shape, if the choice has any.
fn logprobs(value: &Value) -> Option<Event> {
    let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
    let chance = |value: &Value| {
        Some(TokenChance {
            token: value["token"].as_str()?.to_owned(),
            logprob: value["logprob"].as_f64()? as f32,
            bytes: value["bytes"].as_array().and_then(|bytes| bytes.iter().map(byte).collect()),
        })
    };
    let entry = |value: &Value| {
        let top = value["top_logprobs"].as_array().into_iter().flatten().filter_map(chance).collect();
        Some(TokenLogprob { chosen: chance(value)?, top })
    };
    let entries: Vec<TokenLogprob> = value["content"].as_array()?.iter().filter_map(entry).collect();
    (!entries.is_empty()).then_some(Event::Logprobs(entries))
}

/// Text as a string or, from a few servers, as parts.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| part["text"].as_str()).collect()),
        _ => None,
    }
}

fn cut(message: &str) -> EngineError {
    EngineError::StreamCut { message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(chunks: &[&str]) -> (Vec<Event>, Result<(), EngineError>) {
        let (mut decoder, mut events) = (ChunkDecoder::new("asked", 9), Vec::new());
        for chunk in chunks {
            if let Err(error) = decoder.take(chunk, &mut events) {
                return (events, Err(error));
            }
        }
        let end = if decoder.has_ended() { Ok(()) } else { decoder.end(&mut events) };
        (events, end)
    }

    fn show(event: &Event) -> String {
        match event {
            Event::Started { model } => format!("<{model}>"),
            Event::TextDelta(text) => text.clone(),
            Event::ReasoningDelta(text) => format!("({text})"),
            Event::ToolCallStarted { index, name, .. } => format!("[{index} {name}"),
            Event::ToolCallDelta { arguments, .. } => format!(" {arguments}"),
            Event::Usage(usage) => {
                format!("#{}+{}/{}", usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
            }
            Event::Finished { reason } => format!("!{}", reason.as_str()),
            Event::Logprobs(entries) => entries
                .iter()
                .map(|entry| format!("{}={}/{}", entry.chosen.token, entry.chosen.logprob, entry.top.len()))
                .collect(),
            Event::Draft { .. } | Event::ReasoningSignature(_) | Event::StoppedAt(_) => "?".into(),
        }
    }

    #[track_caller]
    fn check(chunks: &[&str], expect: &str) {
        let (events, end) = run(chunks);
        let mut shown: String = events.iter().map(show).collect();
        if let Err(error) = end {
            shown.push_str(&format!(" ERR {}", error.kind()));
        }
        assert_eq!(shown, expect);
    }

    const A: &str = r#"{"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}"#;
    const STOP: &str = r#"{"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#;

    #[test]
    fn log_probabilities_are_passed_on() {
        let told = r#"{"model":"m","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[
            {"token":"a","logprob":-0.25,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-2,"bytes":null}, 7]}, {}]}}]}"#;
        check(&[told, STOP, "[DONE]"], "<m>a=-0.25/1a!stop");
    }

    #[test]
    fn a_good_stream_ends_once() {
        check(&[A, STOP, USAGE, "[DONE]", A], "<m>a#5+2/4!stop");
        check(&[A, STOP], "<m>a!stop");
        check(&[r#"{"choices":[{"delta":{"reasoning_content":"r"}}]}"#, STOP], "<asked>(r)!stop");
        check(&[r#"{"model":"","choices":[]}"#, A, STOP], "<m>a!stop");
    }

    #[test]
    fn an_end_is_never_made_up() {
        check(&[A], "<m>a ERR stream_cut");
        check(&[A, "[DONE]"], "<m>a ERR stream_cut");
        check(&[A, "{\"cho"], "<m>a ERR stream_cut");
        check(&[A, "7"], "<m>a ERR stream_cut");
        check(&[A, r#"{"choices":[{"delta":{},"finish_reason":"abort"}]}"#], "<m>a ERR stream_cut");
        check(&[A, r#"{"error":{"message":"x"}}"#, STOP], "<m>a ERR upstream");
        check(&[r#"{"error":{"code":429}}"#], " ERR rate_limited");
    }

    #[test]
    fn calls_end_as_calls() {
        let call = r#"{"choices":[{"delta":{"content":null,"tool_calls":[{"index":0,"id":"x","function":{"name":"f","arguments":"{}"}}]}}]}"#;
        check(&[call, STOP, "[DONE]"], "<asked>[0 f {}!tool_calls");
    }

    #[test]
    fn other_choices_are_not_mixed_in() {
        check(&[A, r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#, STOP], "<m>a!stop");
    }

    #[test]
    fn a_whole_document_is_taken_too() {
        let whole = |body: &str| ChunkDecoder::new("asked", 9).whole(body.as_bytes());
        let body = r#"{"model":"m","choices":[{"message":{"content":[{"type":"text","text":"a"}]},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        let shown: String = whole(body).expect("complete").iter().map(show).collect();
        assert_eq!(shown, "<m>a#1+2/0!length");
        assert_eq!(whole(r#"{"error":{"code":503}}"#).map_err(|e| e.kind()), Err("upstream"));
        assert_eq!(whole("{}").map_err(|e| e.kind()), Err("stream_cut"));
    }

    proptest! {
        #[test]
        fn any_order_of_chunks_keeps_the_promise(chunks in prop::collection::vec(
            prop::sample::select(vec![A, STOP, USAGE, "[DONE]", "", "{}", "null", r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#]), 0..8,
        )) {
            let (events, end) = run(&chunks);
            let finished = events.iter().filter(|event| matches!(event, Event::Finished { .. })).count();
            prop_assert_eq!(finished, usize::from(end.is_ok()));
            if end.is_ok() {
                let finished_last = matches!(events.last(), Some(Event::Finished { .. }));
                prop_assert!(finished_last);
            }
            let starts = events.iter().filter(|event| matches!(event, Event::Started { .. })).count();
            prop_assert!(starts <= 1);
        }
    }
}
