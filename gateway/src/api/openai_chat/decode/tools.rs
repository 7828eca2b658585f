//! The functions a caller offers.

use serde_json::Value;
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
    let description = members.read("description", fields::string)?.map(str::to_owned);
    let parameters = members.read("parameters", schema)?.unwrap_or(Value::Null);
    let strict = members.read("strict", fields::boolean)?.unwrap_or(false);
    Ok(Tool { name: function_name(&members)?, description, parameters, strict, ..Tool::default() })
}
