//! How large a schema is with all its references written out: a validator follows each of them anew, and a few lines can
//! send it 2^40 ways, or so deep that its stack does not suffice. Must never write them out itself.

use std::collections::HashMap;

use serde_json::Value;

/// Most levels, references followed: what compiles and what checks goes down by calls.
const DEEPEST: usize = 200;

/// Objects and arrays in `schema`, those behind a reference counted at each place that refers to them. `None` where it is
/// too deep, refers to itself, or to what is not in it by a pointer from its root.
pub(super) fn of(schema: &Value) -> Option<u64> {
    Sizes { root: schema, known: HashMap::new() }.of(schema, 0).map(|size| size.objects)
}

#[derive(Clone, Copy)]
struct Size {
    objects: u64,
    levels: usize,
}

impl Size {
    const NOTHING: Size = Size { objects: 0, levels: 0 };

    /// One of these inside of `self`.
    fn and(self, inner: Size) -> Size {
        let objects = self.objects.saturating_add(inner.objects);
        Size { objects, levels: self.levels.max(inner.levels + 1) }
    }
}

struct Sizes<'a> {
    root: &'a Value,
    /// By pointer; `None` while it is being counted.
    known: HashMap<&'a str, Option<Size>>,
}

impl<'a> Sizes<'a> {
    fn of(&mut self, value: &'a Value, level: usize) -> Option<Size> {
        let own = Size { objects: 1, levels: 1 };
        if level > DEEPEST {
            return None;
        }
        match value {
            Value::Object(fields) => fields.iter().try_fold(own, |size, (key, value)| {
                Some(size.and(match (key.as_str(), value) {
                    ("$ref", Value::String(pointer)) => self.behind(pointer, level + 1)?,
                    // They find their place by who referred to it, or are found by name.
                    ("$dynamicRef" | "$recursiveRef", Value::String(_)) => return None,
                    ("$id" | "id", Value::String(_)) if level > 0 => return None,
                    _ => self.of(value, level + 1)?,
                }))
            }),
            Value::Array(items) => items.iter().try_fold(own, |size, item| Some(size.and(self.of(item, level + 1)?))),
            _ => Some(Size::NOTHING),
        }
    }

    fn behind(&mut self, reference: &'a str, level: usize) -> Option<Size> {
        let pointer = reference.strip_prefix('#')?;
        let size = match self.known.get(pointer) {
            Some(known) => (*known)?,
            None => {
                self.known.insert(pointer, None);
                let size = self.of(self.root.pointer(pointer)?, level)?;
                self.known.insert(pointer, Some(size));
                size
            }
        };
        (level + size.levels <= DEEPEST).then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_referred_to_counts_each_time() {
        assert_eq!(of(&json!({"type": "object"})), Some(1));
        assert_eq!(of(&json!({"properties": {"a": {"enum": [1, 2]}}})), Some(4));
        let twice = json!({"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {}}}});
        assert_eq!(of(&twice), Some(2 + 2 * 3 + 3));
        assert_eq!(
            of(&json!({"properties": {"$ref": {"type": "string"}, "id": {}}})),
            Some(4),
            "properties of that name"
        );
    }

    #[test]
    fn what_refers_to_itself_or_away_or_too_deep_has_no_size() {
        let chain = |length: usize| {
            let next = |at: usize| (at.to_string(), json!({"$ref": format!("#/$defs/{}", at + 1)}));
            let mut definitions: serde_json::Map<String, Value> = (0..length).map(next).collect();
            definitions.insert(length.to_string(), json!({"type": "integer"}));
            json!({"properties": {"a": {"$ref": "#/$defs/1"}}, "$defs": definitions})
        };
        assert!(of(&chain(80)).is_some());
        for schema in [
            chain(300),
            chain(100_000),
            json!({"$ref": "#"}),
            json!({"properties": {"next": {"$ref": "#"}}}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}),
            json!({"$ref": "#/$defs/none"}),
            json!({"$ref": "#anchor"}),
            json!({"$ref": "https://example.org/x.json"}),
            json!({"$dynamicRef": "#x"}),
            json!({"properties": {"a": {"$id": "b", "$ref": "#/$defs/c", "$defs": {"c": {}}}}, "$defs": {"c": {}}}),
        ] {
            assert_eq!(of(&schema), None);
        }
    }
}
