//! Reads single JSON values and says precisely what is wrong with them and where. Knows no field of the dialect.
//! Messages may name a value's type or a short word of the caller's, never longer text.

use std::fmt;

use serde_json::{Map, Value};
use weir_protocol::EngineError;

use crate::config::nearest;

/// Where a value stands in the body, built on the way down and written out only for an error.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'a> {
    Body,
    Key(&'a Path<'a>, &'static str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(crate) fn key(&self, key: &'static str) -> Path<'_> {
        Path::Key(self, key)
    }

    pub(crate) fn index(&self, index: usize) -> Path<'_> {
        Path::Index(self, index)
    }

    /// An error at this place.
    pub(crate) fn wrong(&self, message: impl Into<String>) -> EngineError {
        EngineError::invalid(self.to_string(), message)
    }

    fn mistyped(&self, expected: &str, value: &Value) -> EngineError {
        self.wrong(format!("must be {expected}, not {}", type_name(value)))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Body => Ok(()),
            Path::Key(Path::Body, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A caller's word, short enough to show.
pub(crate) fn shown(word: &str) -> String {
    const MOST: usize = 40;
    let mut short: String = word.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if word.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// One of `known`, by its word.
pub(crate) fn word<T: Copy>(path: &Path<'_>, value: &Value, known: &[(&'static str, T)]) -> Result<T, EngineError> {
    let given = string(path, value)?;
    known
        .iter()
        .find(|(word, _)| *word == given)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| unknown(path, given, known))
}

/// The error for a word that is none of `known`.
pub(crate) fn unknown<T>(path: &Path<'_>, given: &str, known: &[(&'static str, T)]) -> EngineError {
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    path.wrong(format!("unknown value `{}`; known are {}", shown(given), words.join(", ")))
}

pub(crate) fn string<'v>(path: &Path<'_>, value: &'v Value) -> Result<&'v str, EngineError> {
    value.as_str().ok_or_else(|| path.mistyped("a string", value))
}

pub(crate) fn boolean(path: &Path<'_>, value: &Value) -> Result<bool, EngineError> {
    value.as_bool().ok_or_else(|| path.mistyped("a boolean", value))
}

pub(crate) fn object<'v>(path: &Path<'_>, value: &'v Value) -> Result<&'v Map<String, Value>, EngineError> {
    value.as_object().ok_or_else(|| path.mistyped("an object", value))
}

pub(crate) fn array<'v>(path: &Path<'_>, value: &'v Value) -> Result<&'v [Value], EngineError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| path.mistyped("an array", value))
}

/// A number within both bounds.
pub(crate) fn number(path: &Path<'_>, value: &Value, least: f64, most: f64) -> Result<f32, EngineError> {
    let number = value.as_f64().ok_or_else(|| path.mistyped("a number", value))?;
    if !(least..=most).contains(&number) {
        return Err(path.wrong(format!("must be from {least} to {most}")));
    }
    Ok(number as f32)
}

/// A number, whose range others know.
pub(crate) fn any_number(path: &Path<'_>, value: &Value) -> Result<f32, EngineError> {
    value.as_f64().map(|number| number as f32).ok_or_else(|| path.mistyped("a number", value))
}

/// A whole number, whose range others know.
pub(crate) fn any_whole(path: &Path<'_>, value: &Value) -> Result<u32, EngineError> {
    whole(path, value, 0, u32::MAX)
}

/// A whole number within both bounds.
pub(crate) fn whole(path: &Path<'_>, value: &Value, least: u32, most: u32) -> Result<u32, EngineError> {
    if !value.is_number() {
        return Err(path.mistyped("a whole number", value));
    }
    // 64.0 is as whole as 64.
    let plain =
        value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0 && *number <= f64::from(u32::MAX));
    let fits = plain.map(|number| number as u32).filter(|number| (least..=most).contains(number));
    fits.ok_or_else(|| path.wrong(format!("must be a whole number from {least} to {most}")))
}

/// An object's members, where null means the same as absent.
#[derive(Clone, Copy)]
pub(crate) struct Members<'v, 'p> {
    map: &'v Map<String, Value>,
    path: &'p Path<'p>,
}

impl<'v, 'p> Members<'v, 'p> {
    pub(crate) fn of(path: &'p Path<'p>, value: &'v Value) -> Result<Self, EngineError> {
        Ok(Members { map: object(path, value)?, path })
    }

    pub(crate) fn from_map(path: &'p Path<'p>, map: &'v Map<String, Value>) -> Self {
        Members { map, path }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'v Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Reads a member if it is there.
    pub(crate) fn read<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Path<'_>, &'v Value) -> Result<T, EngineError>,
    ) -> Result<Option<T>, EngineError> {
        self.get(key).map(|value| read(&self.path.key(key), value)).transpose()
    }

    /// Reads a member that must be there.
    pub(crate) fn need<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Path<'_>, &'v Value) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.read(key, read)?.ok_or_else(|| self.path.key(key).wrong("is required"))
    }

    /// Refuses members not in `known`, with the nearest one that is.
    pub(crate) fn only(&self, known: &[&'static str]) -> Result<(), EngineError> {
        let Some(stranger) = self.map.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
        let near = nearest(stranger, known.iter().copied());
        let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        Err(self.path.wrong(format!("unknown key `{}`{hint}; known are {}", shown(stranger), known.join(", "))))
    }
}
