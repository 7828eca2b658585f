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
        let description = members.read("description", fields::string)?.map(str::to_owned);
        match members.need("type", fields::string)? {
            "function" => tools.push(Tool {
                name: function_name(&members)?,
                description,
                parameters: members.read("parameters", schema)?.unwrap_or(Value::Null),
                strict: members.read("strict", fields::boolean)?.unwrap_or(false),
                freeform: false,
            }),
            "custom" => tools.push(freeform(&members, description)?),
            // Tools an upstream runs by itself.
            _ => note(unsupported, "tools"),
        }
    }
    Ok(tools)
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
    })
}
