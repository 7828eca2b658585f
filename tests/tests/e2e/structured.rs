//! Forms demanded over HTTP: kept by the built-in engines with a model that knows nothing, told apart from what cannot be
//! kept, and left to an upstream that may know better.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::asking::{Reply, ask, question, with};
use weir_tests::binary::{Weir, repository};
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::{random_weights, schemas};

use crate::{backend, embedded};

/// A gateway whose engines hold random weights, and the folder that they lie in.
fn knowing_nothing() -> Result<(Weir, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let mut config = String::new();
    for name in ["diffusion", "ar"] {
        let folder = dir.path().join(name);
        fs::create_dir(&folder)?;
        random_weights::write(&repository().join("models/nano").join(name), &folder, 11)?;
        config.push_str(&format!("[engine.{name}]\nmodel = \"{}\"\n", folder.display()));
    }
    Ok((Weir::start(&config)?, dir))
}

fn schema_format(schema: &Value) -> Value {
    json!({"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": schema}}})
}

fn text(reply: &Reply) -> String {
    reply.json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_schema_is_kept_whatever_the_model_says() -> Result<()> {
    let (weir, _dir) = knowing_nothing()?;
    let ways = [
        ("diffusion", json!({"mode": "speed"})),
        ("diffusion", json!({"mode": "quality"})),
        ("diffusion", json!({"decoder": "threshold", "threshold": 0.9})),
        ("ar", json!({})),
    ];
    for number in 0..12 {
        let schema = schemas::schema(number);
        let (model, diffusion) = &ways[number as usize % ways.len()];
        let body = with(question(model, &schemas::prompt(number)), schema_format(&schema));
        let reply = ask(&weir, &with(body, json!({"max_tokens": 200, "diffusion": diffusion}))).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        // Closed by the limit it fits, too, and is told as cut.
        let reason = reply.json()["choices"][0]["finish_reason"].as_str().unwrap_or_default().to_owned();
        assert!(["stop", "length"].contains(&reason.as_str()), "pair {number}: {}", reply.text);
        let value: Value = serde_json::from_str(&text(&reply))?;
        assert!(jsonschema::validator_for(&schema)?.is_valid(&value), "pair {number}: {value}");
    }
    Ok(())
}

#[tokio::test]
async fn a_call_is_made_whatever_the_model_says() -> Result<()> {
    let (weir, _dir) = knowing_nothing()?;
    let parameters = json!({"type": "object", "required": ["minutes"], "additionalProperties": false,
        "properties": {"minutes": {"type": "integer", "minimum": 1, "maximum": 90}}});
    let tools = json!([{"type": "function", "function": {"name": "set_timer", "parameters": parameters}}]);
    for model in ["diffusion", "ar"] {
        for choice in [json!("required"), json!({"type": "function", "function": {"name": "set_timer"}})] {
            let fields = json!({"tools": tools, "tool_choice": choice, "stream": true, "max_tokens": 200});
            let reply = ask(&weir, &with(question(model, "wake me"), fields)).await?;
            let calls = reply.frames().calls();
            assert!(!calls.is_empty(), "{model}: {}", reply.text);
            for (_, name, arguments) in calls {
                let arguments: Value = serde_json::from_str(&arguments)?;
                assert!(name == "set_timer" && jsonschema::is_valid(&parameters, &arguments), "{arguments}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn regex_and_grammar_are_forms_too() -> Result<()> {
    let (weir, _dir) = knowing_nothing()?;
    for model in ["diffusion", "ar"] {
        let reply = ask(&weir, &with(question(model, "when?"), json!({"regex": "20[0-9]{2}-(0[1-9]|1[0-2])"}))).await?;
        let date = text(&reply);
        assert!(date.len() == 7 && date.starts_with("20"), "{}", reply.text);
        let grammar = json!({"grammar": "start: (\"yes\" | \"no\") \"!\"~3"});
        let reply = ask(&weir, &with(question(model, "well?"), grammar)).await?;
        assert!(["yes!!!", "no!!!"].contains(&text(&reply).as_str()), "{}", reply.text);
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_kept_is_said_or_left_to_another() -> Result<()> {
    let weir = embedded()?;
    let odd = json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}});
    for (param, fields) in [
        ("response_format.json_schema.schema", schema_format(&odd)),
        ("regex", json!({"regex": "("})),
        ("grammar", json!({"grammar": "start: nowhere"})),
        ("grammar", json!({"grammar": ""})),
        ("regex", json!({"regex": "a", "response_format": {"type": "json_object"}})),
        ("tool_choice", json!({"tool_choice": "required"})),
    ] {
        let reply = ask(&weir, &with(question("diffusion", "x"), fields.clone())).await?;
        assert_eq!(reply.status, 400, "{fields}: {}", reply.text);
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text);
    }
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&backend("gpu", &upstream.base_url("fine")))?;
    let reply = ask(&weir, &with(question("auto", "extract as JSON: x"), schema_format(&odd))).await?;
    assert_eq!((reply.status, reply.header("x-weir-backend")), (200, "gpu"), "{}", reply.text);
    Ok(())
}
