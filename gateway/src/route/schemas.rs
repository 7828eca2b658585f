//! Schemas of the forms that answers are checked by. Agents offer the same tools with every request, so the last ones are
//! kept compiled, by their whole text. Callers write them, and the checking cannot be stopped: must never take one whose
//! work is not bounded beforehand, nor fetch anything. Such a schema is none.

mod size;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::plain_json;

/// Schemas kept.
const KEPT: usize = 256;
/// Longest text of one that is kept: together they take some tens of MB at most.
const BYTES: usize = 16 * 1024;
/// Most that a schema's size times its answer's bytes may be: a fraction of a second.
const WORK: u64 = 1 << 24;
/// Most memory of one compiled pattern. What matches it takes time by its size, and never tries again.
const PATTERN_BYTES: usize = 32 * 1024;

/// `None`: it is no schema, and need not be tried again.
type Compiled = Option<Arc<Schema>>;

struct Schema {
    validator: Validator,
    size: u64,
}

#[derive(Default)]
struct Last {
    by_text: HashMap<Arc<str>, Compiled>,
    order: VecDeque<Arc<str>>,
}

static LAST: LazyLock<Mutex<Last>> = LazyLock::new(Mutex::default);

/// Whether the answer `text` is JSON that fits; `None` where the schema is none, points outside of itself, or could take
/// long.
pub(super) fn fits(schema: &Value, text: &str) -> Option<bool> {
    let Ok(value) = plain_json::parse(text) else { return Some(false) };
    let schema = compiled(schema)?;
    (schema.size.saturating_mul(text.len() as u64) <= WORK).then(|| schema.validator.is_valid(&value))
}

fn compiled(schema: &Value) -> Compiled {
    let text = schema.to_string();
    if text.len() > BYTES {
        return compile(schema);
    }
    // Each change is complete in itself, so what a panicking thread left is sound.
    let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = last().by_text.get(text.as_str()) {
        return known.clone();
    }
    let compiled = compile(schema);
    last().keep(text.into(), &compiled);
    compiled
}

fn compile(schema: &Value) -> Compiled {
    let size = size::of(schema)?;
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES * 8);
    let validator = jsonschema::options().with_pattern_options(patterns).build(schema).ok()?;
    Some(Arc::new(Schema { validator, size }))
}

impl Last {
    fn keep(&mut self, text: Arc<str>, compiled: &Compiled) {
        if self.by_text.insert(Arc::clone(&text), compiled.clone()).is_some() {
            return;
        }
        self.order.push_back(text);
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_text.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_could_take_long_is_not_checked() {
        // Each definition asks the next one twice: 2^40 ways.
        let doubles = |count: usize| {
            let twice = |next: usize| json!({"anyOf": [{"$ref": format!("#/$defs/{next}")}, {"$ref": format!("#/$defs/{next}")}]});
            let mut definitions: serde_json::Map<String, Value> =
                (0..count).map(|at| (at.to_string(), twice(at + 1))).collect();
            definitions.insert(count.to_string(), json!({"type": "integer"}));
            json!({"$defs": definitions, "$ref": "#/$defs/0"})
        };
        assert_eq!(fits(&doubles(4), "{}"), Some(false));
        assert_eq!(fits(&doubles(40), "{}"), None);
        let properties: Value = (0..1000).map(|at| (at.to_string(), json!({"type": "string"}))).collect();
        let large = json!({"properties": properties});
        assert_eq!(fits(&large, "{\"7\": 7}"), Some(false));
        assert_eq!(fits(&large, &format!("{{\"7\": \"{}\"}}", "x".repeat(1 << 16))), None);
        let pattern = |pattern: &str, text: &str| fits(&json!({"pattern": pattern}), &json!(text).to_string());
        assert_eq!(pattern("^(a+)+$", &format!("{}!", "a".repeat(200))), Some(false));
        assert_eq!(pattern("^(?=a)a$", "a"), None, "matching it may have to go back");
        assert_eq!(pattern("((a{100}){100}){100}", "a"), None);
    }

    #[test]
    fn the_same_schema_is_compiled_once_and_old_ones_go() {
        let (one, other) =
            (json!({"type": "object", "title": "kept once"}), json!({"type": "array", "title": "kept once"}));
        let first = compiled(&one).unwrap();
        assert!(Arc::ptr_eq(&first, &compiled(&one.clone()).unwrap()));
        assert!(!Arc::ptr_eq(&first, &compiled(&other).unwrap()));
        assert!(first.validator.is_valid(&json!({})) && !first.validator.is_valid(&json!([])));
        assert!(compiled(&json!({"type": 7})).is_none() && compiled(&json!({"type": 7})).is_none());
        let mut last = Last::default();
        for number in 0..=KEPT {
            last.keep(number.to_string().into(), &None);
        }
        assert_eq!((last.by_text.len(), last.order.len()), (KEPT, KEPT));
        assert!(!last.by_text.contains_key("0"));
    }
}
