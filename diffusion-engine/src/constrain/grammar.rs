//! What a request demands of its answer's form, as a grammar. Free text has none; offered tools give one to the calls
//! in it, so that a call always fits its tool's schema. Must never weaken a demand that it cannot take: it is refused
//! with the library's reason.

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};
use weir_protocol::{ChatRequest, EngineError, ResponseFormat, Tool, ToolChoice};

use super::bounds::rounded;
use super::compiled::Form;
use super::depth;
use super::schema::styled;
use super::vocabulary::Vocabulary;

/// The form that `request` demands, `None` where any text will do.
///
/// # Errors
/// `Unsupported` names the schema that the grammar library cannot take, `InvalidRequest` a broken regex or grammar.
pub(crate) fn form(request: &ChatRequest, vocabulary: &Vocabulary) -> Result<Option<Form>, EngineError> {
    let tools = offered(request)?;
    let forced = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_));
    if tools.is_empty() {
        return format_only(request, vocabulary);
    }
    let answer = match &request.response_format {
        _ if forced => None,
        ResponseFormat::Text => Some(Answer::Text),
        ResponseFormat::JsonObject => Some(Answer::Json(styled(&json!({"type": "object"})))),
        ResponseFormat::JsonSchema(schema) => Some(Answer::Json(styled(schema))),
        ResponseFormat::Regex(_) | ResponseFormat::Grammar(_) => {
            return format_only(request, vocabulary);
        }
    };
    let tools: Vec<Callable> = tools.into_iter().map(Callable::of).collect();
    can_all_be_said(request, &tools, answer.as_ref())?;
    let several = !matches!(request.tool_choice, ToolChoice::Function(_)) && request.parallel_tool_calls != Some(false);
    let grammar = TopLevelGrammar::from_lark(calls(&tools, answer.as_ref(), several));
    match vocabulary.form(grammar, &request.tenant.clone().unwrap_or_default()) {
        Ok(form) => Ok(Some(Form { field: "tools", ..form })),
        Err(reason) => Err(culprit(request, &tools, answer.as_ref(), vocabulary, reason)),
    }
}

/// Whether the caller relies on a form, so that an engine that cannot enforce one must refuse.
pub(crate) fn demands_form(request: &ChatRequest) -> bool {
    request.response_format != ResponseFormat::Text
        || matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_))
}

/// What may stand in the answer instead of calls.
enum Answer {
    Text,
    /// Of this schema, in the library's words.
    Json(Value),
}

/// A tool that may be called, and the schema of its arguments in the library's words.
struct Callable<'a> {
    tool: &'a Tool,
    schema: Value,
}

impl<'a> Callable<'a> {
    /// One that states no schema takes an object without any.
    fn of(tool: &'a Tool) -> Self {
        let schema = match &tool.parameters {
            Value::Object(schema) if !schema.is_empty() => styled(&tool.parameters),
            Value::Bool(_) => styled(&tool.parameters),
            _ => styled(&json!({"type": "object"})),
        };
        Callable { tool, schema }
    }
}

/// The tools that may be called.
fn offered(request: &ChatRequest) -> Result<Vec<&Tool>, EngineError> {
    let tools: Vec<&Tool> = match &request.tool_choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Auto | ToolChoice::Required => request.tools.iter().collect(),
        ToolChoice::Function(name) => request.tools.iter().filter(|tool| tool.name == *name).collect(),
    };
    match &request.tool_choice {
        ToolChoice::Required if tools.is_empty() => {
            Err(EngineError::invalid("tool_choice", "a call is required, but `tools` is empty"))
        }
        ToolChoice::Function(name) if tools.is_empty() => {
            Err(EngineError::invalid("tool_choice", format!("names the function `{name}`, which `tools` lacks")))
        }
        _ => Ok(tools),
    }
}

fn format_only(request: &ChatRequest, vocabulary: &Vocabulary) -> Result<Option<Form>, EngineError> {
    let (grammar, field) = match &request.response_format {
        ResponseFormat::Text => return Ok(None),
        ResponseFormat::JsonObject => (TopLevelGrammar::from_json_schema(styled(&json!({"type": "object"}))), ""),
        ResponseFormat::JsonSchema(schema) => {
            let schema = styled(schema);
            can_be_said(&schema).map_err(|reason| unsupported(SCHEMA, reason))?;
            (TopLevelGrammar::from_json_schema(schema), "")
        }
        ResponseFormat::Regex(pattern) => (TopLevelGrammar::from_regex(pattern), "regex"),
        ResponseFormat::Grammar(lark) => {
            depth::of_lark(lark).map_err(|reason| EngineError::invalid("grammar", reason))?;
            (TopLevelGrammar::from_lark(lark.clone()), "grammar")
        }
    };
    match vocabulary.form(grammar, &request.tenant.clone().unwrap_or_default()) {
        Ok(form) if field.is_empty() => Ok(Some(form)),
        Ok(form) => Ok(Some(Form { field, ..form })),
        Err(reason) if field.is_empty() => Err(unsupported(SCHEMA, reason)),
        Err(reason) => Err(EngineError::invalid(field, reason)),
    }
}

const SCHEMA: &str = "response_format.json_schema.schema";

fn unsupported(field: impl Into<String>, reason: String) -> EngineError {
    EngineError::Unsupported { field: field.into(), message: format!("it cannot be enforced: {reason}") }
}

/// Whether a schema can be compiled safely and kept to the letter.
fn can_be_said(schema: &Value) -> Result<(), String> {
    depth::of_schema(schema)?;
    rounded(schema).map_or(Ok(()), Err)
}

/// Whether all schemas can.
fn can_all_be_said(request: &ChatRequest, tools: &[Callable], answer: Option<&Answer>) -> Result<(), EngineError> {
    if let Some(Answer::Json(schema)) = answer {
        can_be_said(schema).map_err(|reason| unsupported(SCHEMA, reason))?;
    }
    tools.iter().try_for_each(|Callable { tool, schema }| {
        can_be_said(schema).map_err(|reason| unsupported(parameters_of(request, tool), reason))
    })
}

/// Most tools that are tried alone: each may cost all that the library may spend.
const MOST_TRIED: usize = 32;

/// Which of the schemas the library refuses: each is tried alone.
fn culprit(
    request: &ChatRequest,
    tools: &[Callable],
    answer: Option<&Answer>,
    vocabulary: &Vocabulary,
    together: String,
) -> EngineError {
    let alone = |schema: &Value| vocabulary.compile(TopLevelGrammar::from_json_schema(schema.clone())).err();
    if let Some(Answer::Json(schema)) = answer
        && let Some(reason) = alone(schema)
    {
        return unsupported(SCHEMA, reason);
    }
    for Callable { tool, schema } in tools.iter().take(MOST_TRIED) {
        if let Some(reason) = alone(schema) {
            return unsupported(parameters_of(request, tool), reason);
        }
    }
    unsupported("tools", together)
}

/// The field of a tool's schema.
fn parameters_of(request: &ChatRequest, tool: &Tool) -> String {
    let index = request.tools.iter().position(|offered| offered.name == tool.name).unwrap_or(0);
    format!("tools[{index}].function.parameters")
}

/// What closes a call.
pub(super) const CALL_END: &str = "</tool_call>";

/// LLaDA2's form of calls (its chat template's): `<tool_call>\n{"name": …, "arguments": …}\n</tool_call>`, one after
/// the other or, if not `several`, one at most, in Lark. Where text is an answer too, it may stand before, between and
/// after the calls.
fn calls(tools: &[Callable], answer: Option<&Answer>, several: bool) -> String {
    const OPEN: &str = "<tool_call>";
    let (open, more) = (Value::from(OPEN), if several { "*" } else { "?" });
    let mut lark = match (answer, several) {
        (Some(Answer::Text), _) => {
            // The shortest text up to the first opening tag belongs to a call; what has none is the rest.
            format!(
                "start: (opened call){more} TEXT?\nopened[suffix={open}]: /(?s:.*)/\nTEXT: /(?s:.+)/ & ~/(?s:.*){OPEN}(?s:.*)/\n"
            )
        }
        (Some(Answer::Json(schema)), true) => {
            format!("start: {open} call (\"\\n\" {open} call)* | json\njson: %json {schema}\n")
        }
        (Some(Answer::Json(schema)), false) => format!("start: {open} call | json\njson: %json {schema}\n"),
        (None, true) => format!("start: {open} call (\"\\n\" {open} call)*\n"),
        (None, false) => format!("start: {open} call\n"),
    };
    let names: Vec<String> = (0..tools.len()).map(|index| format!("call{index}")).collect();
    lark.push_str(&format!("call: {}\n", names.join(" | ")));
    for (index, Callable { tool, schema }) in tools.iter().enumerate() {
        let head = format!("\n{{\"name\": {}, \"arguments\": ", Value::from(tool.name.as_str()));
        lark.push_str(&format!(
            "call{index}: {} arguments{index} \"}}\\n{CALL_END}\"\narguments{index}: %json {schema}\n",
            Value::from(head),
        ));
    }
    lark
}
