//! A caller's JSON schema in the grammar library's words: what it refuses although readers see nothing in it goes, and
//! what it cannot take is said in another way that allows no more. Must never let an answer through that the schema
//! forbids.

use serde_json::{Map, Value, json};

use super::bounds;

/// The formats that JSON Schema names. By its rules any other is a remark to readers (`password`, `binary`, `cuid`, ...).
const FORMATS: [&str; 19] = [
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "idn-email",
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uri-reference",
    "iri",
    "iri-reference",
    "uri-template",
    "json-pointer",
    "relative-json-pointer",
    "regex",
    "uuid",
];

/// The schema with the separators that Python's `json.dumps` and LLaDA2's template write: no choice of white space is
/// left, so the grammar forces more.
pub(super) fn styled(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        other => other.clone(),
    };
    say(&mut schema);
    if let Value::Object(fields) = &mut schema {
        let style = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
        fields.entry("x-guidance").or_insert(style);
    }
    schema
}

/// Changes `schema` and every schema in it. What stands in `enum` and the like is data, whatever it looks like.
fn say(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(say),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match (name.as_str(), value) {
                    ("const" | "enum" | "default" | "examples" | "example", _) => {}
                    // A property may have the name of a keyword.
                    ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(named)) => {
                        named.values_mut().for_each(say);
                    }
                    (_, value) => say(value),
                }
            }
            drop_remarks(fields);
            name_keys(fields);
            demand_tags(fields);
            bounds::say(fields);
            if fields.get("not").is_some_and(says_nothing) {
                *schema = Value::Bool(false);
            }
        }
        _ => {}
    }
}

/// Whether every value fits this schema.
fn says_nothing(schema: &Value) -> bool {
    *schema == Value::Bool(true) || schema.as_object().is_some_and(Map::is_empty)
}

/// Takes out what the library refuses and no value fails.
fn drop_remarks(fields: &mut Map<String, Value>) {
    fields.retain(|name, value| match (name.as_str(), value) {
        ("format", Value::String(format)) => FORMATS.contains(&format.as_str()),
        ("uniqueItems", value) => *value != Value::Bool(false),
        // Every number that a reader holds in 64 bits fits.
        ("maximum", value) => value.as_f64().is_none_or(|bound| bound < f64::MAX),
        ("minimum", value) => value.as_f64().is_none_or(|bound| bound > f64::MIN),
        _ => true,
    });
}

/// Says `propertyNames` (zod's and pydantic's way to say what a map's keys are) by the properties themselves, where
/// there are no others. What is no list of names and no pattern stays, and is refused.
fn name_keys(fields: &mut Map<String, Value>) {
    let Some(Value::Object(keys)) = fields.get("propertyNames") else {
        if fields.get("propertyNames") == Some(&Value::Bool(true)) {
            fields.remove("propertyNames");
        }
        return;
    };
    let said: Vec<&str> =
        keys.keys().map(String::as_str).filter(|name| !["type", "title", "description"].contains(name)).collect();
    if keys.get("type").is_some_and(|kind| kind != "string") {
        return;
    }
    let values = fields.get("additionalProperties").cloned().unwrap_or(Value::Bool(true));
    let is_free = !fields.contains_key("properties") && !fields.contains_key("patternProperties");
    let named = match (said.as_slice(), keys.get("enum"), keys.get("pattern")) {
        ([], _, _) => None,
        ([_], Some(Value::Array(names)), _) if is_free => {
            let names = names.iter().filter_map(Value::as_str);
            Some(("properties", names.map(|name| (name.to_owned(), values.clone())).collect()))
        }
        ([_], _, Some(Value::String(pattern))) if is_free => {
            Some(("patternProperties", Map::from_iter([(pattern.clone(), values)])))
        }
        _ => return,
    };
    fields.remove("propertyNames");
    if let Some((keyword, named)) = named {
        fields.insert(keyword.to_owned(), named.into());
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

/// Which alternative is meant, its tag tells (pydantic's tagged unions): each must be there, also where it has a default,
/// so that no value can fit two.
fn demand_tags(fields: &mut Map<String, Value>) {
    let Some(tag) = fields.get("discriminator").and_then(|by| by.get("propertyName")).and_then(Value::as_str) else {
        return;
    };
    let demand = json!({"type": "object", "required": [tag]});
    if let Some(Value::Array(alternatives)) = fields.get_mut("oneOf") {
        for alternative in alternatives {
            *alternative = json!({"allOf": [alternative.take(), demand]});
        }
    }
}
