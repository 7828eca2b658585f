//! A handful of named facts about a request, computed once. Their names are the words of the policy language, so a
//! name never changes its meaning. Must never keep prompt text: features are logged and explained.

mod shapes;
mod tool_need;
mod words;

use serde::Serialize;
use serde_json::Value as Json;
use weir_protocol::{ChatRequest, Part, ResponseFormat, ToolChoice};

use crate::unwrap::{self, Trigger};

/// What is known about a request. "The asked text" is what [`unwrap::asked`] finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Who asked: `user`, `heartbeat`, `cron`, `subagent`, `inter_session`, `utility`.
    pub trigger: Trigger,
    /// The answer must have a form: `response_format`, a forced tool choice, or the asked text wants JSON.
    pub structure_demanded: bool,
    /// The asked text wants something done that an offered tool does. Not: tools are offered.
    pub tool_needed: bool,
    /// The asked text is a constraint puzzle: a sudoku grid, edges with a start and a goal, a plan under constraints.
    pub planning_shape: bool,
    /// The asked text wants a short list sorted, reversed or deduplicated.
    pub transform_shape: bool,
    /// The conversation ends with a tool's result.
    pub tail_is_tool_result: bool,
    /// An image is somewhere in the conversation.
    pub has_images: bool,
    /// Content that is neither text nor image is somewhere in the conversation.
    pub has_other_parts: bool,
    /// Body fields the built-in engines cannot honour.
    pub unsupported: Vec<&'static str>,
    /// Characters of the asked text.
    pub asked_chars: u64,
    /// Characters of all messages.
    pub prompt_chars: u64,
    /// Bytes of all messages and of the offered tools.
    pub prompt_bytes: u64,
    /// `prompt_bytes` / 4, rounded up: a usual tokenizer's count, roughly.
    pub prompt_tokens_estimate: u64,
    /// Tools offered.
    pub tools_count: u64,
    /// Messages in the conversation.
    pub message_count: u64,
    /// Most tokens the caller wants, 0 when not said.
    pub max_tokens: u64,
}

impl Features {
    /// Every name a condition may use, in the order of [`Features::values`].
    pub const NAMES: [&'static str; 16] = [
        "trigger",
        "structure_demanded",
        "tool_needed",
        "planning_shape",
        "transform_shape",
        "tail_is_tool_result",
        "has_images",
        "has_other_parts",
        "unsupported",
        "asked_chars",
        "prompt_chars",
        "prompt_bytes",
        "prompt_tokens_estimate",
        "tools_count",
        "message_count",
        "max_tokens",
    ];

    /// Computes them all. Linear in the size of the request.
    pub fn of(request: &ChatRequest) -> Features {
        let asked = unwrap::asked(request);
        let words = words::leading_words(&asked.text);
        let planning_shape = shapes::is_planning(&asked.text);
        let transform_shape = !planning_shape && shapes::is_transform(&asked.text);
        let call_demanded = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_));
        let form_demanded = request.response_format != ResponseFormat::Text;
        // A puzzle or a list may be about lamps and timers without wanting any switched.
        let may_call = request.tool_choice != ToolChoice::None && !planning_shape && !transform_shape;
        let content = Content::of(request);
        Features {
            trigger: asked.trigger,
            structure_demanded: call_demanded || form_demanded || shapes::wants_json(&words),
            tool_needed: call_demanded || (may_call && tool_need::is_needed(&words, &request.tools)),
            planning_shape,
            transform_shape,
            tail_is_tool_result: unwrap::tail_is_tool_result(request),
            has_images: content.images,
            has_other_parts: content.others,
            unsupported: request.unsupported.clone(),
            asked_chars: asked.text.chars().count() as u64,
            prompt_chars: content.chars,
            prompt_bytes: content.bytes,
            prompt_tokens_estimate: content.bytes.div_ceil(4),
            tools_count: request.tools.len() as u64,
            message_count: request.messages.len() as u64,
            max_tokens: request.max_tokens.map_or(0, u64::from),
        }
    }

    /// The values as conditions see them.
    pub(crate) fn values(&self) -> [(&'static str, cel::Value); 16] {
        let unsupported: Vec<cel::Value> = self.unsupported.iter().map(|field| cel::Value::from(*field)).collect();
        [
            ("trigger", self.trigger.as_str().into()),
            ("structure_demanded", self.structure_demanded.into()),
            ("tool_needed", self.tool_needed.into()),
            ("planning_shape", self.planning_shape.into()),
            ("transform_shape", self.transform_shape.into()),
            ("tail_is_tool_result", self.tail_is_tool_result.into()),
            ("has_images", self.has_images.into()),
            ("has_other_parts", self.has_other_parts.into()),
            ("unsupported", unsupported.into()),
            ("asked_chars", number(self.asked_chars)),
            ("prompt_chars", number(self.prompt_chars)),
            ("prompt_bytes", number(self.prompt_bytes)),
            ("prompt_tokens_estimate", number(self.prompt_tokens_estimate)),
            ("tools_count", number(self.tools_count)),
            ("message_count", number(self.message_count)),
            ("max_tokens", number(self.max_tokens)),
        ]
    }
}

/// CEL compares signed with unsigned numbers, but does not add them: all are signed, so that arithmetic just works.
fn number(value: u64) -> cel::Value {
    cel::Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Size and kind of everything a backend would have to read.
#[derive(Default)]
struct Content {
    chars: u64,
    bytes: u64,
    images: bool,
    others: bool,
}

impl Content {
    fn of(request: &ChatRequest) -> Self {
        let mut content = Content::default();
        for message in &request.messages {
            for part in &message.content {
                match part {
                    Part::Text(text) => content.text(text),
                    Part::Image { .. } => content.images = true,
                    Part::Other { .. } => content.others = true,
                }
            }
            for call in &message.tool_calls {
                content.text(&call.name);
                content.text(&call.arguments);
            }
        }
        for tool in &request.tools {
            let description = tool.description.as_ref().map_or(0, String::len);
            content.bytes += (tool.name.len() + description) as u64 + json_bytes(&tool.parameters);
        }
        content
    }

    fn text(&mut self, text: &str) {
        self.chars += text.chars().count() as u64;
        self.bytes += text.len() as u64;
    }
}

/// The length of a value's compact JSON text, without making it.
fn json_bytes(value: &Json) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A counting writer cannot fail, and a `Value` always has a JSON text; a wrong count would only be a worse guess.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_values_and_explanation_agree() {
        let features = Features::of(&ChatRequest::default());
        let explained = serde_json::to_value(&features).unwrap();
        let fields: Vec<&str> = explained.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, Features::NAMES);
        assert_eq!(features.values().map(|(name, _)| name), Features::NAMES);
        assert_eq!(explained["trigger"], features.trigger.as_str());
    }

    #[test]
    fn json_is_counted_as_it_would_be_written() {
        let value = serde_json::json!({"a": [1, "ü", null], "b": {"c": 1.5}});
        assert_eq!(json_bytes(&value), value.to_string().len() as u64);
    }
}
