//! The functions a caller offers and whether they may, must or must not be called.

use serde_json::Value;
use weir_protocol::{EngineError, Tool, ToolChoice};

use super::fields::{self, Members, Path};
use super::messages::note;

const NAME_MAX: usize = 256;

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
        tools.push(members.need("function", tool)?);
    }
    Ok(tools)
}

fn tool(path: &Path<'_>, value: &Value) -> Result<Tool, EngineError> {
    let members = Members::of(path, value)?;
    let name = members.need("name", fields::string)?;
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(path.key("name").wrong(format!("must be 1 to {NAME_MAX} bytes long")));
    }
    let description = members.read("description", fields::string)?.map(str::to_owned);
    let parameters = members.read("parameters", |path, value| fields::object(path, value).map(|_| value.clone()))?;
    Ok(Tool { name: name.to_owned(), description, parameters: parameters.unwrap_or(Value::Null) })
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
    let name = members.need("function", |path, value| {
        Members::of(path, value)?.need("name", |path, value| {
            let name = fields::string(path, value)?;
            let offered = tools.iter().any(|tool| tool.name == name);
            if offered { Ok(name) } else { Err(path.wrong("is not among `tools`")) }
        })
    })?;
    Ok(ToolChoice::Function(name.to_owned()))
}
