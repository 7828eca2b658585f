//! Answers held to a form by a model that knows nothing: valid with every decoder, alone and in company, streamed
//! without a break of the form, and complete without a forward where the form leaves no choice.

use serde_json::{Value, json};
use weir_diffusion_engine::{DecoderKind, EngineOptions};
use weir_protocol::{ChatRequest, FinishReason, ResponseFormat, Tool, ToolChoice};

use crate::answers::{ask, engine, lively, request, same_in_company};
use crate::sampled::{controlled, spelt};

fn schema() -> Value {
    json!({"type": "object", "required": ["name", "tags"], "additionalProperties": false, "properties": {
        "name": {"type": "string", "maxLength": 20}, "größe": {"type": "integer", "minimum": -5, "maximum": 900},
        "tags": {"type": "array", "items": {"enum": ["rot", "日本", "a \"b\""]}, "minItems": 1, "maxItems": 4},
        "more": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}})
}

fn demanding(schema: &Value, text: &str) -> ChatRequest {
    ChatRequest { response_format: ResponseFormat::JsonSchema(schema.clone()), ..request(text, 200) }
}

#[track_caller]
fn fits(schema: &Value, text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| unreachable!("{error}: {text}"));
    assert!(jsonschema::is_valid(schema, &value), "{text}");
}

#[test]
fn every_decoder_keeps_the_form() {
    for (name, decoder) in DecoderKind::ALL {
        let engine = controlled("llada2_moe", lively(decoder));
        for number in 0..6 {
            let mut demanding = demanding(&schema(), &"word ".repeat(number));
            if number % 2 == 1 {
                (demanding.sampling.temperature, demanding.sampling.seed) = (Some(1.0), Some(number as u64));
            }
            demanding.sampling.logprobs = (number % 3 == 0).then_some(1);
            let answer = ask(&engine, &demanding);
            assert!(number % 3 > 0 || spelt(&answer) == answer.text, "{name}: {} {}", spelt(&answer), answer.text);
            fits(&schema(), &answer.text);
            assert!(answer.usage.diffusion.is_some_and(|stats| stats.forced_tokens > 0), "{name}");
        }
    }
    let ar = engine("bailing_moe_v2", EngineOptions::default());
    fits(&schema(), &ask(&ar, &demanding(&schema(), "hello")).text);
}

#[test]
fn company_changes_nothing() {
    let engine = engine("llada2_moe", lively(DecoderKind::Joint));
    let requests: Vec<ChatRequest> = (0..5).map(|i| demanding(&schema(), &"hello ".repeat(i * 7))).collect();
    same_in_company(&engine, &requests, "joint");
}

#[test]
fn a_call_is_forced_and_fits_its_tool() {
    let parameters = json!({"type": "object", "required": ["on"], "additionalProperties": false,
        "properties": {"room": {"enum": ["kitchen", "hall"]}, "on": {"type": "boolean"}}});
    let tool =
        |name: &str| Tool { name: name.into(), description: None, parameters: parameters.clone(), ..Tool::default() };
    for kind in ["llada2_moe", "bailing_moe_v2"] {
        let engine = engine(kind, lively(DecoderKind::Joint));
        for choice in [ToolChoice::Required, ToolChoice::Function("set_light".into())] {
            let asked = ChatRequest {
                tools: vec![tool("play_music"), tool("set_light")],
                tool_choice: choice.clone(),
                ..request("hello", 120)
            };
            let answer = ask(&engine, &asked);
            let (text, reason) = (answer.text, answer.reason);
            let mut calls: Vec<&str> = text.split("</tool_call>").filter(|call| !call.trim().is_empty()).collect();
            if reason == FinishReason::Length && !text.ends_with("</tool_call>") {
                calls.pop();
            }
            assert!(!calls.is_empty() && (choice == ToolChoice::Required || calls.len() == 1), "{text}");
            for call in calls {
                let json = call.trim().strip_prefix("<tool_call>").expect(&text);
                let call: Value = serde_json::from_str(json).expect(&text);
                assert!(choice == ToolChoice::Required || call["name"] == "set_light", "{text}");
                fits(&parameters, &call["arguments"].to_string());
            }
        }
    }
}

#[test]
fn a_regex_and_a_grammar_are_forms_too() {
    for kind in ["llada2_moe", "bailing_moe_v2"] {
        let engine = engine(kind, lively(DecoderKind::Threshold));
        let form = |form| ChatRequest { response_format: form, ..request("when?", 60) };
        let date = ask(&engine, &form(ResponseFormat::Regex("20[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9]".into()))).text;
        assert!(date.len() == 10 && date.starts_with("20") && date.as_bytes()[4] == b'-', "{date}");
        let sum = form(ResponseFormat::Grammar("start: NUMBER (\"+\" NUMBER)~2\nNUMBER: /[1-9]{1,3}/\n".into()));
        let sum = ask(&engine, &sum).text;
        assert!(sum.split('+').count() == 3 && sum.split('+').all(|part| part.parse::<u32>().is_ok()), "{sum}");
    }
}

#[test]
fn what_has_no_choice_asks_no_model() {
    let constant = json!({"const": {"answer": [true, null, "hello hello hello hello hello hello hello"]}});
    let expected = r#"{"answer": [true, null, "hello hello hello hello hello hello hello"]}"#;
    for kind in ["llada2_moe", "bailing_moe_v2"] {
        let answer = ask(&engine(kind, EngineOptions::default()), &demanding(&constant, "x"));
        assert_eq!(answer.text, expected);
        if let Some(stats) = answer.usage.diffusion {
            assert_eq!((stats.steps, u64::from(stats.forced_tokens)), (0, answer.usage.completion_tokens));
        }
        let mut stopped = demanding(&constant, "x");
        stopped.sampling.stop = vec!["true".into()];
        let answer = ask(&engine(kind, EngineOptions::default()), &stopped);
        if let Some(stats) = answer.usage.diffusion {
            assert_eq!(u64::from(stats.forced_tokens), answer.usage.completion_tokens, "none behind the stop text");
        }
    }
}

/// More than an autoregressive answer takes at once, and more than a block.
#[test]
fn a_choice_may_come_after_a_long_text_without_one() {
    let long = "hello ".repeat(40);
    let schema = json!({"type": "object", "required": ["a", "b"], "additionalProperties": false,
        "properties": {"a": {"const": long}, "b": {"enum": [1, 25, 37]}}});
    for kind in ["llada2_moe", "bailing_moe_v2"] {
        let engine = engine(kind, lively(DecoderKind::Joint));
        let answer = ask(&engine, &ChatRequest { max_tokens: Some(400), ..demanding(&schema, "x") });
        fits(&schema, &answer.text);
        let mut told = ChatRequest { max_tokens: Some(400), ..demanding(&schema, "x") };
        told.sampling.logprobs = Some(0);
        assert_eq!(spelt(&ask(&engine, &told)), answer.text, "{kind}");
    }
}

#[test]
fn what_cannot_be_closed_in_time_is_cut_and_says_so() {
    let long = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "minLength": 500}}});
    for kind in ["llada2_moe", "bailing_moe_v2"] {
        let answer = ask(
            &engine(kind, EngineOptions::default()),
            &ChatRequest { max_tokens: Some(40), ..demanding(&long, "x") },
        );
        assert_eq!((answer.reason, answer.usage.completion_tokens), (FinishReason::Length, 40));
        assert!(answer.text.starts_with(r#"{"a": ""#), "{}", answer.text);
    }
}
