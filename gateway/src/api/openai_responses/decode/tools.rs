//! The functions a caller offers.

use serde_json::{Value, json};
use weir_protocol::{EngineError, Tool};

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
        match members.need("type", fields::string)? {
            "namespace" => {
                tools.extend(members.need("tools", |path, value| group(path, value, &members, unsupported))?)
            }
            kind => match own(kind, &members)? {
                Some(tool) => tools.push(tool),
                // One that an upstream runs by itself.
                None => note(unsupported, "tools"),
            },
        }
    }
    Ok(tools)
}

/// The functions of a group. What it is for, each says.
fn group(
    path: &Path<'_>,
    value: &Value,
    group: &Members<'_, '_>,
    unsupported: &mut Vec<&'static str>,
) -> Result<Vec<Tool>, EngineError> {
    let (name, about) = (function_name(group)?, group.read("description", fields::string)?);
    let mut tools = Vec::new();
    for (at, value) in fields::array(path, value)?.iter().enumerate() {
        let path = path.index(at);
        let members = Members::of(&path, value)?;
        let Some(tool) = own(members.need("type", fields::string)?, &members)? else {
            note(unsupported, "tools");
            continue;
        };
        let description = about.into_iter().map(str::to_owned).chain(tool.description).collect::<Vec<_>>().join("\n\n");
        tools.push(Tool {
            name: Tool::joined(&name, &tool.name),
            description: Some(description).filter(|text| !text.is_empty()),
            grouped: Some((name.clone(), tool.name)),
            ..tool
        });
    }
    Ok(tools)
}

/// A tool that the caller runs; `None`: it is of another kind.
fn own(kind: &str, members: &Members<'_, '_>) -> Result<Option<Tool>, EngineError> {
    let description = members.read("description", fields::string)?.map(str::to_owned);
    match kind {
        "function" => Ok(Some(Tool {
            name: function_name(members)?,
            description,
            parameters: members.read("parameters", schema)?.unwrap_or(Value::Null),
            strict: members.read("strict", fields::boolean)?.unwrap_or(false),
            ..Tool::default()
        })),
        "custom" => freeform(members, description).map(Some),
        _ => Ok(None),
    }
}

/// A tool that takes text. Where only objects are known, its grammar can be told, not enforced.
fn freeform(members: &Members<'_, '_>, description: Option<String>) -> Result<Tool, EngineError> {
    let grammar = members.read("format", |path, value| {
        let members = Members::of(path, value)?;
        let syntax = members.read("syntax", fields::string)?;
        Ok(syntax.zip(members.read("definition", fields::string)?))
    })?;
    let told = grammar.flatten().map(|(syntax, text)| format!("The input must fit this grammar ({syntax}):\n{text}"));
    let description: Vec<String> = description.into_iter().chain(told).collect();
    let member = json!({Tool::INPUT: {"type": "string", "description": "All of the input, as plain text."}});
    Ok(Tool {
        name: function_name(members)?,
        description: Some(description.join("\n\n")).filter(|text| !text.is_empty()),
        parameters: json!({"type": "object", "properties": member, "required": [Tool::INPUT], "additionalProperties": false}),
        strict: false,
        freeform: true,
        grouped: None,
    })
}
