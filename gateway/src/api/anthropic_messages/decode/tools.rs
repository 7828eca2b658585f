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
        // Tools the API runs by itself.
        if members.read("type", fields::string)?.is_some_and(|kind| kind != "custom") {
            note(unsupported, "tools");
            continue;
        }
        tools.push(Tool {
            name: function_name(&members)?,
            description: members.read("description", fields::string)?.map(str::to_owned),
            parameters: members.read("input_schema", schema)?.unwrap_or(Value::Null),
            strict: members.read("strict", fields::boolean)?.unwrap_or(false),
            ..Tool::default()
        });
    }
    Ok(tools)
}

/// What `tool_choice` says.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) tool_choice: ToolChoice,
    pub(super) parallel: Option<bool>,
}

pub(super) fn choice(
    path: &Path<'_>,
    value: &Value,
    tools: &[Tool],
    unsupported: &[&'static str],
) -> Result<Choice, EngineError> {
    const KINDS: &[(&str, ToolChoice)] =
        &[("auto", ToolChoice::Auto), ("any", ToolChoice::Required), ("none", ToolChoice::None)];
    let members = Members::of(path, value)?;
    let disabled = members.read("disable_parallel_tool_use", fields::boolean)?;
    let tool_choice = members.need("type", |path, value| match fields::string(path, value)? {
        "tool" => members.need("name", |path, value| {
            let name = fields::string(path, value)?;
            let offered = tools.iter().any(|tool| tool.name == name) || unsupported.contains(&"tools");
            if offered { Ok(ToolChoice::Function(name.to_owned())) } else { Err(path.wrong("is not among `tools`")) }
        }),
        // Tools of other kinds may be there: whoever runs them judges the demand.
        "any" if tools.is_empty() && !unsupported.contains(&"tools") => {
            Err(path.wrong("`any` needs at least one tool"))
        }
        given => match KINDS.iter().find(|(word, _)| *word == given) {
            Some((_, choice)) => Ok(choice.clone()),
            None => {
                let known: Vec<(&'static str, ())> =
                    KINDS.iter().map(|(word, _)| *word).chain(["tool"]).map(|word| (word, ())).collect();
                Err(fields::unknown(path, given, &known))
            }
        },
    })?;
    Ok(Choice { tool_choice, parallel: disabled.map(|disabled| !disabled) })
}
