//! Whether an answer kept the form that its request demanded: JSON, a schema, calls of offered tools with arguments that
//! fit. Must never change or delay an event, and keeps no text beyond the answer's end.

use std::sync::Arc;

use serde_json::Value;
use weir_protocol::{ChatRequest, Event, ResponseFormat, ToolChoice};

use super::schemas::fits;
use crate::plain_json;

/// Most text kept to check a form, arguments included; a longer answer is not checked.
const BYTES_MAX: usize = 256 * 1024;
/// Most calls looked at; an answer with more is not checked.
const CALLS_MAX: usize = 128;

/// What an answer said, where something was demanded of it.
pub(super) struct Form {
    request: Arc<ChatRequest>,
    text: String,
    calls: Vec<(u32, String, String)>,
    /// It became too long to be checked.
    over: bool,
}

impl Form {
    /// `None` where nothing is demanded of the answer.
    pub(super) fn of(request: &Arc<ChatRequest>) -> Option<Self> {
        let demanded = match &request.response_format {
            ResponseFormat::JsonObject | ResponseFormat::JsonSchema(_) => true,
            // Only the engine that decodes by them can tell.
            ResponseFormat::Text | ResponseFormat::Regex(_) | ResponseFormat::Grammar(_) => false,
        };
        (demanded || !request.tools.is_empty()).then(|| Form {
            request: Arc::clone(request),
            text: String::new(),
            calls: Vec::new(),
            over: false,
        })
    }

    pub(super) fn saw(&mut self, event: &Event) {
        if self.over {
            return;
        }
        match event {
            Event::TextDelta(text) => self.text.push_str(text),
            // No answer, so none that breaks the form.
            Event::RefusalDelta(_) => self.over = true,
            Event::ToolCallStarted { index, name, .. } => self.calls.push((*index, name.clone(), String::new())),
            Event::ToolCallDelta { index, arguments } => {
                if let Some((_, _, kept)) = self.calls.iter_mut().find(|(known, ..)| known == index) {
                    kept.push_str(arguments);
                }
            }
            _ => return,
        }
        let bytes = self.text.len() + self.calls.iter().map(|(_, _, arguments)| arguments.len()).sum::<usize>();
        if bytes > BYTES_MAX || self.calls.len() > CALLS_MAX {
            self.over = true;
            (self.text, self.calls) = (String::new(), Vec::new());
        }
    }

    /// Whether the finished answer broke the form; `None` where there was nothing to check, or it cannot be checked.
    pub(super) fn is_broken(&self) -> Option<bool> {
        if self.over {
            return None;
        }
        let calls = self.calls.iter().filter_map(|(_, name, arguments)| self.breaks_tool(name, arguments));
        let calls = calls.reduce(|one, other| one || other);
        let demanded = matches!(self.request.tool_choice, ToolChoice::Required | ToolChoice::Function(_));
        match calls {
            // A call in the place of the text keeps its own form.
            Some(broken) => Some(broken),
            None if demanded && self.calls.is_empty() => Some(true),
            None if self.text.is_empty() => None,
            None => match &self.request.response_format {
                ResponseFormat::JsonObject => Some(!plain_json::parse(&self.text).is_ok_and(|value| value.is_object())),
                ResponseFormat::JsonSchema(schema) => breaks(schema, &self.text),
                ResponseFormat::Text | ResponseFormat::Regex(_) | ResponseFormat::Grammar(_) => None,
            },
        }
    }

    fn breaks_tool(&self, name: &str, arguments: &str) -> Option<bool> {
        let Some(tool) = self.request.tools.iter().find(|tool| tool.name == name) else {
            // Without tools a call is an upstream's own doing.
            return (!self.request.tools.is_empty()).then_some(true);
        };
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        match &tool.parameters {
            Value::Object(schema) if !schema.is_empty() => breaks(&tool.parameters, arguments),
            _ => Some(plain_json::parse(arguments).is_err()),
        }
    }
}

fn breaks(schema: &Value, text: &str) -> Option<bool> {
    fits(schema, text).map(|fits| !fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weir_protocol::Tool;

    fn broken(request: ChatRequest, events: &[Event]) -> Option<bool> {
        let mut form = Form::of(&Arc::new(request))?;
        events.iter().for_each(|event| form.saw(event));
        form.is_broken()
    }

    fn text(text: &str) -> Vec<Event> {
        vec![Event::TextDelta(text.into())]
    }

    fn call(name: &str, arguments: &str) -> Vec<Event> {
        let (first, second) = arguments.split_at(arguments.len() / 2);
        let delta = |arguments: &str| Event::ToolCallDelta { index: 0, arguments: arguments.into() };
        let started = Event::ToolCallStarted { index: 0, id: "c".into(), name: name.into() };
        vec![started, delta(first), delta(second)]
    }

    #[test]
    fn a_schema_is_more_than_json() {
        let schema = json!({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]});
        let asked = |format| ChatRequest { response_format: format, ..ChatRequest::default() };
        let by_schema = || asked(ResponseFormat::JsonSchema(schema.clone()));
        assert_eq!(broken(by_schema(), &text("{\"age\": 3}")), Some(false));
        assert_eq!(broken(by_schema(), &text("{\"age\": \"3\"}")), Some(true));
        assert_eq!(broken(by_schema(), &text("{\"age\": 3")), Some(true));
        assert_eq!(broken(asked(ResponseFormat::JsonObject), &text("{}")), Some(false));
        assert_eq!(broken(asked(ResponseFormat::JsonObject), &text("[]")), Some(true));
        assert_eq!(broken(asked(ResponseFormat::Text), &text("hi")), None);
        let list = json!({"type": "array", "items": {"type": "integer"}});
        assert_eq!(broken(asked(ResponseFormat::JsonSchema(list)), &text("[1]")), Some(false), "no object, and right");
    }

    #[test]
    fn calls_must_be_of_offered_tools_and_fit_them() {
        let parameters = json!({"type": "object", "properties": {"room": {"enum": ["hall"]}}, "required": ["room"]});
        let lamp = Tool { name: "lamp".into(), description: None, parameters, ..Tool::default() };
        let free = Tool { name: "now".into(), description: None, parameters: Value::Null, ..Tool::default() };
        let asked = |tool_choice| ChatRequest {
            tools: vec![lamp.clone(), free.clone()],
            tool_choice,
            ..ChatRequest::default()
        };
        let auto = || asked(ToolChoice::Auto);
        assert_eq!(broken(auto(), &call("lamp", "{\"room\": \"hall\"}")), Some(false));
        assert_eq!(broken(auto(), &call("lamp", "{\"room\": \"moon\"}")), Some(true));
        assert_eq!(broken(auto(), &call("lamp", "{\"room\": \"ha")), Some(true));
        assert_eq!(broken(auto(), &call("stove", "{}")), Some(true));
        assert_eq!(broken(auto(), &call("now", "")), Some(false));
        assert_eq!(broken(auto(), &text("no need to")), None);
        assert_eq!(broken(asked(ToolChoice::Required), &text("no need to")), Some(true));
    }

    #[test]
    fn hostile_schemas_and_long_answers_are_not_checked_or_end() {
        let asked =
            |schema| ChatRequest { response_format: ResponseFormat::JsonSchema(schema), ..ChatRequest::default() };
        assert_eq!(broken(asked(json!({"$ref": "https://example.org/x.json"})), &text("{}")), None);
        assert_eq!(broken(asked(json!({"type": 7})), &text("{}")), None);
        assert!(broken(asked(json!({"$ref": "#"})), &text("{}")) != Some(true));
        assert!(broken(asked(json!({"allOf": [{"$ref": "#"}]})), &text("{}")) != Some(true));
        assert_eq!(broken(asked(json!({"type": "object"})), &text(&"x".repeat(BYTES_MAX + 1))), None);
    }
}
