//! How deep the grammar library may have to go down to compile a form. It does so by calls, and a stack that does not
//! suffice ends the process: forms come from callers. Must never let one through that could need more than [`STACK`].

use serde_json::Value;

/// Bytes of the stack on which forms are compiled.
pub(super) const STACK: usize = 64 << 20;

/// Most levels: one takes 3 to 6 KB.
const DEEPEST: usize = 8192;

/// Whether a schema is shallow enough. A definition is compiled once, at the first reference to it, so no way down is
/// longer than all objects together, nor than the deepest nesting once for each reference.
pub(super) fn of_schema(schema: &Value) -> Result<(), String> {
    let mut counts = Counts::default();
    counts.add(schema, 1);
    judge(counts.objects.min((counts.references + 1).saturating_mul(counts.nesting)))
}

/// Whether a grammar in Lark's notation is: a rule begins a line, and what stands in brackets is a level in it.
pub(super) fn of_lark(lark: &str) -> Result<(), String> {
    judge(lark.bytes().filter(|byte| matches!(byte, b'\n' | b'\r' | b'(' | b'[' | b'{')).count())
}

fn judge(levels: usize) -> Result<(), String> {
    match levels <= DEEPEST {
        true => Ok(()),
        false => Err(format!("it may be {levels} levels deep with its references followed, the limit is {DEEPEST}")),
    }
}

#[derive(Default)]
struct Counts {
    objects: usize,
    nesting: usize,
    references: usize,
}

impl Counts {
    /// JSON that was parsed is nested 128 levels at most.
    fn add(&mut self, value: &Value, level: usize) {
        match value {
            Value::Object(fields) => {
                self.references += usize::from(fields.contains_key("$ref") || fields.contains_key("$dynamicRef"));
                fields.values().for_each(|value| self.add(value, level + 1));
            }
            Value::Array(items) => items.iter().for_each(|item| self.add(item, level + 1)),
            _ => return,
        }
        self.objects += 1;
        self.nesting = self.nesting.max(level);
    }
}
