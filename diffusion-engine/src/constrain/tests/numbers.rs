//! Bounds of numbers, held against arithmetic: what the form lets through fits, and a number in its shortest writing that
//! fits is let through.

use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};
use weir_protocol::{ChatRequest, ResponseFormat};

use super::schemas::check;
use super::{Bench, accepts, grammar};

const BOUNDS: [f64; 9] = [-12.25, -0.5, -0.05, 0.0, 0.9, 0.95, 1.0, 1.25, 10.0];

/// The bounds, numbers beside them, and what their digits begin with.
fn numbers() -> Vec<f64> {
    let near =
        |bound: &f64| [-1.0, -0.01, -0.001, 0.0, 0.001, 0.01, 1.0].map(|by: f64| ((bound + by) * 1e3).round() / 1e3);
    let cut = |bound: &f64| [1.0, 10.0].map(|by| (bound * by).trunc() / by);
    let mut numbers: Vec<f64> =
        BOUNDS.iter().flat_map(|bound| near(bound).into_iter().chain(cut(bound))).map(|number| number + 0.0).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    numbers
}

/// A bound's name and value, `None` for none.
type Side = Option<(&'static str, f64)>;

/// What a bound may be.
fn sides(inclusive: &'static str, exclusive: &'static str) -> Vec<Side> {
    let of = |bound: &f64| [Some((inclusive, *bound)), Some((exclusive, *bound))];
    std::iter::once(None).chain(BOUNDS.iter().flat_map(of)).collect()
}

#[test]
fn bounds_let_through_what_fits_and_nothing_else() {
    let bench = Bench::new();
    let numbers = numbers();
    for (lower, upper) in sides("minimum", "exclusiveMinimum")
        .into_iter()
        .flat_map(|lower| sides("maximum", "exclusiveMaximum").into_iter().map(move |upper| (lower, upper)))
    {
        let mut schema = Map::from_iter([("type".to_owned(), json!("number"))]);
        schema.extend([lower, upper].into_iter().flatten().map(|(name, bound)| (name.to_owned(), json!(bound))));
        let fits = |number: f64| {
            lower.is_none_or(|(name, bound)| number > bound || number == bound && name == "minimum")
                && upper.is_none_or(|(name, bound)| number < bound || number == bound && name == "maximum")
        };
        let schema = Value::Object(schema);
        let request = ChatRequest { response_format: ResponseFormat::JsonSchema(schema.clone()), ..Default::default() };
        if grammar::form(&request, &bench.vocabulary).is_err() {
            assert!(!numbers.iter().any(|number| fits(*number)), "{schema} is refused");
            continue;
        }
        for number in &numbers {
            let shortest = number.to_string();
            assert_eq!(accepts(&bench, &request, &shortest), fits(*number), "{shortest} for {schema}");
            for text in [format!("{number:.1}"), format!("{number:.4}")] {
                let read: f64 = text.parse().expect("a number");
                assert!(fits(read) || !accepts(&bench, &request, &text), "{text} for {schema}");
            }
        }
    }
}

#[test]
fn bounds_hold_wherever_they_stand() {
    let number = json!({"type": "number", "minimum": 0.25, "maximum": 0.95});
    let (fits, fails): (&[&str], &[&str]) = (&["0.9", "0.3", "0.25", "0.95"], &["0.2", "0.96", "1"]);
    check(json!({"allOf": [{"type": "number", "maximum": 0.95}, {"minimum": 0.25}]}), fits, fails);
    check(json!({"$defs": {"n": number}, "$ref": "#/$defs/n"}), fits, fails);
    check(json!({"oneOf": [{"type": "string"}, number]}), fits, fails);
    check(json!({"anyOf": [{"type": "null"}, number]}), fits, fails);
    check(json!({"type": ["number", "null"], "minimum": 0.25, "maximum": 0.95}), fits, fails);
    check(json!({"type": ["number", "null"], "minimum": 0.25, "exclusiveMaximum": 0.95}), &["0.9", "null"], &["0.95"]);
    check(
        json!({"title": "N", "description": "a share", "type": "number", "maximum": 0.95, "minimum": 0.25}),
        fits,
        fails,
    );
    check(
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {"n": number}, "type": "number", "maximum": 0.95, "minimum": 0.25}),
        fits,
        fails,
    );
    let list = json!({"type": "array", "items": number});
    check(list, &["[0.9, 0.3]"], &["[0.9, 1]"]);
    check(json!({"type": "integer", "maximum": 0.95, "minimum": -1.5}), &["0", "-1"], &["1", "-2", "0.9"]);
    check(json!({"type": "number", "multipleOf": 0.25, "maximum": 0.95}), &["0.75"], &["1", "0.8"]);
}

#[test]
fn a_whole_number_that_would_be_rounded_is_refused() {
    let bench = Bench::new();
    for schema in [
        json!({"enum": [1, 1_234_567_890_123_456_789u64]}),
        json!({"properties": {"id": {"const": -9_007_199_254_740_993i64}}}),
    ] {
        let refused = bench.compiles(ResponseFormat::JsonSchema(schema)).expect_err("refused");
        assert!(refused.contains("beyond 2^53"), "{refused}");
    }
    let theirs = TopLevelGrammar::from_json_schema(json!({"const": 1_234_567_890_123_456_789u64}));
    let mut matcher = bench.vocabulary.form(theirs, &"".into()).expect("compiles").matcher;
    let tokens = bench.vocabulary.tokens(b"1234567890123456789");
    assert!(matcher.try_consume_tokens(&tokens).expect("no error") < tokens.len(), "the library rounds no more");
    check(json!({"enum": [9_007_199_254_740_992u64]}), &["9007199254740992"], &["9007199254740991"]);
    check(json!({"type": "integer"}), &["1234567890123456789"], &[]);
}
