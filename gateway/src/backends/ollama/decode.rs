//! From the lines of an answer to events. The answer is complete only with the line that says `done` and why; no end is
//! ever made up.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use weir_protocol::{EngineError, Event, FinishReason, Usage};

use crate::api::reading::written::may_differ;
use crate::backends::openai_chat::logprobs::token_logprobs;
use crate::backends::upstream::answer::{Answer, cut};
use crate::backends::upstream::{Decoder, refusal};
use crate::plain_json;

/// Reads one answer.
#[derive(Debug)]
pub(super) struct LineDecoder {
    window: u64,
    answer: Answer,
}

/// What of a line is needed as it was written.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    tool_calls: Vec<Call<'a>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    arguments: &'a RawValue,
}

impl LineDecoder {
    pub(super) fn new(asked: &str, window: u64) -> Self {
        LineDecoder { window, answer: Answer::new(asked) }
    }

    fn line(&mut self, line: &Value, text: &[u8], events: &mut Vec<Event>) -> Result<(), EngineError> {
        match line.get("error").filter(|error| !error.is_null()) {
            Some(error) => return Err(refusal::inside(error, self.window)),
            None if line.is_object() => {}
            None => return Err(cut("a piece of the stream is no object")),
        }
        let message = &line["message"];
        if line["model"].is_string() || message.is_object() {
            self.answer.start(line["model"].as_str(), events);
        }
        events.extend(token_logprobs(&line["logprobs"]));
        self.answer.reasoning(message["thinking"].as_str().unwrap_or_default(), events);
        self.answer.text(message["content"].as_str().unwrap_or_default(), events);
        let calls = || message["tool_calls"].as_array().into_iter().flatten();
        let differs = calls().any(|call| may_differ(&call["function"]["arguments"]));
        let written: Option<Line<'_>> = serde_json::from_slice(text).ok().filter(|_| differs);
        let mut written = written.map(|line| line.message.tool_calls).unwrap_or_default().into_iter();
        for call in calls() {
            self.call(call, written.next().map(|call| call.function.arguments.get()), events)?;
        }
        if line["done"] == true {
            self.done(line)?;
            self.answer.end(events)?;
        }
        Ok(())
    }

    /// A call comes whole, its arguments as an object: as it was written where a number may have been changed by being read.
    fn call(&mut self, call: &Value, written: Option<&str>, events: &mut Vec<Event>) -> Result<(), EngineError> {
        let function = &call["function"];
        let Some(name) = function["name"].as_str().filter(|name| !name.is_empty()) else {
            return Err(cut("a tool call came without its name"));
        };
        let arguments = match &function["arguments"] {
            Value::String(text) if !text.is_empty() => text.clone(),
            object @ Value::Object(_) => written.map_or_else(|| object.to_string(), str::to_owned),
            Value::Null | Value::String(_) => "{}".to_owned(),
            _ => return Err(cut("the arguments of a tool call are no object")),
        };
        let (index, _) = self.answer.call(call["id"].as_str().unwrap_or_default(), name, events)?;
        events.push(Event::ToolCallDelta { index, arguments });
        Ok(())
    }

    fn done(&mut self, line: &Value) -> Result<(), EngineError> {
        // Counts of nothing are left out: the prompt's where all of it came from a cache, the answer's where it is empty.
        let (prompt, answer) = (line["prompt_eval_count"].as_u64(), line["eval_count"].as_u64());
        if prompt.is_some() || answer.is_some() {
            let (prompt_tokens, completion_tokens) = (prompt.unwrap_or(0), answer.unwrap_or(0));
            self.answer.count(Usage { prompt_tokens, completion_tokens, ..Usage::default() });
        }
        self.answer.reason(match line["done_reason"].as_str().unwrap_or_default() {
            // Old servers say nothing.
            "stop" | "" => FinishReason::Stop,
            "length" => FinishReason::Length,
            // `load`, `unload`: nothing was answered.
            other if refusal::is_word(other) => return Err(cut(&format!("the upstream ended with `{other}`"))),
            _ => return Err(cut("the upstream ended with an unknown reason")),
        });
        Ok(())
    }
}

impl Decoder for LineDecoder {
    fn take(&mut self, data: &str, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if self.has_ended() {
            return Ok(());
        }
        let line = plain_json::parse(data).map_err(|_| cut("a piece of the stream is not JSON"))?;
        self.line(&line, data.as_bytes(), events)
    }

    fn whole(&mut self, document: &[u8], events: &mut Vec<Event>) -> Result<(), EngineError> {
        let answer = plain_json::parse_bytes(document).map_err(|_| cut("the answer is not JSON"))?;
        self.line(&answer, document, events)?;
        self.end(events)
    }

    fn answer(&self) -> &Answer {
        &self.answer
    }

    fn end(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        self.answer.end(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::upstream::tests::script::{check, check_promise, check_whole};
    use proptest::prelude::*;

    fn decoder() -> LineDecoder {
        LineDecoder::new("asked", 9)
    }

    const A: &str = r#"{"model":"m","message":{"role":"assistant","content":"a"},"done":false}"#;
    const THINK: &str = r#"{"model":"m","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#;
    const CALL: &str = r#"{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"x":1}}},{"id":"b","function":{"name":"g","arguments":{}}}]},"done":false}"#;
    const DONE: &str = r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":5,"eval_count":2}"#;

    #[test]
    fn a_good_stream_ends_once() {
        check(decoder(), &[THINK, A, DONE, DONE, A], "<m>(hm)a#5+2/0!stop");
        check(decoder(), &[A, &DONE.replace("stop", "length")], "<m>a#5+2/0!length");
        check(decoder(), &[A, r#"{"done":true}"#], "<m>a!stop");
        check(decoder(), &[r#"{"model":"m","done":true,"prompt_eval_count":5}"#], "<m>#5+0/0!stop");
        check(decoder(), &[A, r#"{"done":true,"eval_count":2}"#], "<m>a#0+2/0!stop");
        check_whole(decoder(), &DONE.replace("\"content\":\"\"", "\"content\":\"b\""), "<m>b#5+2/0!stop");
    }

    #[test]
    fn calls_come_whole() {
        check(decoder(), &[CALL, DONE], r#"<m>[0 f{0 {"x":1}}[1 g{1 {}}#5+2/0!tool_calls"#);
        let long = CALL.replace("\"x\":1", "\"x\": 1.00000000000000000001");
        check(decoder(), &[&long, DONE], r#"<m>[0 f{0 {"x": 1.00000000000000000001}}[1 g{1 {}}#5+2/0!tool_calls"#);
        check(decoder(), &[r#"{"message":{"tool_calls":[{"function":{"arguments":{}}}]}}"#], "<asked> ERR stream_cut");
        check(
            decoder(),
            &[r#"{"message":{"tool_calls":[{"function":{"name":"f","arguments":7}}]}}"#],
            "<asked> ERR stream_cut",
        );
    }

    #[test]
    fn an_end_is_never_made_up() {
        check(decoder(), &[A], "<m>a ERR stream_cut");
        check(decoder(), &[A, "{\"mod"], "<m>a ERR stream_cut");
        check(decoder(), &[A, "7"], "<m>a ERR stream_cut");
        check(decoder(), &[A, &DONE.replace("stop", "unload")], "<m>a ERR stream_cut");
        check(decoder(), &[A, r#"{"error":"model runner has unexpectedly stopped"}"#, DONE], "<m>a ERR upstream");
        check(decoder(), &[r#"{"error":"input length exceeds maximum context length"}"#], " ERR context_too_long");
    }

    #[test]
    fn log_probabilities_are_passed_on() {
        let told = r#"{"model":"m","message":{"content":"a"},"logprobs":[{"token":"a","logprob":-0.25,"top_logprobs":[{"token":"b","logprob":-2}]}]}"#;
        check(decoder(), &[told, DONE], "<m>`a=-0.25/1`a#5+2/0!stop");
    }

    proptest! {
        #[test]
        fn any_order_of_lines_keeps_the_promise(lines in prop::collection::vec(
            prop::sample::select(vec![A, THINK, CALL, DONE, "{}", "null", r#"{"done":true,"done_reason":"load"}"#]), 0..8,
        )) {
            check_promise(decoder(), &lines);
        }
    }
}
