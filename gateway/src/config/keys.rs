//! Finds what the schema does not know or cannot read: unknown keys with the nearest known one, wrong types with the
//! way to write them. The known keys are those of [`super::written`] itself, so there is no second list to keep.

use figment::error::Kind;
use figment::value::Value;
use serde_json::Value as Json;

use super::diagnostic::{Diagnostic, nearest};
use super::layers::Layered;
use super::or_auto::AUTO;
use super::tenants::{KeyWritten, TenantWritten};
use super::written::{BackendWritten, WarmWritten, Written};

/// The schema by example: a config with every key at its default and one of each list.
struct Schema(Json);

impl Schema {
    fn new() -> Result<Self, serde_json::Error> {
        let mut example = Written { backend: vec![BackendWritten::default()], ..Written::default() };
        example.tenant.push(TenantWritten { keys: vec![KeyWritten::default()], ..TenantWritten::default() });
        example.engine.diffusion.warm.push(WarmWritten::default());
        example.engine.ar.warm.push(WarmWritten::default());
        serde_json::to_value(example).map(Schema)
    }

    /// The default at a path; any `[[backend]]` is the one example.
    fn default_at(&self, path: &[String]) -> Option<&Json> {
        path.iter().try_fold(&self.0, |at, key| match at {
            Json::Array(items) => items.first(),
            other => other.get(key),
        })
    }

    /// All keys, dotted, `[[backend]]` as `backend`.
    fn all_keys(&self) -> Vec<Vec<String>> {
        let mut out = Vec::new();
        collect_keys(&self.0, &mut Vec::new(), &mut out);
        out
    }
}

fn collect_keys(at: &Json, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    match at {
        Json::Object(object) => {
            for (key, inner) in object {
                path.push(key.clone());
                out.push(path.clone());
                collect_keys(inner, path, out);
                path.pop();
            }
        }
        Json::Array(items) => items.iter().for_each(|item| collect_keys(item, path, out)),
        _ => {}
    }
}

/// Reads the layers into the schema, or says everything that does not fit.
pub(super) fn fit(layered: &Layered) -> Result<Written, Vec<Diagnostic>> {
    let schema = Schema::new().map_err(|error| vec![layered.diagnostic(&[], error.to_string(), "")])?;
    let mut unknown = Vec::new();
    find_unknown(layered, &schema, layered.merged(), &schema.0, &mut Vec::new(), &mut unknown);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let misfits =
        |errors: Box<figment::Error>| errors.into_iter().map(|error| misfit(layered, &schema, &error)).collect();
    layered.extract::<Written>().map_err(misfits)
}

fn find_unknown(
    layered: &Layered,
    schema: &Schema,
    value: &Value,
    known: &Json,
    path: &mut Vec<String>,
    out: &mut Vec<Diagnostic>,
) {
    match (value, known) {
        // An empty table in the schema is open: its keys are the operator's own (`headers`).
        (Value::Dict(_, dict), Json::Object(object)) if !object.is_empty() => {
            for (key, inner) in dict {
                path.push(key.clone());
                match object.get(key) {
                    Some(known) => find_unknown(layered, schema, inner, known, path, out),
                    None => out.push(layered.diagnostic(path, "unknown key", suggestion(schema, path, object))),
                }
                path.pop();
            }
        }
        (Value::Array(_, items), Json::Array(examples)) => {
            let Some(example) = examples.first() else { return };
            for (index, inner) in items.iter().enumerate() {
                path.push(index.to_string());
                find_unknown(layered, schema, inner, example, path, out);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The nearest key beside it, else a key of that name elsewhere, else what may stand here.
fn suggestion(schema: &Schema, path: &[String], siblings: &serde_json::Map<String, Json>) -> String {
    let typed = path.last().map_or("", String::as_str);
    if let Some(near) = nearest(typed, siblings.keys().map(String::as_str)) {
        return format!("did you mean `{near}`?");
    }
    let everywhere: Vec<String> = schema.all_keys().iter().map(|keys| keys.join(".")).collect();
    let flat = typed.replace('.', "_");
    let elsewhere =
        everywhere.iter().find(|dotted| dotted.rsplit('.').next() == Some(typed) || dotted.replace('.', "_") == flat);
    match elsewhere {
        Some(dotted) => {
            format!("did you mean `{dotted}` (environment: `WEIR_{}`)?", dotted.replace('.', "__").to_uppercase())
        }
        None => format!("known here: {}", siblings.keys().cloned().collect::<Vec<_>>().join(", ")),
    }
}

fn misfit(layered: &Layered, schema: &Schema, error: &figment::Error) -> Diagnostic {
    let path: Vec<String> = error.path.clone();
    let default = schema.default_at(&path);
    let wanted = default.map_or("another value", kind_wanted);
    let message = match &error.kind {
        Kind::InvalidType(got, _) | Kind::InvalidValue(got, _) => format!("{} where {wanted} belongs", kind_of(got)),
        Kind::UnknownVariant(_, known) => format!("not one of {}", known.join(", ")),
        Kind::Message(_) => format!("cannot be read as {wanted}"),
        other => other.to_string(),
    };
    let is_table = matches!(&error.kind, Kind::InvalidType(figment::error::Actual::Map, _));
    let help = match (path.last(), default) {
        // `[tenants]` and `[[tenant]]` stand beside each other.
        (Some(index), None) if index == "0" && path.first().is_some_and(|first| first == "tenants") => {
            "a tenant is a `[[tenant]]`".to_owned()
        }
        (Some(_), Some(Json::Array(items))) if is_table && items.first().is_some_and(Json::is_object) => {
            format!("one of several is written `[[{}]]`", path.join("."))
        }
        (Some(key), Some(Json::Array(_))) => format!("write it like `{key} = [\"…\"]`"),
        // A date without quotes, too.
        (Some(key), Some(Json::String(text))) if text.is_empty() => format!("write it in quotes: `{key} = \"…\"`"),
        (Some(_), Some(Json::Object(_))) => format!("write it as a section: `[{}]`", path.join(".")),
        (Some(key), Some(default)) if !default.is_array() => format!("write it like `{key} = {default}`"),
        _ => String::new(),
    };
    layered.diagnostic(&path, message, help)
}

fn kind_wanted(default: &Json) -> &'static str {
    match default {
        Json::Bool(_) => "`true` or `false`",
        Json::Number(number) if number.is_f64() => "a number",
        Json::Number(_) => "a whole number from 0 up",
        Json::String(word) if word == AUTO => "`\"auto\"` or one of its values",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "a table",
        Json::Null => "another value",
    }
}

/// The kind of a value without the value: it may be a secret typed in the wrong place.
fn kind_of(actual: &figment::error::Actual) -> &'static str {
    use figment::error::Actual;
    match actual {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "a number",
        Actual::Float(_) => "a number with a fraction",
        Actual::Char(_) | Actual::Str(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "a value of another kind",
    }
}
