//! Size and kind of everything a backend would have to read. Must never keep any of it.

use serde_json::Value as Json;
use weir_protocol::{ChatRequest, Part};

/// See the module.
#[derive(Default)]
pub(super) struct Content {
    pub(super) chars: u64,
    pub(super) bytes: u64,
    pub(super) images: bool,
    pub(super) others: bool,
}

impl Content {
    pub(super) fn of(request: &ChatRequest) -> Self {
        let mut content = Content::default();
        for message in &request.messages {
            for part in &message.content {
                match part {
                    Part::Text(text) => content.text(text),
                    Part::Image { .. } => content.images = true,
                    Part::File { .. } | Part::Other { .. } => content.others = true,
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

/// About the length of a value's compact JSON text, without making it: escapes in texts are not counted, and numbers as
/// eight bytes.
pub(crate) fn json_bytes(value: &Json) -> u64 {
    match value {
        Json::Null | Json::Bool(true) => 4,
        Json::Bool(false) => 5,
        Json::Number(_) => 8,
        Json::String(text) => text.len() as u64 + 2,
        Json::Array(items) => 2 + items.iter().map(|item| json_bytes(item) + 1).sum::<u64>(),
        Json::Object(members) => {
            2 + members.iter().map(|(name, value)| name.len() as u64 + 4 + json_bytes(value)).sum::<u64>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_counted_about_as_it_would_be_written() {
        let value = serde_json::json!({"type": "object", "properties": {"a": {"type": "string", "enum": ["x", "ü"]}}});
        let (guess, exact) = (json_bytes(&value), value.to_string().len() as u64);
        assert!(guess.abs_diff(exact) <= exact / 10, "{guess} for {exact}");
    }
}
