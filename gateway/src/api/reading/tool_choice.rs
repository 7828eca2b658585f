//! Whether the offered functions may, must or must not be called, as both of OpenAI's conversation dialects say it.

use serde_json::Value;
use weir_protocol::{EngineError, Tool, ToolChoice};

use super::fields::{self, Members, Path};
use super::note;

/// A word, the one function to call, or those of `tools` that may be called: the others are taken out. `inside` is the member
/// that holds a function's name, where the dialect has one for that.
pub(crate) fn read(
    path: &Path<'_>,
    value: &Value,
    inside: Option<&'static str>,
    tools: &mut Vec<Tool>,
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
    let chosen = match (members.need("type", fields::string)?, inside) {
        ("allowed_tools", None) => allowed(&members, inside, tools)?,
        ("allowed_tools", Some(_)) => {
            members.need("allowed_tools", |path, value| allowed(&Members::of(path, value)?, inside, tools))?
        }
        _ => function(&members, inside, tools)?.map(|name| ToolChoice::Function(name.to_owned())),
    };
    if chosen.is_none() {
        note(unsupported, "tool_choice");
    }
    Ok(chosen.unwrap_or_default())
}

/// What may be called, where that is functions only; `None`: tools that an upstream runs by itself, too.
fn allowed(
    members: &Members<'_, '_>,
    inside: Option<&'static str>,
    tools: &mut Vec<Tool>,
) -> Result<Option<ToolChoice>, EngineError> {
    const MODES: &[(&str, bool)] = &[("auto", false), ("required", true)];
    let is_required = members.need("mode", |path, value| fields::word(path, value, MODES))?;
    let names = members.need("tools", |path, value| {
        let list = fields::array(path, value)?;
        if list.is_empty() {
            return Err(path.wrong("must name at least one tool"));
        }
        let each = list.iter().enumerate();
        let each = each.map(|(at, value)| function(&Members::of(&path.index(at), value)?, inside, tools));
        each.collect::<Result<Option<Vec<&str>>, EngineError>>()
    })?;
    let Some(names) = names else { return Ok(None) };
    tools.retain(|tool| names.contains(&tool.name.as_str()));
    Ok(Some(if is_required { ToolChoice::Required } else { ToolChoice::Auto }))
}

/// The name of one of `tools`; `None`: it is of another kind.
fn function<'v>(
    members: &Members<'v, '_>,
    inside: Option<&'static str>,
    tools: &[Tool],
) -> Result<Option<&'v str>, EngineError> {
    match members.need("type", fields::string)? {
        "function" => {}
        // Free-form tools are among the others in the dialect that names them without a member of their own.
        "custom" if inside.is_none() => {}
        _ => return Ok(None),
    }
    let named = |members: &Members<'v, '_>| members.need("name", |path, value| offered(path, value, tools));
    let name = match inside {
        Some(key) => members.need(key, |path, value| named(&Members::of(path, value)?)),
        None => named(members),
    };
    name.map(Some)
}

fn offered<'v>(path: &Path<'_>, value: &'v Value, tools: &[Tool]) -> Result<&'v str, EngineError> {
    let name = fields::string(path, value)?;
    match tools.iter().any(|tool| tool.name == name) {
        true => Ok(name),
        false => Err(path.wrong("is not among `tools`")),
    }
}
