//! The frontier with scripted drafts: whatever a decoder writes and a model prefers, what is committed fits.

mod at_limit;
mod numbers;
mod schemas;

use std::sync::Arc;

use llguidance::toktrie::SimpleVob;
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_protocol::{ChatRequest, EngineError, ResponseFormat, Tool, ToolChoice};

use super::constraint::{Choose, Constraint};
use super::vocabulary::Vocabulary;
use super::{forcing, grammar};
use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::source::{Bytes, Named};
use crate::checkpoint::tokenizer::TextTokenizer;
use crate::decode::Canvas;
use crate::test_files::{self, FIRST_SPECIAL};

const MASK: u32 = FIRST_SPECIAL + 2;
const ROWS: usize = 320;

fn tokenizer() -> Arc<TextTokenizer> {
    let named = |value: Value| Named { name: "test".into(), bytes: Bytes::Owned(value.to_string().into_bytes()) };
    let config = ModelConfig::parse(&named(test_files::config_json("llada2_moe"))).expect("config");
    Arc::new(TextTokenizer::parse(&named(test_files::tokenizer_json()), &config).expect("tokenizer"))
}

pub(super) struct Bench {
    tokenizer: Arc<TextTokenizer>,
    pub(super) vocabulary: Arc<Vocabulary>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let tokenizer = tokenizer();
        let vocabulary = Arc::new(Vocabulary::new(tokenizer.clone(), ROWS).expect("byte-level"));
        Bench { tokenizer, vocabulary }
    }

    fn constraint(&self, request: &ChatRequest) -> Constraint {
        let form = grammar::form(request, &self.vocabulary).expect("a grammar").expect("a demand");
        Constraint::new(form, self.vocabulary.clone(), self.tokenizer.ends.clone())
    }

    /// Whether this form compiles, or why not.
    fn compiles(&self, response_format: ResponseFormat) -> Result<(), String> {
        let request = ChatRequest { response_format, ..Default::default() };
        grammar::form(&request, &self.vocabulary).map(|_| ()).map_err(|error| error.to_string())
    }

    fn schema(&self, schema: &Value) -> Constraint {
        self.constraint(&ChatRequest {
            response_format: ResponseFormat::JsonSchema(schema.clone()),
            ..Default::default()
        })
    }
}

/// A model that prefers tokens by a hash of its seed, position and token, and is as sure as the hash says; whether it
/// says so before it is told what is allowed.
struct Whims(u64, bool);

impl Whims {
    fn number(&self, at: usize, token: usize) -> u64 {
        let mut z = self.0 ^ (at as u64) << 32 ^ token as u64;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Choose for Whims {
    fn choose(&mut self, at: usize, allowed: &SimpleVob) -> Result<(u32, f32), EngineError> {
        let tokens = (0..ROWS).filter(|token| allowed.is_allowed(*token as u32));
        let token = tokens.max_by_key(|token| self.number(at, *token)).expect("something is allowed");
        Ok((token as u32, (self.number(at, ROWS) % 100) as f32 / 100.0))
    }

    fn likeliest(&mut self, at: usize) -> Option<(u32, f32)> {
        let token = (0..ROWS).max_by_key(|token| self.number(at, *token)).filter(|_| self.1)?;
        Some((token as u32, (self.number(at, ROWS) % 100) as f32 / 100.0))
    }
}

/// Writes blocks of 16 with a decoder that drafts and edits at random; gives the answer's tokens and whether it ended.
fn write(constraint: &mut Constraint, (seed, says): (u64, bool), limit: usize) -> (Vec<u32>, bool) {
    let (mut answer, mut whims) = (Vec::new(), Whims(seed, says));
    while answer.len() < limit {
        let mut canvas = Canvas { tokens: vec![MASK; 16], fixed: 0, mask: MASK };
        let room = limit - answer.len();
        constraint.open(&mut canvas, room).expect("follows");
        let mut steps = 0;
        while !constraint.is_decided() {
            steps += 1;
            assert!(steps <= 64, "a block must end");
            let before = canvas.clone();
            whims.0 = whims.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            for at in 0..16 {
                // One position in four is written anew, drafts and validated tokens alike.
                if whims.number(at, 1) % 4 == 0 {
                    canvas.tokens[at] = (whims.number(at, 2) % 256) as u32;
                }
            }
            constraint.settle(&before, &mut canvas, room, 0.5, &mut whims).expect("follows");
        }
        for token in canvas.tokens.into_iter().take(room) {
            answer.push(token);
            if constraint.has_ended() && (FIRST_SPECIAL..FIRST_SPECIAL + 6).contains(&token) {
                return (answer, true);
            }
        }
    }
    (answer, false)
}

fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 6}, "n": {"type": "integer"}},
            "required": ["name", "n"], "additionalProperties": false}),
        json!({"enum": ["hello", "héllo", "a \"b\""]}),
        json!({"type": "array", "items": {"type": "number", "minimum": 1, "maximum": 9.5}, "minItems": 2, "maxItems": 5}),
        json!({"$defs": {"n": {"anyOf": [{"type": "null"}, {"type": "object", "required": ["x"],
            "properties": {"x": {"$ref": "#/$defs/n"}}, "additionalProperties": false}]}}, "$ref": "#/$defs/n"}),
        json!({"type": "string", "pattern": "^[a-c]{2,5}-[0-9]+$"}),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_committed_fits_whatever_is_drafted(seed: u64, which in 0usize..5, limit in 40usize..120) {
        fits_whatever_is_drafted(seed, which, limit)?;
    }
}

/// Judged by a validator that knows nothing of grammars.
fn fits_whatever_is_drafted(seed: u64, which: usize, limit: usize) -> Result<(), TestCaseError> {
    let (bench, schema) = (Bench::new(), schemas().swap_remove(which));
    let (answer, ended) = write(&mut bench.schema(&schema), (seed, false), limit);
    let (again, _) = write(&mut bench.schema(&schema), (seed, false), limit);
    prop_assert_eq!(&answer, &again, "an answer in a form does not change the next one");
    let short = write(&mut bench.schema(&schema), (seed, true), limit);
    prop_assert_eq!(&(answer.clone(), ended), &short, "a choice that is allowed needs no mask");
    let text = bench.tokenizer.decode(&answer);
    prop_assert!(ended, "the form can be closed in {limit} tokens: {text}");
    let value: Value = serde_json::from_str(&text).map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
    prop_assert!(jsonschema::is_valid(&schema, &value), "{text}");
    Ok(())
}

#[test]
fn what_one_answer_learnt_of_a_form_changes_no_other() {
    // Edits near the limit were once judged by the ends that earlier answers had seen.
    fits_whatever_is_drafted(6_073_836_534_724_933_593, 2, 50).expect("the same");
}

#[test]
fn a_form_that_leaves_no_choice_needs_no_model() {
    let bench = Bench::new();
    let mut constraint = bench.schema(&json!({"const": {"a": [1, true], "b": "hello"}}));
    let mut canvas = Canvas { tokens: vec![MASK; 64], fixed: 0, mask: MASK };
    assert!(constraint.open(&mut canvas, 100).expect("follows"), "complete without a forward");
    assert_eq!(bench.tokenizer.decode(&canvas.tokens), r#"{"a": [1, true], "b": "hello"}"#);
    // Behind the end stands what models have learnt to see there: decoders that edit look at it.
    let [end, filling] = bench.tokenizer.ends[..] else { panic!("two ends") };
    let at = canvas.tokens.iter().position(|token| *token == end).expect("an end");
    assert!(canvas.tokens[at + 1..].iter().all(|token| *token == filling) && at < 63);
    let (answer, ended) = write(&mut bench.schema(&json!({"const": "hello"})), (1, false), 60);
    assert!(ended && bench.tokenizer.decode(&answer) == "\"hello\"");
}

#[test]
fn a_limit_too_small_for_any_end_cuts() {
    let bench = Bench::new();
    let (answer, ended) = write(&mut bench.schema(&json!({"const": "a text of more than ten tokens"})), (1, false), 10);
    assert!(!ended && answer.len() == 10);
    assert_eq!(bench.tokenizer.decode(&answer), "\"a text of");
}

#[test]
fn token_by_token_the_same_holds() {
    let bench = Bench::new();
    for (seed, schema) in (0..40u64).flat_map(|seed| schemas().into_iter().map(move |schema| (seed, schema))) {
        let (mut constraint, mut answer, mut whims) = (bench.schema(&schema), Vec::new(), Whims(seed, false));
        answer.extend(constraint.extend(60, None).expect("follows"));
        while !constraint.has_ended() && answer.len() < 60 {
            whims.0 += 1000;
            let more = constraint.extend(60 - answer.len(), Some(&mut whims)).expect("follows");
            assert!(!more.is_empty());
            answer.extend(more);
        }
        let text = bench.tokenizer.decode(&answer);
        let value: Value = serde_json::from_str(&text).expect(&text);
        assert!(constraint.has_ended() && jsonschema::is_valid(&schema, &value), "{text} for {schema}");
    }
}

/// Offers `set(on: boolean)` and `say(text: string)`.
fn with_tools(choice: ToolChoice) -> ChatRequest {
    let tool = |name: &str, field: &str, kind: &str| Tool {
        name: name.into(),
        description: None,
        parameters: json!({"type": "object", "properties": {field: {"type": kind, "maxLength": 9}}, "required": [field],
            "additionalProperties": false}),
        ..Tool::default()
    };
    ChatRequest {
        tools: vec![tool("set", "on", "boolean"), tool("say", "text", "string")],
        tool_choice: choice,
        ..ChatRequest::default()
    }
}

#[test]
fn exclusive_bounds_hold_for_who_reads_64_bits() {
    let bench = Bench::new();
    let schema = json!({"type": "number", "minimum": 0.5, "exclusiveMaximum": 99.25});
    let request = ChatRequest { response_format: ResponseFormat::JsonSchema(schema.clone()), ..Default::default() };
    for text in ["99.1", "0.5", "99.24999999999998"] {
        assert!(accepts(&bench, &request, text), "{text}");
    }
    for text in ["99.25", "99.249999999999999999999999", "0.4"] {
        assert!(!accepts(&bench, &request, text), "{text}");
    }
    let request = ChatRequest {
        response_format: ResponseFormat::JsonSchema(json!({"type": "object", "required": ["exclusiveMaximum"],
            "properties": {"exclusiveMaximum": {"type": "number", "exclusiveMinimum": -1.5}}})),
        ..Default::default()
    };
    assert!(accepts(&bench, &request, "{\"exclusiveMaximum\": -1.3}"), "a property may have that name");
    assert!(!accepts(&bench, &request, "{\"exclusiveMaximum\": -1.5}"));
}

#[test]
fn what_would_take_all_memory_to_begin_is_refused() {
    let bench = Bench::new();
    let ask = |response_format| bench.compiles(response_format);
    // Some text fits each of them, which the library sees at once; what may not stand first takes it forever.
    let many = r#"start: A
        A: /y/ | (/x(a{997})*b/ & /x(a{1009})*b/ & /x(a{991})*b/ & /xa+b/)"#;
    let large = json!({"type": "integer", "multipleOf": 9_999_991});
    let nested = format!("start: a\na: %json {large}");
    for form in [
        ResponseFormat::Grammar(many.into()),
        ResponseFormat::Grammar(nested),
        ResponseFormat::JsonSchema(large),
        ResponseFormat::JsonSchema(json!({"allOf": [{"type": "integer", "multipleOf": 997}, {"multipleOf": 991}]})),
    ] {
        let refused = ask(form).expect_err("refused");
        assert!(refused.contains("too long"), "{refused}");
    }
    assert_eq!(ask(ResponseFormat::JsonSchema(json!({"type": "integer", "multipleOf": 9973}))), Ok(()));
}

#[test]
fn a_form_too_deep_for_the_stack_is_refused_and_one_at_the_limit_compiles() {
    let bench = Bench::new();
    let ask = |response_format| bench.compiles(response_format);
    let chain = |length: usize, link: fn(Value) -> Value| {
        let next = |at: usize| (at.to_string(), link(json!({"$ref": format!("#/$defs/{}", at + 1)})));
        let mut definitions: serde_json::Map<String, Value> = (0..length).map(next).collect();
        definitions.insert(length.to_string(), json!({"type": "integer"}));
        ResponseFormat::JsonSchema(json!({"$defs": definitions, "$ref": "#/$defs/0"}))
    };
    let links: [fn(Value) -> Value; 3] = [
        |next| next,
        |next| json!({"type": "object", "properties": {"a": next}, "required": ["a"]}),
        |next| json!({"anyOf": [next, {"type": "null"}], "not": {"type": "string"}}),
    ];
    let lark = |length: usize, line: fn(usize) -> String| {
        let lines: String = (0..length).map(line).collect();
        ResponseFormat::Grammar(format!("start: r0 R0\n{lines}r{length}: \"a\"\nR{length}: \"b\"\n"))
    };
    let lines: [fn(usize) -> String; 3] = [
        |at| format!("r{at}: r{}\n", at + 1),
        |at| format!("R{at}: R{}\n", at + 1),
        |at| format!("r{at}: {}r{}{}\n", "(".repeat(20), at + 1, ")".repeat(20)),
    ];
    for link in links {
        assert!(ask(chain(100_000, link)).expect_err("refused").contains("levels deep"));
    }
    for line in lines {
        assert!(ask(lark(100_000, line)).expect_err("refused").contains("levels deep"));
    }
    let long = format!("start: {}", "\"a\" ".repeat(200_000));
    let refused = ask(ResponseFormat::Grammar(long)).expect_err("refused");
    assert!(refused.ends_with("the grammar library gave up on it"), "{refused}");
    // Whatever the library says of these, the process is still there to say it.
    let _ = (links.map(|link| ask(chain(2000, link))), ask(lark(8000, lines[0])), ask(lark(8000, lines[1])));
    let _ = ask(lark(380, lines[2]));
    let tools = vec![Tool { name: "deep".into(), parameters: serde_json::json!({}), ..Tool::default() }];
    let mut request = ChatRequest { tools, ..Default::default() };
    if let ResponseFormat::JsonSchema(schema) = chain(100_000, |next| next) {
        request.tools[0].parameters = schema;
    }
    let refused = grammar::form(&request, &bench.vocabulary).map(|_| ()).expect_err("refused").to_string();
    assert!(refused.contains("tools[0].function.parameters"), "{refused}");
}

#[test]
fn a_refusal_has_a_length_that_can_be_read() {
    // The library makes an expression of thousands of parentheses of it.
    let schema = json!({"type": "number", "minimum": 1e-300, "maximum": 0.001});
    let refused = Bench::new().compiles(ResponseFormat::JsonSchema(schema)).expect_err("refused");
    assert!(refused.len() < 600 && refused.ends_with('…'), "{refused}");
}

#[test]
fn a_demand_that_nothing_fits_is_named() {
    let bench = Bench::new();
    let request = ChatRequest { response_format: ResponseFormat::Grammar("start: start".into()), ..Default::default() };
    let mut constraint = bench.constraint(&request);
    let error = constraint.extend(10, Some(&mut Whims(1, false))).expect_err("no text").to_string();
    assert!(error.contains("`grammar`") && error.ends_with("no text fits it"), "{error}");
}

#[test]
fn what_grew_large_is_not_kept() {
    let bench = Bench::new();
    let grown = json!({"type": "string", "pattern": "^((a{1000}){1000}){1000}$"});
    let mut constraint = bench.schema(&grown);
    assert!(constraint.extend(30, Some(&mut Whims(1, false))).is_err());
    assert_eq!(bench.vocabulary.kept(), 1);
    bench.schema(&json!({"const": 1}));
    assert_eq!(bench.vocabulary.kept(), 1, "the other one");
}

fn accepts(bench: &Bench, request: &ChatRequest, text: &str) -> bool {
    let mut matcher = grammar::form(request, &bench.vocabulary).expect("a grammar").expect("a demand").matcher;
    let tokens = bench.tokenizer.encode_answer(text);
    let taken = matcher.try_consume_tokens(&tokens).expect("no error");
    taken == tokens.len() && (matcher.is_stopped() || matcher.is_accepting().expect("no error"))
}

#[test]
fn calls_have_the_models_own_notation() {
    let bench = Bench::new();
    let set = "<tool_call>\n{\"name\": \"set\", \"arguments\": {\"on\": true}}\n</tool_call>";
    let say = "<tool_call>\n{\"name\": \"say\", \"arguments\": {\"text\": \"hi\"}}\n</tool_call>";
    let wrong = "<tool_call>\n{\"name\": \"set\", \"arguments\": {\"on\": 1}}\n</tool_call>";
    let auto = with_tools(ToolChoice::Auto);
    for text in [set, "Sure: a < b.", &format!("One moment.\n{set}"), &format!("{set}\n{say}"), &format!("{set} done")]
    {
        assert!(accepts(&bench, &auto, text), "{text}");
    }
    for text in [wrong, "<tool_call>", "so <tool_call>{}</tool_call>"] {
        assert!(!accepts(&bench, &auto, text), "{text}");
    }
    let required = with_tools(ToolChoice::Required);
    assert!(accepts(&bench, &required, set) && accepts(&bench, &required, &format!("{say}\n{set}")));
    assert!(!accepts(&bench, &required, "no call") && !accepts(&bench, &required, &format!("First: {set}")));
    let named = with_tools(ToolChoice::Function("say".into()));
    assert!(accepts(&bench, &named, say) && !accepts(&bench, &named, set));
    assert!(!accepts(&bench, &named, &format!("{say}\n{say}")), "one function was named, so one call");
    let one = |choice| ChatRequest { parallel_tool_calls: Some(false), ..with_tools(choice) };
    for text in [set, "Sure: a < b.", &format!("One moment.\n{set}"), &format!("{set} done")] {
        assert!(accepts(&bench, &one(ToolChoice::Auto), text), "{text}");
    }
    assert!(!accepts(&bench, &one(ToolChoice::Auto), &format!("{set}\n{say}")), "one at a time was asked for");
    assert!(accepts(&bench, &one(ToolChoice::Required), set));
    assert!(!accepts(&bench, &one(ToolChoice::Required), &format!("{say}\n{set}")));
    let none = grammar::form(&with_tools(ToolChoice::None), &bench.vocabulary).expect("fine");
    assert!(none.is_none(), "free text");
}

#[test]
fn forced_text_is_cut_as_the_tokenizer_cuts_it() {
    // `llo` is one token of the test vocabulary; `he` and `ll` are others.
    let bench = Bench::new();
    let request =
        ChatRequest { response_format: ResponseFormat::Regex("x hello( world)?!".into()), ..ChatRequest::default() };
    let mut matcher = grammar::form(&request, &bench.vocabulary).expect("a grammar").expect("a demand").matcher;
    let cuts = forcing::Cuts::default();
    for what in ["cut", "known"] {
        let forced = forcing::forced(&mut matcher, &bench.vocabulary, &cuts, None);
        assert_eq!(forced, bench.tokenizer.encode_answer("x hello"), "{what}");
    }
}

#[test]
fn a_longer_token_keeps_the_last_forced_ones_open() {
    // After `he` an `l` may follow: `ll` and `llo` reach beyond the forced text, so `l` alone is not written.
    let bench = Bench::new();
    let request = ChatRequest { response_format: ResponseFormat::Regex("xhel(lo|p)".into()), ..ChatRequest::default() };
    let mut matcher = grammar::form(&request, &bench.vocabulary).expect("a grammar").expect("a demand").matcher;
    let forced = forcing::forced(&mut matcher, &bench.vocabulary, &forcing::Cuts::default(), None);
    assert_eq!(forced, bench.tokenizer.encode_answer("xhe"));
}
