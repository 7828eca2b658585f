//! The functions a caller offers and whether they may, must or must not be called.

use serde_json::Value;
use weir_protocol::{EngineError, Tool, ToolChoice};

use crate::api::reading::fields::{self, Members, Path};
use crate::api::reading::{function_name, note, schema};

pub(super) fn tools(
    path: &Path<'_>,
    value: &Value,
    unsupported: &mut Vec<&'static str>,
) -> Result<Vec<Tool>, EngineError> {
    let mut tools = Vec::new();
    for (at, value) in fields::array(path, value)?.iter().enumerate() {
        let path = path.index(at);
        let members = Members::of(&path, value)?;
        // Tools an upstream runs by itself, or with free-text input.
        if members.need("type", fields::string)? != "function" {
            note(unsupported, "tools");
            continue;
        }
        tools.push(Tool {
            name: function_name(&members)?,
            description: members.read("description", fields::string)?.map(str::to_owned),
            parameters: members.read("parameters", schema)?.unwrap_or(Value::Null),
        });
    }
    Ok(tools)
}

pub(super) fn choice(
    path: &Path<'_>,
    value: &Value,
    tools: &[Tool],
    unsupported: &mut Vec<&'static str>,
) -> Result<ToolChoice, EngineError> {
    const WORDS: &[(&str, ())] = &[("none", ()), ("auto", ()), ("required", ())];
    if let Value::String(word) = value {
        return match word.as_str() {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            // Tools of other kinds may be there: whoever runs them judges the demand.
            "required" if tools.is_empty() && !unsupported.contains(&"tools") => {
                Err(path.wrong("`required` needs at least one tool"))
            }
            "required" => Ok(ToolChoice::Required),
            other => Err(fields::unknown(path, other, WORDS)),
        };
    }
    let members = Members::of(path, value)?;
    if members.need("type", fields::string)? != "function" {
        note(unsupported, "tool_choice");
        return Ok(ToolChoice::Auto);
    }
    members.need("name", |path, value| {
        let name = fields::string(path, value)?;
        let offered = tools.iter().any(|tool| tool.name == name);
        if offered { Ok(ToolChoice::Function(name.to_owned())) } else { Err(path.wrong("is not among `tools`")) }
    })
}
