//! `weir generate` as a person at a shell and a script meet it: no server, the embedded models, files of their own.

use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_tests::binary::{repository, run, run_fed};

const SORT: &str = "Sort these words: lemon, apple, mirror, chair, honey";
const SORTED: &str = "apple, chair, honey, lemon, mirror\n";

/// Exit code, standard output, standard error.
fn said(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn generate(folder: &Path, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    Ok(said(run(folder, &[&["generate"], arguments].concat())?))
}

fn written(folder: &Path, name: &str, content: &str) -> Result<String> {
    let file = folder.join(name);
    std::fs::write(&file, content)?;
    Ok(file.display().to_string())
}

fn person() -> Value {
    json!({"type": "object", "required": ["name", "tags"], "additionalProperties": false, "properties": {
        "name": {"type": "string", "maxLength": 12},
        "tags": {"type": "array", "items": {"enum": ["rot", "日本"]}, "minItems": 2, "maxItems": 3}}})
}

#[test]
fn a_prompt_is_answered_from_the_arguments_and_from_a_pipe() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (code, out, err) = generate(folder.path(), &[SORT])?;
    assert_eq!((code, out.as_str()), (Some(0), SORTED), "{err}");
    for word in [" tokens in ", " steps (", " TPF)", " edits", " forced", "tokens/s", "first text after", "stop"] {
        assert!(err.contains(word) && err.lines().count() == 1, "{word}: {err}");
    }
    for model in ["diffusion", "ar"] {
        let fed = run_fed(folder.path(), &["generate", "--model", model], format!("{SORT}\n").as_bytes())?;
        let (code, out, err) = said(fed);
        assert_eq!((code, out.as_str()), (Some(0), SORTED), "{model}: {err}");
    }
    // A checkpoint's folder is the same model, and a preset named is a preset used.
    let nano = repository().join("models/nano/diffusion").display().to_string();
    let (code, out, err) = generate(folder.path(), &["--model", &nano, "--mode", "speed", "--seed", "3", SORT])?;
    assert_eq!((code, out.as_str()), (Some(0), SORTED), "{err}");
    Ok(())
}

#[test]
fn a_schema_is_kept_and_the_result_is_for_programs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let schema = written(folder.path(), "person.json", &person().to_string())?;
    for (model, temperature) in [("diffusion", "0"), ("diffusion", "1.5"), ("ar", "1.5")] {
        let asked =
            ["--json", "--schema", &schema, "--model", model, "--temperature", temperature, "--seed", "7", "who?"];
        let (code, out, err) = generate(folder.path(), &asked)?;
        assert_eq!((code, err.as_str()), (Some(0), ""), "{model} {out}");
        let result: Value = serde_json::from_str(&out)?;
        assert_eq!(
            (&result["model"], &result["finish_reason"]),
            (&json!(format!("weir-nano-{model}")), &json!("stop"))
        );
        let text = result["text"].as_str().context("no text")?;
        assert!(jsonschema::is_valid(&person(), &serde_json::from_str(text)?), "{model} {temperature}: {text}");
        assert!(result["usage"]["completion_tokens"].as_u64() > Some(0) && result["timing"]["total_ms"].is_f64());
        let stats = &result["usage"]["diffusion"];
        assert!(stats.is_null() == (model == "ar") && (stats.is_null() || stats["forced_tokens"].as_u64() > Some(0)));
    }
    // What cannot be finished is no success: half an object is no object.
    let (code, out, err) = generate(folder.path(), &["--schema", &schema, "--max-tokens", "3", "who?"])?;
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("--max-tokens"), "{err}");
    Ok(())
}

/// The answer's text as a console that replays `events` would end with.
fn replayed(events: &[Value]) -> Result<String> {
    let mut cells: Vec<&Value> = Vec::new();
    for step in events.iter().filter(|event| event["type"] == "step") {
        cells.truncate(step["start"].as_u64().context("start")? as usize);
        cells.extend(step["cells"].as_array().context("cells")?);
    }
    Ok(cells.iter().filter(|cell| cell["state"] != "beyond").filter_map(|cell| cell["text"].as_str()).collect())
}

#[test]
fn a_trace_ends_with_the_answer() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // An answer in ASCII: a cell's text is that of one token, and a letter of several bytes may have several.
    let mut ascii = person();
    ascii["properties"]["tags"]["items"]["enum"] = json!(["rot", "neu"]);
    let schema = written(folder.path(), "person.json", &ascii.to_string())?;
    let file = folder.path().join("trace.json").display().to_string();
    let plain: &[&str] = &["--threshold", "0.4", SORT];
    let formed: &[&str] = &["--schema", &schema, "JSON with name and tags: Rosa, 39, rot, lives in Oslo"];
    let revisited: &[&str] = &["--decoder", "multi_block", SORT];
    for asked in [plain, formed, revisited] {
        let (code, out, err) = generate(folder.path(), &[&["--trace-file", &file], asked].concat())?;
        assert_eq!(code, Some(0), "{err}");
        let trace: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        assert_eq!((&trace["format"], &trace["version"]), (&json!("weir-trace"), &json!(1)));
        assert_eq!(trace["model"]["name"], "weir-nano-diffusion");
        assert_eq!(trace["settings"]["structured"], asked.contains(&"--schema"));
        if asked.contains(&"--threshold") {
            assert_eq!(trace["settings"]["threshold"], 0.4);
        }
        assert!(trace["prompt_tokens"].as_u64() > Some(10) && !trace.to_string().contains("Sort these"));
        let events = trace["events"].as_array().context("events")?;
        let answer = out.trim_end_matches('\n');
        let texts = events.iter().filter(|event| event["type"] == "text");
        let texts: String = texts.filter_map(|event| event["text"].as_str()).collect();
        let end = events.last().context("no event")?;
        assert_eq!((texts.as_str(), end["text"].as_str(), end["type"].as_str()), (answer, Some(answer), Some("end")));
        assert_eq!(replayed(events)?, answer);
        let times: Vec<f64> = events.iter().filter_map(|event| event["at_ms"].as_f64()).collect();
        assert!(times.len() == events.len() && times.is_sorted());
        let last = events.iter().rfind(|event| event["type"] == "step").context("no step")?;
        assert_eq!((&last["step"], &last["masked"]), (&end["usage"]["diffusion"]["steps"], &json!(0)));
        let states = trace.to_string();
        assert!(states.contains("\"masked\"") && states.contains("\"forced\"") == asked.contains(&"--schema"));
    }
    let (code, out, err) = generate(folder.path(), &["--trace", SORT])?;
    assert_eq!((code, out.as_str()), (Some(0), SORTED));
    assert!(
        err.contains("░░░") && err.contains("[apple") && err.contains("= apple") && !err.contains('\u{1b}'),
        "{err}"
    );
    Ok(())
}

#[test]
fn what_is_wrong_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broken = written(folder.path(), "broken.json", "{\"type\": ")?;
    let unknown = written(folder.path(), "unknown.json", "{\"type\": \"objekt\"}")?;
    let nowhere = folder.path().join("none").join("t.json").display().to_string();
    let wrong: [(&[&str], i32, &str); 14] = [
        (&["--schema", &broken, "x"], 1, "broken.json: no JSON"),
        (&["--schema", &unknown, "x"], 1, "--schema: it cannot be enforced"),
        (&["--schema", "none.json", "x"], 1, "--schema none.json"),
        (&["--model", "nowhere", "x"], 1, "--model: there is no nowhere"),
        (&["--model", ".", "x"], 1, "config.json"),
        (&["--model", "ar", "--trace", "x"], 1, "--trace: weir-nano-ar is autoregressive"),
        (&["--model", "ar", "--mode", "speed", "x"], 1, "--mode"),
        (&["--decoder", "levenshtein", "x"], 1, "--decoder: "),
        (&["--max-tokens", "900000", "x"], 1, "--max-tokens"),
        (&["--trace-file", &nowhere, "x"], 1, "--trace-file"),
        (&["--threshold", "1.5", "x"], 2, "--threshold"),
        (&["--decoder", "magic", "x"], 2, "--decoder"),
        (&[" "], 2, "the prompt is empty"),
        (&["--json"], 2, "the prompt is empty"),
    ];
    for (arguments, code, words) in wrong {
        let (got, out, err) = generate(folder.path(), arguments)?;
        assert_eq!((got, out.as_str()), (Some(code), ""), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
    let (code, _, err) = said(run_fed(folder.path(), &["generate"], &[0xFF, 0xFE])?);
    assert!(code == Some(1) && err.contains("UTF-8"), "{err}");
    Ok(())
}
