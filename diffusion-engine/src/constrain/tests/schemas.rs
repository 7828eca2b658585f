//! Schemas as callers' libraries write them: what readers see nothing in is no reason to refuse, and nothing gets wider.

use serde_json::{Value, json};
use weir_protocol::{ChatRequest, ResponseFormat};

use super::{Bench, accepts};

#[track_caller]
pub(super) fn check(schema: Value, fits: &[&str], fails: &[&str]) {
    let bench = Bench::new();
    let request = ChatRequest { response_format: ResponseFormat::JsonSchema(schema), ..Default::default() };
    for text in fits {
        assert!(accepts(&bench, &request, text), "{text} is refused");
    }
    for text in fails {
        assert!(!accepts(&bench, &request, text), "{text} is let through");
    }
}

/// pydantic's `PositiveFloat`, zod's `positive()`, a probability.
#[test]
fn whole_numbers_are_bounds_like_any_other() {
    let above = json!({"type": "number", "exclusiveMinimum": 0});
    check(above, &["0.001", "7", "7.25"], &["0", "0.0", "-1", "-0.5"]);
    check(json!({"type": "number", "exclusiveMaximum": 0}), &["-0.5", "-7"], &["0", "1"]);
    let between = json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1});
    check(between, &["0.5", "0.9", "0.99", "0.001"], &["0", "1", "1.0"]);
}

#[test]
fn what_no_reader_checks_is_no_reason_to_refuse() {
    for format in ["password", "binary", "cuid2", "float"] {
        check(json!({"type": "string", "format": format, "maxLength": 2}), &["\"ab\""], &["\"abc\""]);
    }
    let list = json!({"type": "array", "items": {"type": "integer"}, "uniqueItems": false});
    check(list, &["[1, 1]"], &["[true]"]);
    let range = json!({"type": "number", "minimum": f64::MIN, "maximum": f64::MAX});
    check(range, &["-5", "1e20"], &["true"]);
    check(json!({"type": "integer", "minimum": 3, "maximum": f64::MAX}), &["3"], &["2"]);
    // What JSON Schema names is checked by some readers, what stands in data is data, a property may have any name.
    let bench = Bench::new();
    for schema in [
        json!({"type": "string", "format": "idn-email"}),
        json!({"type": "array", "uniqueItems": true}),
        json!({"type": "string", "not": {"enum": ["a"]}}),
    ] {
        let refusal = bench.compiles(ResponseFormat::JsonSchema(schema)).expect_err("refused");
        assert!(refusal.contains("json_schema"), "{refusal}");
    }
    let data = json!({"const": {"format": "x", "uniqueItems": false}});
    check(data, &["{\"format\": \"x\", \"uniqueItems\": false}"], &["{}"]);
    let named = json!({"type": "object", "properties": {"format": {"const": 1}, "not": {}}, "required": ["format"]});
    check(named, &["{\"format\": 1}", "{\"format\": 1, \"not\": 2}"], &["{\"format\": 2}"]);
}

/// zod's `record`, pydantic's `dict` of literals or constrained texts.
#[test]
fn a_map_may_say_what_its_keys_are() {
    let map =
        |keys: Value| json!({"type": "object", "propertyNames": keys, "additionalProperties": {"type": "integer"}});
    for keys in [json!(true), json!({}), json!({"type": "string"})] {
        check(map(keys), &["{}", "{\"a b\": 1}"], &["{\"a\": \"x\"}"]);
    }
    let named = map(json!({"type": "string", "enum": ["a", "b"]}));
    check(named, &["{}", "{\"b\": 2}", "{\"a\": 1, \"b\": 2}"], &["{\"c\": 1}", "{\"a\": true}"]);
    let mut all = map(json!({"enum": ["a", "b"]}));
    all["required"] = json!(["a", "b"]);
    check(all, &["{\"a\": 1, \"b\": 2}"], &["{\"a\": 1}"]);
    let fitting = map(json!({"pattern": "^[a-z]+$"}));
    check(fitting, &["{}", "{\"ab\": 1}"], &["{\"A\": 1}", "{\"a\": true}"]);
    let bench = Bench::new();
    let mut others = map(json!({"pattern": "^[a-z]+$"}));
    others["properties"] = json!({"A": {"type": "integer"}});
    for schema in
        [others, map(json!({"maxLength": 3})), map(json!({"pattern": "a", "minLength": 2})), map(json!(false))]
    {
        bench.compiles(ResponseFormat::JsonSchema(schema.clone())).expect_err(&schema.to_string());
    }
}

/// pydantic leaves a tag with a default out of `required`.
#[test]
fn a_tagged_union_demands_its_tags() {
    let one = |tag: &str, field: &str| {
        json!({"type": "object", "properties": {"kind": {"type": "string", "const": tag, "default": tag},
            field: {"type": "integer"}}, "required": [field]})
    };
    let union = json!({"$defs": {"A": one("a", "v"), "B": one("b", "w")},
        "discriminator": {"mapping": {"a": "#/$defs/A", "b": "#/$defs/B"}, "propertyName": "kind"},
        "oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]});
    let fits = ["{\"kind\": \"a\", \"v\": 1}", "{\"kind\": \"b\", \"w\": 1}"];
    check(union, &fits, &["{\"v\": 1}", "{\"kind\": \"a\", \"w\": 1}"]);
}

/// zod's `never()`.
#[test]
fn what_must_not_be_there_is_not() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"not": {}}}, "required": ["a"],
        "additionalProperties": false});
    check(schema, &["{\"a\": 1}"], &["{\"a\": 1, \"b\": 2}"]);
}
