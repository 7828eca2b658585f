//! JSON schemas and prompts by number: nested objects, arrays, enumerations, bounded numbers and texts, alternatives,
//! non-ASCII names and values, recursion. The same number gives the same pair on every machine.

use serde_json::{Map, Value, json};

/// SplitMix64: small, seeded, good enough to vary test inputs.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

const NAMES: [&str; 14] = [
    "name",
    "age",
    "city",
    "größe",
    "価格",
    "items",
    "tags",
    "on",
    "room",
    "when",
    "Ümlaut key",
    "id",
    "парам",
    "emoji😀",
];
const WORDS: [&str; 10] =
    ["kitchen", "rot", "blau", "日本", "naïve", "a \"quoted\" word", "C:\\temp", "😀", "x", "two\nlines"];

/// The schema with this number.
pub fn schema(seed: u64) -> Value {
    let mut dice = Dice::new(seed ^ 0x5eed);
    match dice.below(12) {
        0 => recursive_list(&mut dice),
        1 => recursive_tree(),
        2 => json!({"type": "array", "items": value(&mut dice, 2), "minItems": 1, "maxItems": 4}),
        _ => object(&mut dice, 3),
    }
}

/// A prompt to go with it.
pub fn prompt(seed: u64) -> String {
    let mut dice = Dice::new(seed ^ 0x0bad);
    let words: Vec<&str> = (0..2 + dice.below(6)).map(|_| *dice.pick(&WORDS)).collect();
    format!("extract the fields as JSON: {}", words.join(", "))
}

fn object(dice: &mut Dice, depth: usize) -> Value {
    let mut properties = Map::new();
    for _ in 0..1 + dice.below(4) {
        properties.insert((*dice.pick(&NAMES)).to_owned(), value(dice, depth - 1));
    }
    let required: Vec<Value> = properties.keys().filter(|_| dice.below(4) > 0).map(|key| json!(key)).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn value(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 8 } else { 11 }) {
        0 => json!({"type": "string"}),
        1 => json!({"type": "string", "minLength": dice.below(4), "maxLength": 4 + dice.below(60)}),
        2 => json!({"enum": (0..1 + dice.below(4)).map(|_| json!(dice.pick(&WORDS))).collect::<Vec<Value>>()}),
        3 => json!({"type": "integer", "minimum": -(dice.below(50) as i64), "maximum": 10 + dice.below(5000) as i64}),
        4 => json!({"type": "number", "minimum": 0.5, "exclusiveMaximum": 99.25}),
        5 => json!({"type": ["boolean", "null"]}),
        6 => json!({"const": dice.pick(&WORDS)}),
        7 => json!({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,3}$"}),
        8 => object(dice, depth),
        9 => {
            json!({"type": "array", "items": value(dice, depth - 1), "minItems": dice.below(3), "maxItems": 3 + dice.below(3)})
        }
        _ => json!({"anyOf": [value(dice, depth - 1), object(dice, depth), {"type": "null"}]}),
    }
}

fn recursive_list(dice: &mut Dice) -> Value {
    json!({
        "$defs": {"node": {"type": "object", "required": ["value", "next"], "additionalProperties": false,
            "properties": {"value": value(dice, 0), "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}},
        "$ref": "#/$defs/node"
    })
}

fn recursive_tree() -> Value {
    json!({
        "$defs": {"tree": {"type": "object", "required": ["label"], "additionalProperties": false,
            "properties": {"label": {"type": "string", "maxLength": 12},
                "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 3}}}},
        "$ref": "#/$defs/tree"
    })
}
