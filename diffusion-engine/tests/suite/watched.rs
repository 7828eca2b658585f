//! Answers watched step by step: what is shown adds up to the answer, and watching changes nothing.

use serde_json::json;
use weir_diffusion_engine::{Cell, CellState, DecoderKind, Engine, GenerationEvent, StepView};
use weir_protocol::{ChatRequest, ResponseFormat, Usage};

use crate::answers::{ask, engine, lively, request};
use crate::sampled::controlled;

/// The steps, the text and the cost.
fn watch(engine: &Engine, request: &ChatRequest) -> (Vec<StepView>, String, Usage) {
    let mut generation = engine.generate_traced(request).expect("accepted");
    let (mut steps, mut text) = (Vec::new(), String::new());
    loop {
        match generation.next_blocking().expect("ends") {
            GenerationEvent::Step(view) => steps.push(view),
            GenerationEvent::Text(more) => text.push_str(&more),
            GenerationEvent::Done { usage, .. } => return (steps, text, usage),
            other => unreachable!("{other:?}"),
        }
    }
}

/// The answer's cells as the steps leave them.
fn replay(steps: &[StepView]) -> Vec<&Cell> {
    let mut cells: Vec<&Cell> = Vec::new();
    for view in steps {
        assert!(view.start as usize <= cells.len(), "a hole before {}", view.start);
        cells.truncate(view.start as usize);
        cells.extend(&view.cells);
    }
    cells.retain(|cell| cell.state != CellState::Beyond);
    cells
}

/// In the tiny model's vocabulary the first 256 tokens are the bytes.
fn text(cells: &[&Cell]) -> String {
    let bytes = cells.iter().flat_map(|cell| match u8::try_from(cell.token) {
        Ok(byte) => vec![byte],
        Err(_) => cell.text.clone().into_bytes(),
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

#[test]
fn the_last_state_is_the_answer_and_watching_changes_nothing() {
    let form = json!({"type": "object", "required": ["tags"], "additionalProperties": false, "properties":
        {"tags": {"type": "array", "items": {"enum": ["rot", "日本"]}, "minItems": 2, "maxItems": 9}}});
    for (name, decoder) in DecoderKind::ALL {
        let engine = controlled("llada2_moe", lively(decoder));
        for number in 0..6 {
            let mut asked = request(&"word ".repeat(number), 90);
            if number % 2 == 1 {
                asked.response_format = ResponseFormat::JsonSchema(form.clone());
            }
            let (steps, watched, usage) = watch(&engine, &asked);
            let plain = ask(&engine, &asked);
            assert_eq!((&watched, &usage.diffusion), (&plain.text, &plain.usage.diffusion), "{name} {number}");
            let cells = replay(&steps);
            assert_eq!(text(&cells), watched, "{name} {number}");
            assert_eq!(cells.len() as u64, usage.completion_tokens, "{name} {number}");
            let written = |cell: &&Cell| cell.state != CellState::Masked;
            assert!(cells.iter().all(written), "{name} {number}");
            let forced = cells.iter().filter(|cell| cell.state == CellState::Forced).count();
            assert!((forced > 0) == (number % 2 == 1), "{name} {number}: {forced} forced");
        }
    }
}

#[test]
fn states_tell_what_a_step_did() {
    for decoder in [DecoderKind::Threshold, DecoderKind::Joint, DecoderKind::MultiBlock, DecoderKind::Levenshtein] {
        let engine = controlled("llada2_moe", lively(decoder));
        let (steps, _, usage) = watch(&engine, &request("hello world", 120));
        let stats = usage.diffusion.expect("a diffusion answer");
        let opened = steps.first().expect("the first block is shown as it opens");
        assert!(opened.step == 0 && opened.block == 1 && opened.masked() > 0);
        assert_eq!(steps.last().map(|view| (view.step, view.block)), Some((stats.steps, stats.blocks)));
        let mut edited = 0;
        for pair in steps.windows(2) {
            assert!(pair[0].step <= pair[1].step && pair[0].block <= pair[1].block && pair[0].start <= pair[1].start);
            for (at, cell) in pair[1].cells.iter().enumerate() {
                let index = (pair[1].start - pair[0].start) as usize + at;
                let before = pair[0].cells.get(index);
                match cell.state {
                    CellState::Kept => assert_eq!(before.map(|cell| cell.token), Some(cell.token)),
                    CellState::Edited => assert_ne!(before.map(|cell| cell.token), Some(cell.token)),
                    CellState::Fresh => assert!(before.is_some_and(|before| before.text.is_empty())),
                    CellState::Masked => assert!(cell.text.is_empty()),
                    CellState::Forced => unreachable!("no form was demanded"),
                    CellState::Beyond => {}
                }
                edited += u32::from(cell.state == CellState::Edited);
            }
        }
        // Those behind the answer's end are counted, but not shown as edits.
        let most = if decoder == DecoderKind::Levenshtein { u32::MAX } else { stats.edits };
        assert!(
            edited <= most && (edited > 0) == (decoder != DecoderKind::Threshold),
            "{decoder:?}: {edited} {stats:?}"
        );
    }
}

#[test]
fn an_autoregressive_answer_has_no_steps() {
    let engine = engine("bailing_moe_v2", lively(DecoderKind::Joint));
    let (steps, text, _) = watch(&engine, &request("hello", 20));
    assert!(steps.is_empty() && !text.is_empty());
}
