//! Compiled schemas of the forms that answers are checked by. Agents offer the same tools with every request, so the last
//! ones are kept, by their whole text. Must never fetch anything: a schema that points outside of itself is none.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::Value;

/// Schemas kept.
const KEPT: usize = 256;
/// Longest text of one that is kept: together they take some tens of MB at most.
const BYTES: usize = 16 * 1024;

/// `None`: it is no schema, and need not be tried again.
type Compiled = Option<Arc<Validator>>;

#[derive(Default)]
struct Last {
    by_text: HashMap<Arc<str>, Compiled>,
    order: VecDeque<Arc<str>>,
}

static LAST: LazyLock<Mutex<Last>> = LazyLock::new(Mutex::default);

/// The compiled schema; `None` where it is none.
pub(super) fn compiled(schema: &Value) -> Compiled {
    let text = schema.to_string();
    let compile = || jsonschema::validator_for(schema).ok().map(Arc::new);
    if text.len() > BYTES {
        return compile();
    }
    // Each change is complete in itself, so what a panicking thread left is sound.
    let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = last().by_text.get(text.as_str()) {
        return known.clone();
    }
    let compiled = compile();
    last().keep(text.into(), &compiled);
    compiled
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
    fn the_same_schema_is_compiled_once_and_old_ones_go() {
        let (one, other) =
            (json!({"type": "object", "title": "kept once"}), json!({"type": "array", "title": "kept once"}));
        let first = compiled(&one).unwrap();
        assert!(Arc::ptr_eq(&first, &compiled(&one.clone()).unwrap()));
        assert!(!Arc::ptr_eq(&first, &compiled(&other).unwrap()));
        assert!(first.is_valid(&json!({})) && !first.is_valid(&json!([])));
        assert!(compiled(&json!({"type": 7})).is_none() && compiled(&json!({"type": 7})).is_none());
        let mut last = Last::default();
        for number in 0..=KEPT {
            last.keep(number.to_string().into(), &None);
        }
        assert_eq!((last.by_text.len(), last.order.len()), (KEPT, KEPT));
        assert!(!last.by_text.contains_key("0"));
    }
}
