//! A whole answer as one document.

use weir_protocol::TokenLogprob;

use super::encode::{AssistantMessage, CallBody, Completion, CompletionChoice, FunctionBody, LogprobsBody, UsageBody};
use crate::api::answering::Identity;
use crate::api::answering::collect::{Call, Collected, Item};

impl Completion {
    /// The document; calls stand in the order of their positions.
    pub(super) fn new(identity: Identity, answer: Collected) -> Self {
        let (mut text, mut refusal, mut reasoning) = (String::new(), String::new(), String::new());
        let mut logprobs: Vec<TokenLogprob> = Vec::new();
        let mut calls: Vec<Call> = Vec::new();
        for item in answer.items {
            match item {
                Item::Reasoning { text, .. } => reasoning.push_str(&text),
                Item::Text { text: more, logprobs: about } => {
                    text.push_str(&more);
                    logprobs.extend(about);
                }
                Item::Refusal(more) => refusal.push_str(&more),
                Item::Call(call) => calls.push(call),
            }
        }
        calls.sort_by_key(|call| call.index);
        let says_nothing = text.is_empty() && (!calls.is_empty() || !refusal.is_empty());
        let message = AssistantMessage {
            role: "assistant",
            content: (!says_nothing).then_some(text),
            refusal: Some(refusal).filter(|text| !text.is_empty()),
            reasoning_content: Some(reasoning).filter(|text| !text.is_empty()),
            tool_calls: calls.into_iter().map(CallBody::from).collect(),
        };
        Completion {
            id: identity.id,
            object: "chat.completion",
            created: identity.created,
            model: answer.model,
            choices: [CompletionChoice {
                index: 0,
                message,
                logprobs: LogprobsBody::of(logprobs),
                finish_reason: answer.reason.as_str(),
            }],
            usage: answer.usage.as_ref().map(UsageBody::from),
        }
    }
}

impl From<Call> for CallBody {
    fn from(call: Call) -> Self {
        CallBody {
            id: call.id,
            kind: "function",
            function: FunctionBody { name: call.name, arguments: call.arguments },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answering::collect::tests::collected;
    use crate::api::answering::stream::tests::{arguments, call, ends, started, text};
    use weir_protocol::{Event, FinishReason, TokenChance, Usage};

    async fn check(events: Vec<Event>, expect: &str) {
        let identity = Identity { id: "c".into(), created: 9 };
        let whole = Completion::new(identity, collected(events).await.expect("complete"));
        assert_eq!(serde_json::to_string(&whole).expect("plain data"), expect);
    }

    #[tokio::test]
    async fn text_becomes_content() {
        check(
            vec![
                started(),
                Event::ReasoningDelta("hm".into()),
                text("a"),
                Event::Logprobs(vec![TokenLogprob {
                    chosen: TokenChance { token: "b".into(), logprob: -0.5, bytes: Some(vec![98]) },
                    top: vec![TokenChance { token: "\u{fffd}".into(), logprob: -1.0, bytes: None }],
                }]),
                text("b"),
                Event::Usage(Usage { prompt_tokens: 1, completion_tokens: 2, ..Usage::default() }),
                ends(FinishReason::Length),
            ],
            r#"{"id":"c","object":"chat.completion","created":9,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ab","refusal":null,"reasoning_content":"hm"},"logprobs":{"content":[{"token":"b","logprob":-0.5,"bytes":[98],"top_logprobs":[{"token":"�","logprob":-1.0,"bytes":null}]}],"refusal":null},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}}"#,
        )
        .await;
    }

    #[tokio::test]
    async fn a_refusal_is_no_content() {
        check(
            vec![started(), Event::RefusalDelta("n".into()), Event::RefusalDelta("o".into()), ends(FinishReason::Stop)],
            r#"{"id":"c","object":"chat.completion","created":9,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":"no"},"logprobs":null,"finish_reason":"stop"}]}"#,
        )
        .await;
    }

    #[tokio::test]
    async fn an_answer_of_calls_has_null_content() {
        check(
            vec![
                started(),
                call(0, "i", "f"),
                arguments(0, "{\"a\":"),
                arguments(0, "1}"),
                ends(FinishReason::ToolCalls),
            ],
            r#"{"id":"c","object":"chat.completion","created":9,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},"logprobs":null,"finish_reason":"tool_calls"}]}"#,
        )
        .await;
    }
}
