//! Whether the offered functions may, must or must not be called, as both of OpenAI's conversation dialects say it.

use serde_json::Value;
use weir_protocol::{EngineError, Tool, ToolChoice};

use super::fields::{self, Members, Path};
use super::note;

/// A word, or the one function to call; `inside` is the member that holds its name, where the dialect has one for that.
pub(crate) fn read(
    path: &Path<'_>,
    value: &Value,
    inside: Option<&'static str>,
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
    match members.need("type", fields::string)? {
        "function" => {}
        // Free-form tools are among the others in the dialect that names them without a member of their own.
        "custom" if inside.is_none() => {}
        _ => {
            note(unsupported, "tool_choice");
            return Ok(ToolChoice::Auto);
        }
    }
    let named = |members: &Members<'_, '_>| members.need("name", |path, value| offered(path, value, tools));
    match inside {
        Some(key) => members.need(key, |path, value| named(&Members::of(path, value)?)),
        None => named(&members),
    }
}

fn offered(path: &Path<'_>, value: &Value, tools: &[Tool]) -> Result<ToolChoice, EngineError> {
    let name = fields::string(path, value)?;
    match tools.iter().any(|tool| tool.name == name) {
        true => Ok(ToolChoice::Function(name.to_owned())),
        false => Err(path.wrong("is not among `tools`")),
    }
}
