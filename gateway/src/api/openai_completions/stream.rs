//! The order of a stream's chunks: text, the finish reason, usage if asked for, `[DONE]`. A whole answer is written here
//! too: it is one chunk of everything.

use bytes::Bytes;
use serde::ser::{Serialize, Serializer};
use weir_protocol::{ChatRequest, EngineError, Event, FinishReason, TokenLogprob, Usage};

use super::encode::{Choice, Completion, LogprobsBody, finish_reason};
use crate::api::answering::Identity;
use crate::api::answering::collect::{Collected, Item};
use crate::api::answering::failure::Failure;
use crate::api::answering::frames::{data, data_as_written};
use crate::api::answering::stats::{DraftBody, Extra};
use crate::api::answering::stream::Grammar;
use crate::api::openai_chat::encode::{DONE, UsageBody};
use crate::api::openai_chat::error::ErrorBody;
use crate::api::openai_chat::without_usage;

/// Writes one streamed answer.
#[derive(Debug)]
pub(crate) struct CompletionsGrammar {
    identity: Identity,
    model: String,
    include_usage: bool,
    /// The prompt, until it was said back.
    echo: Option<String>,
    usage: Option<Usage>,
    /// Those of the text that comes next.
    logprobs: Vec<TokenLogprob>,
    /// Characters said, as log-probabilities count them.
    offset: usize,
}

/// The prompt to say back, where the caller wants that.
fn echo(request: &ChatRequest) -> Option<String> {
    let wanted = request.raw.get("echo").and_then(serde_json::Value::as_bool).unwrap_or(false);
    request.messages.first().filter(|_| wanted).map(weir_protocol::Message::joined_text)
}

fn no_call() -> EngineError {
    EngineError::Upstream {
        status: 0,
        message: "it called a tool where only text can be shown".into(),
        retry_after: None,
    }
}

impl Grammar for CompletionsGrammar {
    fn event(&mut self, event: Event) -> Result<Vec<Bytes>, EngineError> {
        Ok(match event {
            Event::Started { model } => {
                self.model = model;
                self.echo.take().map(|prompt| self.say(prompt, None)).into_iter().collect()
            }
            Event::Logprobs(more) => {
                self.logprobs.extend(more);
                Vec::new()
            }
            Event::TextDelta(text) | Event::RefusalDelta(text) => vec![self.say(text, None)],
            Event::ToolCallStarted { .. } | Event::ToolCallDelta { .. } => return Err(no_call()),
            // No place for them in this dialect: a completion is what the model says, not what it thinks.
            Event::Foreign
            | Event::ReasoningDelta(_)
            | Event::ReasoningSignature(_)
            | Event::StoppedAt(_)
            | Event::RateLimits(_)
            | Event::Continued { .. }
            | Event::Verbatim(_) => Vec::new(),
            Event::Draft { snapshot, step, masked } => {
                let choice = Choice { text: String::new(), index: 0, logprobs: None, finish_reason: None };
                let draft = DraftBody { snapshot, step, masked };
                vec![self.write(&[choice], self.include_usage.then_some(None), Some(Extra::draft(draft)))]
            }
            Event::Usage(usage) => {
                self.usage = Some(usage);
                Vec::new()
            }
            Event::Finished { reason } => self.finish(reason),
        })
    }

    /// Without `[DONE]`.
    fn broken(&mut self, error: &EngineError) -> Vec<Bytes> {
        vec![data(&ErrorBody::from(Failure::from(error).named(super::FIELDS)))]
    }

    fn verbatim(&mut self, piece: &str) -> Vec<Bytes> {
        // Upstreams are always asked for usage.
        if !self.include_usage && piece.contains("\"usage\"") {
            return without_usage(piece).iter().map(|piece| data_as_written(piece)).collect();
        }
        vec![data_as_written(piece)]
    }

    fn last_word(&mut self) -> Vec<Bytes> {
        vec![Bytes::from_static(DONE)]
    }
}

impl CompletionsGrammar {
    /// For the answer to `request`.
    pub(super) fn new(identity: Identity, request: &ChatRequest) -> Self {
        CompletionsGrammar {
            identity,
            model: String::new(),
            include_usage: request.include_usage,
            echo: echo(request),
            usage: None,
            logprobs: Vec::new(),
            offset: 0,
        }
    }

    fn say(&mut self, text: String, reason: Option<FinishReason>) -> Bytes {
        let logprobs = LogprobsBody::of(std::mem::take(&mut self.logprobs), &mut self.offset);
        let choice = Choice { text, index: 0, logprobs, finish_reason: reason.map(finish_reason) };
        self.write(&[choice], self.include_usage.then_some(None), None)
    }

    fn finish(&mut self, reason: FinishReason) -> Vec<Bytes> {
        let mut frames = vec![self.say(String::new(), Some(reason))];
        // Counts are never made up: a backend that did not say leaves the chunk out.
        if let Some(usage) = self.usage.as_ref().filter(|_| self.include_usage) {
            frames.push(self.write(&[], Some(Some(UsageBody::from(usage))), None));
        }
        frames.push(Bytes::from_static(DONE));
        frames
    }

    fn write(&self, choices: &[Choice], usage: Option<Option<UsageBody>>, weir: Option<Extra>) -> Bytes {
        data(&Completion {
            id: &self.identity.id,
            object: "text_completion",
            created: self.identity.created,
            model: &self.model,
            choices,
            usage,
            weir,
        })
    }
}

/// A whole answer as one document.
pub(crate) struct Whole {
    identity: Identity,
    model: String,
    choice: Choice,
    usage: Option<Usage>,
}

impl Whole {
    pub(super) fn new(identity: Identity, request: &ChatRequest, answer: Collected) -> Result<Self, EngineError> {
        let (mut text, mut about) = (echo(request).unwrap_or_default(), Vec::new());
        for item in answer.items {
            match item {
                Item::Text { text: more, logprobs } => {
                    text.push_str(&more);
                    about.extend(logprobs);
                }
                Item::Refusal(more) => text.push_str(&more),
                Item::Reasoning { .. } => {}
                Item::Call(_) => return Err(no_call()),
            }
        }
        let logprobs = LogprobsBody::of(about, &mut 0);
        let choice = Choice { text, index: 0, logprobs, finish_reason: Some(finish_reason(answer.reason)) };
        Ok(Whole { identity, model: answer.model, choice, usage: answer.usage })
    }
}

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = Completion {
            id: &self.identity.id,
            object: "text_completion",
            created: self.identity.created,
            model: &self.model,
            choices: std::slice::from_ref(&self.choice),
            usage: self.usage.as_ref().map(|usage| Some(UsageBody::from(usage))),
            weir: None,
        };
        body.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answering::collect::tests::collected;
    use crate::api::answering::stream::tests::{self as shared, any_events, call, ends, started, stop, text};
    use crate::api::openai_completions::decode::decode;
    use proptest::prelude::*;
    use weir_protocol::TokenChance;

    fn identity() -> Identity {
        Identity { id: "c".into(), created: 9 }
    }

    fn asked(more: serde_json::Value) -> ChatRequest {
        let mut body = serde_json::json!({"prompt": "a b"});
        let (Some(map), Some(more)) = (body.as_object_mut(), more.as_object()) else { unreachable!() };
        map.extend(more.clone());
        decode(body.to_string().as_bytes()).expect("a good request")
    }

    fn write(request: &ChatRequest, events: Vec<Event>) -> Vec<String> {
        shared::write(CompletionsGrammar::new(identity(), request), true, events)
    }

    /// Frames without what every chunk repeats.
    #[track_caller]
    fn check(more: serde_json::Value, events: Vec<Event>, expect: &[&str]) {
        let same = r#""id":"c","object":"text_completion","created":9,"model":"m","#;
        let frames: Vec<String> = write(&asked(more), events)
            .iter()
            .map(|frame| {
                let data =
                    frame.strip_prefix("data: ").and_then(|frame| frame.strip_suffix("\n\n")).expect("one event");
                data.replace(same, "")
            })
            .collect();
        assert_eq!(frames, expect);
    }

    fn chunk(text: &str, end: &str) -> String {
        format!(r#"{{"choices":[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":{end}}}]}}"#)
    }

    fn about(token: &str) -> Event {
        let chance = |logprob| TokenChance { token: token.into(), logprob, bytes: None };
        Event::Logprobs(vec![TokenLogprob { chosen: chance(-0.5), top: vec![chance(-0.5)] }])
    }

    #[test]
    fn text_streams_and_ends() {
        check(
            serde_json::json!({}),
            vec![started(), Event::ReasoningDelta("hm".into()), text("c\nd"), text(""), ends(FinishReason::Length)],
            &[&chunk("c\\nd", "null"), &chunk("", "\"length\""), "[DONE]"],
        );
        check(
            serde_json::json!({"echo": true}),
            vec![started(), text("c"), stop()],
            &[&chunk("a b", "null"), &chunk("c", "null"), &chunk("", "\"stop\""), "[DONE]"],
        );
    }

    #[test]
    fn log_probabilities_are_four_lists_with_running_offsets() {
        let frames = write(
            &asked(serde_json::json!({"logprobs": 1})),
            vec![started(), about("ab"), text("ab"), about("c"), text("c"), stop()],
        );
        let body = |token: &str, offset: u32| {
            format!(
                r#""logprobs":{{"tokens":["{token}"],"token_logprobs":[-0.5],"top_logprobs":[{{"{token}":-0.5}}],"text_offset":[{offset}]}}"#
            )
        };
        assert!(frames[0].contains(&body("ab", 0)), "{}", frames[0]);
        assert!(frames[1].contains(&body("c", 2)), "{}", frames[1]);
    }

    #[test]
    fn usage_comes_last_and_only_if_asked_for() {
        let events = || vec![started(), Event::Usage(Usage { prompt_tokens: 5, ..Usage::default() }), stop()];
        assert_eq!(write(&asked(serde_json::json!({})), events()).len(), 2);
        let frames = write(&asked(serde_json::json!({"stream_options": {"include_usage": true}})), events());
        assert!(
            frames[0].contains(r#""usage":null"#) && frames[1].contains(r#""choices":[],"usage":{"prompt_tokens":5"#)
        );
    }

    #[test]
    fn what_cannot_be_said_is_an_error() {
        let frames = write(&asked(serde_json::json!({})), vec![started(), text("c"), call(0, "i", "f"), stop()]);
        assert!(frames.len() == 2 && frames[1].contains("only text can be shown"), "{frames:?}");
    }

    #[tokio::test]
    async fn a_whole_answer_is_one_document() {
        let usage = Event::Usage(Usage { prompt_tokens: 1, completion_tokens: 2, ..Usage::default() });
        let answer = collected(vec![started(), text("c"), about("c"), usage, stop()]).await.expect("complete");
        let whole = Whole::new(identity(), &asked(serde_json::json!({"echo": true})), answer).expect("text");
        assert_eq!(
            serde_json::to_string(&whole).expect("plain data"),
            r#"{"id":"c","object":"text_completion","created":9,"model":"m","choices":[{"text":"a bc","index":0,"logprobs":{"tokens":["c"],"token_logprobs":[-0.5],"top_logprobs":[{"c":-0.5}],"text_offset":[0]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}}"#
        );
    }

    proptest! {
        #[test]
        fn any_stream_ends_once_and_truthfully(events in any_events(), usage in any::<bool>()) {
            let request = ChatRequest { include_usage: usage, ..ChatRequest::default() };
            let frames = write(&request, events);
            let whole = frames.concat();
            let done = whole.matches("data: [DONE]").count();
            let errors = frames.iter().filter(|frame| frame.starts_with("data: {\"error\"")).count();
            prop_assert_eq!(done + errors, 1);
            prop_assert_eq!(whole.matches("\"finish_reason\":\"").count(), done);
            let last = frames.last().expect("at least the end");
            let ends = last.starts_with("data: [DONE]") || last.starts_with("data: {\"error\"");
            prop_assert!(ends);
        }
    }
}
