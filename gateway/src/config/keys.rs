//! Finds what the schema does not know or cannot read: unknown keys with the nearest known one, wrong types with the
//! way to write them. The known keys are those of [`super::written`] itself, so there is no second list to keep.

use figment::error::{Actual, Kind};
use figment::value::Value;
use serde_json::Value as Json;
use weir_router_policies::policy::SECTIONS;

use super::diagnostic::{Diagnostic, nearest};
use super::layers::Layered;
use super::or_auto::AUTO;
use super::tenants::{KeyWritten, TenantWritten};
use super::written::{BackendWritten, WarmWritten, Written};

/// The schema by example: a config with every key at its default and one of each list.
pub(super) struct Schema(Json);

/// A key that may be typed.
struct Key {
    /// From the top; lists leave no trace in it.
    path: Vec<String>,
    /// Name of the `[[list]]` that it belongs into.
    list: Option<String>,
}

impl Schema {
    pub(super) fn new() -> Self {
        let mut example = Written { backend: vec![BackendWritten::default()], ..Written::default() };
        example.tenant.push(TenantWritten { keys: vec![KeyWritten::default()], ..TenantWritten::default() });
        example.engine.diffusion.warm.push(WarmWritten::default());
        example.engine.ar.warm.push(WarmWritten::default());
        // INVARIANT: its maps have texts as keys (a test reads it). Without it every key is unknown.
        Schema(serde_json::to_value(example).unwrap_or_default())
    }

    /// Every setting below a section, its parts joined by `_`.
    pub(super) fn joined(&self) -> Vec<String> {
        self.all_keys().iter().filter(|key| key.path.len() > 1).map(|key| key.path.join("_")).collect()
    }

    /// The default at a path; any `[[backend]]` is the one example.
    fn default_at(&self, path: &[String]) -> Option<&Json> {
        path.iter().try_fold(&self.0, |at, key| match at {
            Json::Array(items) => items.first(),
            other => other.get(key),
        })
    }

    fn all_keys(&self) -> Vec<Key> {
        let mut out = Vec::new();
        collect_keys(&self.0, &mut Vec::new(), None, &mut out);
        out
    }
}

fn collect_keys(at: &Json, path: &mut Vec<String>, list: Option<&str>, out: &mut Vec<Key>) {
    match at {
        Json::Object(object) => {
            for (key, inner) in object {
                path.push(key.clone());
                out.push(Key { path: path.clone(), list: list.map(str::to_owned) });
                collect_keys(inner, path, list, out);
                path.pop();
            }
        }
        Json::Array(items) => {
            let name = path.join(".");
            items.iter().for_each(|item| collect_keys(item, path, list.or(Some(&name)), out));
        }
        _ => {}
    }
}

/// Reads the layers into the schema, or says everything that does not fit.
pub(super) fn fit(layered: &Layered, schema: &Schema) -> Result<Written, Vec<Diagnostic>> {
    let mut unknown = Vec::new();
    find_unknown(layered, schema, layered.merged(), &schema.0, &mut Vec::new(), &mut unknown);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let misfits =
        |errors: Box<figment::Error>| errors.into_iter().map(|error| misfit(layered, schema, &error)).collect();
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

/// The nearest key beside it, else a key of that name below the section it stands in, else what may stand here.
fn suggestion(schema: &Schema, path: &[String], siblings: &serde_json::Map<String, Json>) -> String {
    let Some((typed, section)) = path.split_last() else { return String::new() };
    if section.is_empty() && SECTIONS.contains(&typed.as_str()) {
        return "it stands in a policy file, which `[policy] file` names; `weir policy show balanced` prints one to begin with".to_owned();
    }
    if let Some(near) = nearest(typed, siblings.keys().map(String::as_str)) {
        return format!("did you mean `{near}`?");
    }
    let flat = typed.replace('.', "_");
    let keys = schema.all_keys();
    let elsewhere = keys
        .iter()
        .find(|key| key.path.starts_with(section) && (key.path.last() == Some(typed) || key.path.join("_") == flat));
    match elsewhere {
        Some(Key { path, list: Some(list) }) => {
            format!("did you mean `{}`? It stands in the file, in a `[[{list}]]`", path.join("."))
        }
        Some(Key { path, list: None }) => {
            let variable = path.join("__").to_uppercase();
            format!("did you mean `{}` (environment: `WEIR_{variable}`)?", path.join("."))
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
    let got = match &error.kind {
        Kind::InvalidType(got, _) | Kind::InvalidValue(got, _) => Some(got),
        _ => None,
    };
    let is_table = matches!(got, Some(Actual::Map));
    // A number may be repeated: it is no secret.
    let in_quotes = got.and_then(|got| match got {
        Actual::Str(text) if text.parse::<f64>().is_ok() => Some(text),
        _ => None,
    });
    let takes_numbers = matches!(default, Some(Json::Number(_))) || default.and_then(Json::as_str) == Some(AUTO);
    let help = match (path.last(), default) {
        (Some(key), _) if takes_numbers && in_quotes.is_some() => {
            format!("write numbers without quotes: `{key} = {}`", in_quotes.map_or("", String::as_str))
        }
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
        (Some(index), Some(Json::Object(one))) if is_index(index) => in_a_list(&path, one),
        (Some(_), Some(Json::Object(_))) => match path.iter().any(|part| is_index(part)) {
            true => {
                let names: Vec<&str> = path.iter().map(String::as_str).filter(|part| !is_index(part)).collect();
                format!("write it as a section: `[{}]`, below its `[[{}]]`", names.join("."), names[0])
            }
            false => format!("write it as a section: `[{}]`", path.join(".")),
        },
        (Some(key), Some(default)) if !default.is_array() => format!("write it like `{key} = {default}`"),
        _ => String::new(),
    };
    layered.diagnostic(&path, message, help)
}

fn is_index(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

/// How one of a list is written: `keys = [{ hash = "…" }]`; `one` has its keys.
fn in_a_list(path: &[String], one: &serde_json::Map<String, Json>) -> String {
    let names: Vec<&str> = path.iter().map(String::as_str).filter(|part| !is_index(part)).collect();
    match (names.as_slice(), one.iter().all(|(_, value)| value.is_string())) {
        ([.., name], true) => {
            let keys: Vec<String> = one.keys().map(|key| format!("{key} = \"…\"")).collect();
            format!("write it like `{name} = [{{ {} }}]`", keys.join(", "))
        }
        _ => format!("one of several is written `[[{}]]`", names.join(".")),
    }
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
fn kind_of(actual: &Actual) -> &'static str {
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
