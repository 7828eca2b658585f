//! A whole answer as one document.

use weir_protocol::{EngineError, FinishReason};

use super::encode::{Block, Input, MessageBody, UNSEALED, UsageBody, stop_reason, with_refusal};
use crate::api::answering::Identity;
use crate::api::answering::collect::{Call, Collected, Item};
use crate::api::reading::written;

impl MessageBody {
    /// The document.
    ///
    /// # Errors
    /// The arguments of a call are no JSON object, as this dialect demands.
    pub(super) fn new(identity: Identity, answer: Collected) -> Result<Self, EngineError> {
        let mut content = Vec::with_capacity(answer.items.len());
        let refused = answer.items.iter().any(|item| matches!(item, Item::Refusal(_)));
        let reason = with_refusal(answer.reason, refused);
        for item in answer.items {
            match item {
                Item::Reasoning { text, signature } => {
                    content.push(Block::Thinking {
                        thinking: text,
                        signature: signature.unwrap_or_else(|| UNSEALED.into()),
                    });
                }
                Item::Text { text, .. } if text.is_empty() => {}
                Item::Text { text, .. } | Item::Refusal(text) => content.push(Block::Text { text }),
                Item::Call(call) => content.extend(tool_use(call, reason)?),
            }
        }
        Ok(MessageBody {
            id: identity.id,
            kind: "message",
            role: "assistant",
            model: answer.model,
            content,
            stop_reason: Some(stop_reason(reason, answer.stopped_at.as_deref())),
            stop_sequence: answer.stopped_at.filter(|_| reason == FinishReason::Stop),
            usage: UsageBody::from(&answer.usage.unwrap_or_default()),
        })
    }
}

/// A call that a limit or a filter cut cannot be shown here, and the reason says that something is missing.
fn tool_use(call: Call, reason: FinishReason) -> Result<Option<Block>, EngineError> {
    match written::object(&call.arguments) {
        Some(input) => Ok(Some(Block::ToolUse { id: call.id, name: call.name, input: Input::Written(input) })),
        None if matches!(reason, FinishReason::Length | FinishReason::ContentFilter) => Ok(None),
        None => Err(written::no_object()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answering::collect::tests::collected;
    use crate::api::answering::stream::tests::{arguments, call, ends, started, stop, text};
    use weir_protocol::{Event, Usage};

    async fn written(events: Vec<Event>) -> Result<String, &'static str> {
        let identity = Identity { id: "msg_1".into(), created: 9 };
        let whole = MessageBody::new(identity, collected(events).await.expect("complete"));
        whole.map(|whole| serde_json::to_string(&whole).expect("plain data")).map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn blocks_stand_in_the_order_they_were_said() {
        let usage = Usage {
            prompt_tokens: 9,
            completion_tokens: 4,
            cached_tokens: 3,
            cache_write_tokens: 2,
            reasoning_tokens: 1,
            diffusion: None,
        };
        let events = vec![
            started(),
            Event::ReasoningDelta("hm".into()),
            Event::ReasoningSignature("seal".into()),
            text("so"),
            call(0, "c1", "f"),
            arguments(0, "{\"b\":1,\"a\": 2.00000000000000000001}"),
            call(1, "c2", "g"),
            Event::Usage(usage),
            ends(FinishReason::ToolCalls),
        ];
        assert_eq!(
            written(events).await.as_deref(),
            Ok(
                r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"hm","signature":"seal"},{"type":"text","text":"so"},{"type":"tool_use","id":"c1","name":"f","input":{"b":1,"a": 2.00000000000000000001}},{"type":"tool_use","id":"c2","name":"g","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":4,"cache_creation_input_tokens":2,"cache_read_input_tokens":3,"output_tokens":4,"output_tokens_details":{"thinking_tokens":1}}}"#
            )
        );
    }

    #[tokio::test]
    async fn a_refusal_is_text_and_the_reason() {
        let whole = written(vec![started(), Event::RefusalDelta("no".into()), stop()]).await.expect("complete");
        assert!(whole.contains(r#""content":[{"type":"text","text":"no"}],"stop_reason":"refusal""#), "{whole}");
    }

    #[tokio::test]
    async fn a_stop_text_is_named() {
        let events = vec![started(), text("a"), Event::StoppedAt("END".into()), stop()];
        let whole = written(events).await.expect("complete");
        assert!(whole.contains(r#""stop_reason":"stop_sequence","stop_sequence":"END""#), "{whole}");
    }

    #[tokio::test]
    async fn half_a_call_is_left_out_only_where_the_reason_says_so() {
        let half = |reason| vec![started(), text("a"), call(0, "c1", "f"), arguments(0, "{\"a"), ends(reason)];
        let cut = written(half(FinishReason::Length)).await.expect("complete");
        assert!(cut.contains("max_tokens") && !cut.contains("tool_use"), "{cut}");
        let filtered = written(half(FinishReason::ContentFilter)).await.expect("complete");
        assert!(filtered.contains("refusal") && !filtered.contains("tool_use"), "{filtered}");
        assert_eq!(written(half(FinishReason::ToolCalls)).await, Err("upstream"));
    }
}
