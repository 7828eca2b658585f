//! A whole answer as one document.

use std::sync::Arc;

use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};
use weir_protocol::{ChatRequest, FinishReason, Usage};

use super::encode::{
    Called, ContentPart, Echo, ItemBody, ItemKind, OddTools, ResponseBody, UsageBody, ending, input, item_id,
};
use crate::api::answering::Identity;
use crate::api::answering::collect::{Call, Collected, Item};
use crate::api::openai_chat::encode::LogprobBody;

/// The document.
pub(crate) struct Whole {
    identity: Identity,
    raw: Arc<Map<String, Value>>,
    model: String,
    output: Vec<ItemBody>,
    reason: FinishReason,
    usage: Option<Usage>,
}

impl Whole {
    pub(super) fn new(identity: Identity, request: &ChatRequest, answer: Collected) -> Self {
        let (raw, odd) = (Arc::clone(&request.raw), OddTools::of(request));
        let (last, cut) = (answer.items.len().saturating_sub(1), ending(answer.reason).1.is_some());
        let output = answer.items.into_iter().enumerate().map(|(at, item)| {
            let status = if cut && at == last { "incomplete" } else { "completed" };
            body(item, &identity.id, at, status, &odd)
        });
        let output = output.collect();
        Whole { raw, model: answer.model, output, reason: answer.reason, usage: answer.usage, identity }
    }
}

fn body(item: Item, response: &str, at: usize, status: &'static str, odd: &OddTools) -> ItemBody {
    match item {
        Item::Reasoning { text, signature } => ItemBody::Reasoning {
            id: item_id(response, ItemKind::Reasoning, at),
            summary: [],
            content: Some(text)
                .filter(|text| !text.is_empty())
                .map(|text| ContentPart::ReasoningText { text })
                .into_iter()
                .collect(),
            encrypted_content: signature,
            status,
        },
        Item::Text { text, logprobs } => ItemBody::Message {
            id: item_id(response, ItemKind::Message, at),
            status,
            role: "assistant",
            content: vec![ContentPart::output(text, logprobs.into_iter().map(LogprobBody::from).collect())],
        },
        Item::Refusal(refusal) => ItemBody::Message {
            id: item_id(response, ItemKind::Message, at),
            status,
            role: "assistant",
            content: vec![ContentPart::Refusal { refusal }],
        },
        Item::Call(Call { id: call_id, name, arguments, .. }) => {
            let Called { namespace, name, is_freeform } = odd.called(name);
            let id = |kind| item_id(response, kind, at);
            if is_freeform {
                let (id, input) = (id(ItemKind::CustomCall), input(arguments));
                return ItemBody::CustomToolCall { id, status, call_id, namespace, name, input };
            }
            ItemBody::FunctionCall { id: id(ItemKind::FunctionCall), status, call_id, namespace, name, arguments }
        }
    }
}

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (status, incomplete_details) = ending(self.reason);
        let body = ResponseBody {
            id: &self.identity.id,
            object: "response",
            created_at: self.identity.created,
            status,
            error: None,
            incomplete_details,
            model: &self.model,
            output: &self.output,
            echo: Echo(&self.raw),
            usage: self.usage.as_ref().map(UsageBody::from),
            weir: None,
        };
        body.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answering::collect::tests::collected;
    use crate::api::answering::stream::tests::{arguments, call, ends, started, text};
    use weir_protocol::Event;

    #[tokio::test]
    async fn items_stand_in_order_and_the_request_is_told_back() {
        let raw = serde_json::json!({"instructions": "be brief", "store": true, "temperature": null, "x": 1});
        let Value::Object(raw) = raw else { unreachable!() };
        let usage = Usage { prompt_tokens: 5, completion_tokens: 4, cached_tokens: 3, ..Usage::default() };
        let events = vec![
            started(),
            Event::ReasoningDelta("hm".into()),
            Event::ReasoningSignature("seal".into()),
            text("so"),
            call(0, "c1", "f"),
            arguments(0, "{\"a\":"),
            Event::Usage(usage),
            ends(FinishReason::Length),
        ];
        let identity = Identity { id: "resp_1".into(), created: 9 };
        let request = ChatRequest { raw: Arc::new(raw), ..ChatRequest::default() };
        let whole = Whole::new(identity, &request, collected(events).await.expect("complete"));
        assert_eq!(
            serde_json::to_string(&whole).expect("plain data"),
            r#"{"id":"resp_1","object":"response","created_at":9,"status":"incomplete","error":null,"incomplete_details":{"reason":"max_output_tokens"},"model":"m","output":[{"type":"reasoning","id":"rs_1_0","summary":[],"content":[{"type":"reasoning_text","text":"hm"}],"encrypted_content":"seal","status":"completed"},{"type":"message","id":"msg_1_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"so","annotations":[],"logprobs":[]}]},{"type":"function_call","id":"fc_1_2","status":"incomplete","call_id":"c1","name":"f","arguments":"{\"a\":"}],"instructions":"be brief","max_output_tokens":null,"metadata":{},"parallel_tool_calls":true,"reasoning":{"effort":null,"summary":null},"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":null,"truncation":"disabled","user":null,"store":false,"background":false,"previous_response_id":null,"usage":{"input_tokens":5,"input_tokens_details":{"cached_tokens":3},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":9}}"#
        );
    }
}
