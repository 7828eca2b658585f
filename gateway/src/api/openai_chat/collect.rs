//! A whole answer as one JSON document. Must never give a part of an answer as if it were all of it.

use std::collections::BTreeMap;

use futures::StreamExt;
use weir_protocol::{EngineError, Event, FinishReason, TokenLogprob, Usage};

use super::encode::{AssistantMessage, CallBody, Completion, CompletionChoice, FunctionBody, LogprobsBody, UsageBody};
use super::stream::Identity;
use crate::backends::EventStream;

/// Waits for the end of the answer.
///
/// # Errors
/// The answer did not complete.
pub(super) async fn collect(identity: Identity, mut events: EventStream) -> Result<Completion, EngineError> {
    let mut answer = Collected::default();
    while let Some(event) = events.next().await {
        if let Some(reason) = answer.take(event?)? {
            return Ok(answer.completion(identity, reason));
        }
    }
    Err(EngineError::StreamCut { message: "the backend's stream ended without a finish".into() })
}

#[derive(Default)]
struct Collected {
    model: String,
    text: String,
    reasoning: String,
    logprobs: Vec<TokenLogprob>,
    calls: BTreeMap<u32, CallBody>,
    usage: Option<Usage>,
}

impl Collected {
    /// The reason, once the answer is complete.
    fn take(&mut self, event: Event) -> Result<Option<FinishReason>, EngineError> {
        match event {
            Event::Started { model } => self.model = model,
            Event::TextDelta(text) => self.text.push_str(&text),
            Event::Logprobs(more) => self.logprobs.extend(more),
            Event::ReasoningDelta(text) => self.reasoning.push_str(&text),
            Event::ToolCallStarted { index, id, name } => {
                let function = FunctionBody { name, arguments: String::new() };
                self.calls.insert(index, CallBody { id, kind: "function", function });
            }
            Event::ToolCallDelta { index, arguments } => {
                let call = self.calls.get_mut(&index);
                let call = call.ok_or_else(|| EngineError::internal("arguments of a call that was not begun"))?;
                call.function.arguments.push_str(&arguments);
            }
            Event::Draft { .. } | Event::ReasoningSignature(_) | Event::StoppedAt(_) | Event::RateLimits(_) => {}
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Finished { reason } => return Ok(Some(reason)),
        }
        Ok(None)
    }

    fn completion(self, identity: Identity, reason: FinishReason) -> Completion {
        let only_calls = self.text.is_empty() && !self.calls.is_empty();
        let message = AssistantMessage {
            role: "assistant",
            content: (!only_calls).then_some(self.text),
            refusal: (),
            reasoning_content: Some(self.reasoning).filter(|text| !text.is_empty()),
            tool_calls: self.calls.into_values().collect(),
        };
        Completion {
            id: identity.id,
            object: "chat.completion",
            created: identity.created,
            model: self.model,
            choices: [CompletionChoice {
                index: 0,
                message,
                logprobs: LogprobsBody::of(self.logprobs),
                finish_reason: reason.as_str(),
            }],
            usage: self.usage.as_ref().map(UsageBody::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::TokenChance;

    async fn check(events: Vec<Result<Event, EngineError>>, expect: Result<&str, &str>) {
        let identity = Identity { id: "c".into(), created: 9 };
        let got = collect(identity, Box::pin(futures::stream::iter(events))).await;
        let got = got.map(|whole| serde_json::to_string(&whole).expect("plain data")).map_err(|error| error.kind());
        assert_eq!(got, expect.map(str::to_owned));
    }

    fn started() -> Result<Event, EngineError> {
        Ok(Event::Started { model: "m".into() })
    }

    #[tokio::test]
    async fn text_becomes_content() {
        check(
            vec![
                started(),
                Ok(Event::ReasoningDelta("hm".into())),
                Ok(Event::TextDelta("a".into())),
                Ok(Event::Logprobs(vec![TokenLogprob {
                    chosen: TokenChance { token: "b".into(), logprob: -0.5, bytes: Some(vec![98]) },
                    top: vec![TokenChance { token: "\u{fffd}".into(), logprob: -1.0, bytes: None }],
                }])),
                Ok(Event::TextDelta("b".into())),
                Ok(Event::Usage(Usage { prompt_tokens: 1, completion_tokens: 2, ..Usage::default() })),
                Ok(Event::Finished { reason: FinishReason::Length }),
            ],
            Ok(
                r#"{"id":"c","object":"chat.completion","created":9,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ab","refusal":null,"reasoning_content":"hm"},"logprobs":{"content":[{"token":"b","logprob":-0.5,"bytes":[98],"top_logprobs":[{"token":"�","logprob":-1.0,"bytes":null}]}],"refusal":null},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}}"#,
            ),
        )
        .await;
    }

    #[tokio::test]
    async fn an_answer_of_calls_has_null_content() {
        check(
            vec![
                started(),
                Ok(Event::ToolCallStarted { index: 0, id: "i".into(), name: "f".into() }),
                Ok(Event::ToolCallDelta { index: 0, arguments: "{\"a\":".into() }),
                Ok(Event::ToolCallDelta { index: 0, arguments: "1}".into() }),
                Ok(Event::Finished { reason: FinishReason::ToolCalls }),
            ],
            Ok(
                r#"{"id":"c","object":"chat.completion","created":9,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"logprobs":null,"finish_reason":"tool_calls"}]}"#,
            ),
        )
        .await;
    }

    #[tokio::test]
    async fn half_an_answer_is_an_error() {
        check(vec![started(), Ok(Event::TextDelta("a".into()))], Err("stream_cut")).await;
        check(vec![started(), Err(EngineError::Overloaded { limit: 1, retry_after: None })], Err("overloaded")).await;
    }
}
