//! Bounds of numbers in the grammar library's words. It reads them as 64 bits hold them, refuses what their digits begin
//! with (`0.9` below 0.95) and forgets that some are exclusive. Must never let a number through that the schema forbids.

use serde_json::{Map, Value, json};

const LOWER: [&str; 2] = ["minimum", "exclusiveMinimum"];
const UPPER: [&str; 2] = ["maximum", "exclusiveMaximum"];

/// Nearest to an exclusive bound of 0 where nothing nearer can be said: the next number has three hundred zeros.
const NEAR_ZERO: f64 = 1e-15;

/// Changes the bounds of a schema of numbers.
pub(super) fn say(fields: &mut Map<String, Value>) {
    if !may_be_fraction(fields) {
        return;
    }
    if fields["type"] == "number" {
        exclude_what_rounds(fields);
    }
    allow_beginnings(fields);
}

/// Whether these bounds are for numbers with fractions, and all there is to say about them.
fn may_be_fraction(fields: &Map<String, Value>) -> bool {
    let is_number = match fields.get("type") {
        Some(Value::Array(types)) => types.iter().any(|one| one == "number"),
        one => one.is_some_and(|one| one == "number"),
    };
    is_number && !["enum", "const"].iter().any(|name| fields.contains_key(*name))
}

/// Readers hold JSON's numbers in 64 bits, where 99.24999999999999999 is 99.25. An exclusive bound becomes the nearest
/// such number inside it. Not a whole one: no draft comes to its digits (at 1 seventeen nines), unless the other bound is
/// less than one away, where the library forgets that it is exclusive.
fn exclude_what_rounds(fields: &mut Map<String, Value>) {
    let of = |fields: &Map<String, Value>, names: [&str; 2]| names.map(|name| fields.get(name).and_then(Value::as_f64));
    let (lower, upper) = (of(fields, LOWER), of(fields, UPPER));
    let beside = |bound: f64, others: [Option<f64>; 2]| {
        others.into_iter().flatten().any(|other| other != bound && (other - bound).abs() < 1.0)
    };
    let is_due = |bound: f64, others| bound.fract() != 0.0 || beside(bound, others);
    if let Some(bound) = upper[1].filter(|bound| is_due(*bound, lower)) {
        tighten(fields, UPPER, if bound == 0.0 { -NEAR_ZERO } else { bound.next_down() }, f64::min);
    }
    if let Some(bound) = lower[1].filter(|bound| is_due(*bound, upper)) {
        tighten(fields, LOWER, if bound == 0.0 { NEAR_ZERO } else { bound.next_up() }, f64::max);
    }
}

/// Puts the number just inside an exclusive bound into the inclusive one, unless that is tighter already.
fn tighten(
    fields: &mut Map<String, Value>,
    [inclusive, exclusive]: [&str; 2],
    bound: f64,
    tighter: fn(f64, f64) -> f64,
) {
    let bound = fields.get(inclusive).and_then(Value::as_f64).map_or(bound, |own| tighter(bound, own));
    fields.remove(exclusive);
    fields.insert(inclusive.to_owned(), json!(bound));
}

/// Adds the numbers that the digits of a bound begin with, as far as they are within: the library forgets them.
fn allow_beginnings(fields: &mut Map<String, Value>) {
    if ["anyOf", "multipleOf"].iter().any(|name| fields.contains_key(*name)) {
        return;
    }
    let bound = |name: &str| fields.get(name).and_then(Value::as_f64);
    let fits = |number: &f64| {
        bound(LOWER[0]).is_none_or(|bound| *number >= bound)
            && bound(LOWER[1]).is_none_or(|bound| *number > bound)
            && bound(UPPER[0]).is_none_or(|bound| *number <= bound)
            && bound(UPPER[1]).is_none_or(|bound| *number < bound)
    };
    let all = LOWER.into_iter().chain(UPPER).filter_map(bound);
    let beginnings: Vec<f64> = all.flat_map(beginnings).filter(fits).collect();
    if beginnings.is_empty() {
        return;
    }
    let names = ["type"].into_iter().chain(LOWER).chain(UPPER);
    let own: Map<String, Value> = names.filter_map(|name| fields.remove_entry(name)).collect();
    fields.insert("anyOf".to_owned(), json!([own, {"enum": beginnings}]));
}

/// What the writing of a number with a fraction begins with, from its first digit behind the point, itself included.
fn beginnings(bound: f64) -> Vec<f64> {
    let text = bound.to_string();
    let Some(point) = text.find('.') else { return Vec::new() };
    (point + 2..=text.len())
        .filter_map(|end| text.get(..end)?.parse().ok())
        .filter(|number: &f64| *number != 0.0)
        .collect()
}

/// A whole number that must be met to the digit, and which the library would round.
pub(super) fn rounded(schema: &Value) -> Option<String> {
    match schema {
        Value::Array(items) => items.iter().find_map(rounded),
        Value::Object(fields) => {
            let exact = ["const", "enum"].iter().filter_map(|name| fields.get(*name)).find_map(inexact);
            exact.or_else(|| fields.values().find_map(rounded))
        }
        _ => None,
    }
}

fn inexact(data: &Value) -> Option<String> {
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    match data {
        Value::Array(items) => items.iter().find_map(inexact),
        Value::Object(fields) => fields.values().find_map(inexact),
        Value::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            let reason = format!("{number} is a whole number beyond 2^53, which would be rounded; a text can say it");
            size.is_some_and(|size| size > EXACT).then_some(reason)
        }
        _ => None,
    }
}
