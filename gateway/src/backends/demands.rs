//! What a caller demands of an answer's form, and whether an answer meets it. A small model gives no guarantee, so the
//! built-in engines' answers are held back and judged whole; one that fails is an error, and another backend may try.
//! Must never mend an answer.

use jsonschema::Validator;
use serde_json::Value;
use weir_protocol::{ChatRequest, EngineError, Event, ResponseFormat, ToolChoice};

/// The demands of one request; see [`Demands::of`].
pub(super) struct Demands {
    json: Option<Json>,
    call: bool,
}

enum Json {
    Object,
    Schema(Box<Validator>),
}

impl Demands {
    /// What `request` demands, or `None` when any answer will do.
    ///
    /// # Errors
    /// The JSON schema is not one.
    pub(super) fn of(request: &ChatRequest) -> Result<Option<Demands>, EngineError> {
        let json = match &request.response_format {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some(Json::Object),
            ResponseFormat::JsonSchema(schema) => Some(Json::Schema(Box::new(validator(schema)?))),
        };
        let call = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_));
        Ok((json.is_some() || call).then_some(Demands { json, call }))
    }

    /// Whether the whole answer is what was demanded. A call is judged by its presence, text by its form; an answer
    /// that calls a tool owes no JSON text.
    ///
    /// # Errors
    /// Says which field's demand was not met.
    pub(super) fn judge(&self, answer: &[Event]) -> Result<(), EngineError> {
        let called = answer.iter().any(|event| matches!(event, Event::ToolCallStarted { .. }));
        if self.call && !called {
            return unmet("tool_choice", "the model answered without the tool call demanded");
        }
        let Some(json) = self.json.as_ref().filter(|_| !called) else { return Ok(()) };
        let text: String = answer
            .iter()
            .filter_map(|event| match event {
                Event::TextDelta(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        match (serde_json::from_str::<Value>(&text), json) {
            (Ok(value), Json::Object) if value.is_object() => Ok(()),
            (Ok(value), Json::Schema(schema)) if schema.is_valid(&value) => Ok(()),
            (Ok(_), _) => unmet("response_format", "the model's JSON is not of the form demanded"),
            (Err(_), _) => unmet("response_format", "the model's answer is not JSON"),
        }
    }
}

fn validator(schema: &Value) -> Result<Validator, EngineError> {
    // The library's words may quote the schema, which is the caller's text: the place alone must do.
    jsonschema::validator_for(schema).map_err(|error| {
        let place = error.instance_path().to_string();
        EngineError::invalid(
            "response_format.json_schema.schema",
            format!("not a usable JSON schema at `{}`", if place.is_empty() { "/" } else { &place }),
        )
    })
}

fn unmet(field: &str, message: &str) -> Result<(), EngineError> {
    Err(EngineError::Unsupported { field: field.to_owned(), message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judge(format: ResponseFormat, choice: ToolChoice, answer: &[Event]) -> Result<(), EngineError> {
        let request = ChatRequest { response_format: format, tool_choice: choice, ..ChatRequest::default() };
        Demands::of(&request)?.map_or(Ok(()), |demands| demands.judge(answer))
    }

    fn text(text: &str) -> Vec<Event> {
        // In two deltas, as answers come.
        let (head, tail) = text.split_at(text.len() / 2);
        vec![Event::TextDelta(head.into()), Event::TextDelta(tail.into())]
    }

    fn call() -> Vec<Event> {
        vec![Event::ToolCallStarted { index: 0, id: "call_1".into(), name: "set_light".into() }]
    }

    #[test]
    fn json_must_be_json_and_of_the_demanded_form() {
        let schema = || ResponseFormat::JsonSchema(json!({"type": "object", "required": ["name"]}));
        assert!(judge(ResponseFormat::JsonObject, ToolChoice::Auto, &text(r#"{"a": 1}"#)).is_ok());
        assert!(judge(ResponseFormat::JsonObject, ToolChoice::Auto, &text("[1, 2]")).is_err());
        assert!(judge(ResponseFormat::JsonObject, ToolChoice::Auto, &text("hello")).is_err());
        assert!(judge(schema(), ToolChoice::Auto, &text(r#"{"name": "Anna"}"#)).is_ok());
        assert!(judge(schema(), ToolChoice::Auto, &text(r#"{"city": "Oslo"}"#)).is_err());
        assert!(judge(ResponseFormat::Text, ToolChoice::Auto, &text("hello")).is_ok());
    }

    #[test]
    fn a_demanded_call_must_be_there_and_is_enough() {
        let called = judge(ResponseFormat::JsonObject, ToolChoice::Required, &call());
        assert!(called.is_ok());
        let silent = judge(ResponseFormat::Text, ToolChoice::Required, &text("sure"));
        assert!(matches!(silent, Err(EngineError::Unsupported { field, .. }) if field == "tool_choice"));
    }

    #[test]
    fn an_unusable_schema_is_the_callers_mistake() {
        let wrong = judge(ResponseFormat::JsonSchema(json!({"type": "nonsense"})), ToolChoice::Auto, &[]);
        assert!(matches!(wrong, Err(EngineError::InvalidRequest { field, .. }) if field.ends_with("schema")));
        let far = judge(ResponseFormat::JsonSchema(json!({"$ref": "http://127.0.0.1/x"})), ToolChoice::Auto, &[]);
        assert!(matches!(far, Err(EngineError::InvalidRequest { .. })), "nothing is fetched");
    }
}
