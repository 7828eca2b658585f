//! The order of a stream's chunks: role first, then deltas, then the finish reason, usage if asked for, `[DONE]`. Must
//! never send `content` where there is none: some clients open a text at the empty one.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use weir_protocol::{ChatRequest, EngineError, Event, FinishReason, TokenLogprob, Usage};

use super::encode::{CallDelta, Chunk, ChunkChoice, DONE, Delta, FunctionDelta, LogprobsBody, UsageBody};
use super::error::ErrorBody;
use crate::api::answering::Identity;
use crate::api::answering::failure::Failure;
use crate::api::answering::frames::{data, data_as_written};
use crate::api::answering::stats::{DraftBody, Extra};
use crate::api::answering::stream::Grammar;
use crate::api::reading;

/// Writes one streamed answer.
#[derive(Debug)]
pub(crate) struct ChatGrammar {
    identity: Identity,
    model: String,
    include_usage: bool,
    usage: Option<Usage>,
    /// Who went on where another was cut.
    continued: Option<String>,
    /// Those of the text that comes next.
    logprobs: Vec<TokenLogprob>,
    /// Whether the role was sent.
    speaking: bool,
    /// Whether anything but the role was.
    said: bool,
    /// Whether the upstream's own id was taken over.
    adopted: bool,
    /// Whether the upstream's own chunks are sent.
    passing: bool,
}

/// What all pieces of an answer have in common.
#[derive(Deserialize)]
struct Head {
    id: Option<String>,
    created: Option<u64>,
}

impl Grammar for ChatGrammar {
    fn event(&mut self, event: Event) -> Result<Vec<Bytes>, EngineError> {
        Ok(match event {
            Event::Started { model } => {
                self.model = model;
                self.speak()
            }
            // Those of pieces that are passed on stand in them.
            Event::Logprobs(more) => {
                self.logprobs.extend(more.into_iter().filter(|_| !self.passing));
                Vec::new()
            }
            // No place for them in this dialect.
            Event::Foreign
            | Event::ReasoningSignature(_)
            | Event::StoppedAt(_)
            | Event::RateLimits(_)
            | Event::Verbatim(_) => Vec::new(),
            Event::TextDelta(text) => self.delta(Delta { content: Some(text), ..Delta::default() }),
            Event::RefusalDelta(text) => self.delta(Delta { refusal: Some(text), ..Delta::default() }),
            Event::ReasoningDelta(text) => self.delta(Delta { reasoning_content: Some(text), ..Delta::default() }),
            Event::ToolCallStarted { index, id, name } => {
                let function = FunctionDelta { name: Some(name), arguments: String::new() };
                self.call(CallDelta { index, id: Some(id), kind: Some("function"), function })
            }
            Event::ToolCallDelta { index, arguments } => {
                let function = FunctionDelta { name: None, arguments };
                self.call(CallDelta { index, id: None, kind: None, function })
            }
            Event::Draft { snapshot, step, masked } => self.draft(DraftBody { snapshot, step, masked }),
            Event::Continued { backend } => {
                self.continued = Some(backend);
                Vec::new()
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
        vec![data(&ErrorBody::from(Failure::from(error)))]
    }

    fn verbatim(&mut self, piece: &str) -> Vec<Bytes> {
        self.adopt(piece);
        self.passing = true;
        // Upstreams are always asked for usage.
        if !self.include_usage && piece.contains("\"usage\"") {
            return without_usage(piece).iter().map(|piece| data_as_written(piece)).collect();
        }
        vec![data_as_written(piece)]
    }

    fn goes_on(&mut self) {
        self.passing = false;
    }

    fn last_word(&mut self) -> Vec<Bytes> {
        vec![Bytes::from_static(DONE)]
    }
}

/// The piece as if no usage had been asked for; `None`: there would be none.
pub(crate) fn without_usage(piece: &str) -> Option<String> {
    let Ok(mut chunk) = reading::parse(piece.as_bytes()) else { return Some(piece.to_owned()) };
    let counted = chunk.remove("usage").is_some_and(|usage| usage.is_object());
    let says_nothing = chunk.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty);
    (!(counted && says_nothing)).then(|| Value::Object(chunk).to_string())
}

impl ChatGrammar {
    /// For the answer to `request`.
    pub(super) fn new(identity: Identity, request: &ChatRequest) -> Self {
        ChatGrammar {
            identity,
            model: String::new(),
            include_usage: request.include_usage,
            usage: None,
            continued: None,
            logprobs: Vec::new(),
            speaking: false,
            said: false,
            adopted: false,
            passing: false,
        }
    }

    /// Should anything of ours follow, it is of the same answer.
    fn adopt(&mut self, piece: &str) {
        if std::mem::replace(&mut self.adopted, true) {
            return;
        }
        if let Ok(Head { id, created }) = serde_json::from_str(piece) {
            let id = id.filter(|id| !id.is_empty());
            self.identity.id = id.unwrap_or_else(|| std::mem::take(&mut self.identity.id));
            self.identity.created = created.unwrap_or(self.identity.created);
        }
    }

    /// The first chunk names the role and the model that answers.
    fn speak(&mut self) -> Vec<Bytes> {
        if std::mem::replace(&mut self.speaking, true) {
            return Vec::new();
        }
        let delta = Delta { role: Some("assistant"), ..Delta::default() };
        vec![self.chunk(delta, Vec::new(), None, None)]
    }

    fn delta(&mut self, delta: Delta) -> Vec<Bytes> {
        if self.passing {
            (self.speaking, self.said) = (true, true);
            return Vec::new();
        }
        let mut frames = self.speak();
        self.said = true;
        let logprobs = std::mem::take(&mut self.logprobs);
        frames.push(self.chunk(delta, logprobs, None, None));
        frames
    }

    fn call(&mut self, call: CallDelta) -> Vec<Bytes> {
        self.delta(Delta { tool_calls: Some([call]), ..Delta::default() })
    }

    fn draft(&mut self, draft: DraftBody) -> Vec<Bytes> {
        let mut frames = self.speak();
        frames.push(self.chunk(Delta::default(), Vec::new(), None, Some(Extra::draft(draft))));
        frames
    }

    fn finish(&mut self, reason: FinishReason) -> Vec<Bytes> {
        let mut frames = self.speak();
        let logprobs = std::mem::take(&mut self.logprobs);
        let weir = Extra::continued(self.continued.take());
        // An answer without a word is an empty text, as when it comes whole.
        let content = (!self.said).then(String::new);
        frames.push(self.chunk(Delta { content, ..Delta::default() }, logprobs, Some(reason.as_str()), weir));
        // Counts are never made up: a backend that did not say leaves the chunk out.
        if let Some(usage) = self.usage.as_ref().filter(|_| self.include_usage) {
            frames.push(self.write(&[], Some(Some(UsageBody::from(usage))), None));
        }
        frames.push(Bytes::from_static(DONE));
        frames
    }

    fn chunk(
        &self,
        delta: Delta,
        logprobs: Vec<TokenLogprob>,
        finish_reason: Option<&'static str>,
        weir: Option<Extra>,
    ) -> Bytes {
        // Nobody would see it.
        if self.passing {
            return Bytes::new();
        }
        let choice = ChunkChoice { index: 0, delta, logprobs: LogprobsBody::of(logprobs), finish_reason };
        self.write(&[choice], self.include_usage.then_some(None), weir)
    }

    fn write(&self, choices: &[ChunkChoice], usage: Option<Option<UsageBody>>, weir: Option<Extra>) -> Bytes {
        data(&Chunk {
            id: &self.identity.id,
            object: "chat.completion.chunk",
            created: self.identity.created,
            model: &self.model,
            choices,
            usage,
            weir,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answering::stream::tests::{self as shared, any_events, started, stop, text};
    use proptest::prelude::*;
    use weir_protocol::{DiffusionStats, TokenChance};

    fn write(events: Vec<Event>, usage: bool, drafts: bool) -> Vec<String> {
        let request = ChatRequest { include_usage: usage, ..ChatRequest::default() };
        shared::write(ChatGrammar::new(Identity { id: "c".into(), created: 9 }, &request), drafts, events)
    }

    /// Frames without what every chunk repeats.
    #[track_caller]
    fn check(events: Vec<Event>, usage: bool, drafts: bool, expect: &[&str]) {
        let same = r#""id":"c","object":"chat.completion.chunk","created":9,"model":"m","#;
        let frames: Vec<String> = write(events, usage, drafts)
            .iter()
            .map(|frame| {
                let data =
                    frame.strip_prefix("data: ").and_then(|frame| frame.strip_suffix("\n\n")).expect("one event");
                data.replace(same, "").replace(r#","finish_reason":null}]}"#, "}]}")
            })
            .collect();
        assert_eq!(frames, expect);
    }

    const ROLE: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#;
    const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const NOTHING: &str = r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}]}"#;

    #[test]
    fn text_streams_and_ends() {
        let says = r#"{"choices":[{"index":0,"delta":{"content":"a\nb"}}]}"#;
        check(vec![started(), text("a\nb"), text(""), stop()], false, false, &[ROLE, says, STOP, "[DONE]"]);
    }

    #[test]
    fn an_answer_without_a_word_is_an_empty_text() {
        check(vec![started(), stop()], false, false, &[ROLE, NOTHING, "[DONE]"]);
    }

    #[test]
    fn a_refusal_is_told_apart_from_an_answer() {
        let says = r#"{"choices":[{"index":0,"delta":{"refusal":"no"}}]}"#;
        check(vec![started(), Event::RefusalDelta("no".into()), stop()], false, false, &[ROLE, says, STOP, "[DONE]"]);
    }

    #[test]
    fn log_probabilities_come_with_their_text_or_with_the_end() {
        let about = |token: &str| {
            let chosen = TokenChance { token: token.into(), logprob: -0.5, bytes: None };
            Event::Logprobs(vec![TokenLogprob { chosen, top: Vec::new() }])
        };
        let body = |token: &str| {
            format!(
                r#""logprobs":{{"content":[{{"token":"{token}","logprob":-0.5,"bytes":null,"top_logprobs":[]}}],"refusal":null}}"#
            )
        };
        let says = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}},{}}}]}}"#, body("a"));
        let stops = format!(r#"{{"choices":[{{"index":0,"delta":{{}},{},"finish_reason":"stop"}}]}}"#, body("b"));
        let events = vec![started(), about("a"), text("a"), about("b"), stop()];
        check(events, false, false, &[ROLE, &says, &stops, "[DONE]"]);
    }

    #[test]
    fn calls_carry_id_and_name_once() {
        let events = vec![
            started(),
            Event::ToolCallStarted { index: 0, id: "c1".into(), name: "f".into() },
            Event::ToolCallDelta { index: 0, arguments: "{}".into() },
            Event::Finished { reason: FinishReason::ToolCalls },
        ];
        check(
            events,
            false,
            false,
            &[
                ROLE,
                r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
                "[DONE]",
            ],
        );
    }

    #[test]
    fn usage_comes_last_and_only_if_asked_for() {
        let diffusion = Some(DiffusionStats { steps: 3, blocks: 1, edits: 2, forced_tokens: 1, tokens: 10 });
        let usage = Event::Usage(Usage {
            prompt_tokens: 5,
            completion_tokens: 10,
            cached_tokens: 4,
            diffusion,
            ..Usage::default()
        });
        check(vec![started(), usage.clone(), stop()], false, false, &[ROLE, NOTHING, "[DONE]"]);
        let frames = write(vec![started(), usage, stop()], true, false);
        assert_eq!(frames.len(), 4);
        assert!(frames[0].contains(r#""usage":null"#) && frames[1].contains(r#""usage":null"#));
        let chunk: Value = serde_json::from_str(&frames[2]["data: ".len()..]).expect("JSON");
        assert_eq!(chunk["choices"], serde_json::json!([]));
        assert_eq!(
            chunk["usage"].to_string(),
            r#"{"prompt_tokens":5,"completion_tokens":10,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},"diffusion":{"steps":3,"blocks":1,"edits":2,"tokens_per_forward":3.33,"forced_tokens":1,"cached_tokens":4}}"#
        );
    }

    #[test]
    fn drafts_come_only_if_asked_for_and_touch_no_text() {
        let draft = || Event::Draft { snapshot: "a░".into(), step: 1, masked: 1 };
        check(vec![started(), draft(), stop()], false, false, &[ROLE, NOTHING, "[DONE]"]);
        let shown = r#"{"choices":[{"index":0,"delta":{},"finish_reason":null}],"weir":{"draft":{"snapshot":"a░","step":1,"masked":1}}}"#;
        check(vec![started(), draft(), stop()], false, true, &[ROLE, shown, NOTHING, "[DONE]"]);
    }

    #[test]
    fn a_stream_that_just_stops_is_an_error() {
        let cut = r#"{"error":{"message":"the answer was cut before its end: the backend's stream ended without a finish","type":"upstream_error","param":null,"code":"stream_cut"}}"#;
        check(vec![started()], true, true, &[&ROLE.replace("}]}", r#","finish_reason":null}],"usage":null}"#), cut]);
        check(vec![], false, false, &[cut]);
    }

    #[test]
    fn arguments_without_a_call_end_the_stream_as_an_error() {
        let frames =
            write(vec![started(), Event::ToolCallDelta { index: 1, arguments: "{}".into() }, stop()], false, false);
        assert!(frames.len() == 2 && frames[1].contains("\"code\":\"internal\""), "{frames:?}");
    }

    proptest! {
        #[test]
        fn any_stream_ends_once_and_truthfully(
            events in any_events(),
            usage in any::<bool>(),
            drafts in any::<bool>(),
        ) {
            let frames = write(events, usage, drafts);
            let whole = frames.concat();
            let done = whole.matches("data: [DONE]").count();
            let errors = frames.iter().filter(|frame| frame.starts_with("data: {\"error\"")).count();
            let finishes = whole.matches("\"finish_reason\":\"").count();
            prop_assert_eq!(done + errors, 1);
            prop_assert_eq!(finishes, done);
            let last = frames.last().expect("at least the end");
            let ends = last.starts_with("data: [DONE]") || last.starts_with("data: {\"error\"");
            prop_assert!(ends);
            prop_assert!(frames.iter().all(|frame| frame.starts_with("data: ") && frame.matches('\n').count() == 2));
        }
    }
}
