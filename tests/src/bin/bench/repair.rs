//! Planted errors: a finished answer with one wrong word, and whether the joint decoder, beginning from it, finds back to
//! the right one. Beside it, what editing does to answers without an error. One word of the task's own answers stands in
//! for another, so that the mistake is a plausible one.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use weir_diffusion_engine::Engine;
use weir_protocol::{DecodeMode, DecoderKind};

use super::accuracy::is_right;
use super::figures::{answer, request};

#[derive(Default)]
struct Sum {
    planted: u64,
    repaired: u64,
    intact: u64,
    kept: u64,
    forwards: u64,
    blocks: u64,
}

/// Measures over the tasks whose answers depend on the prompt, prints the table, gives it as JSON.
pub(super) fn measure(engine: &Engine, rows: &[Value]) -> Result<Value> {
    let rows: Vec<(&str, &str, &Value)> = rows
        .iter()
        .filter_map(|row| Some((row["task"].as_str()?, row["expected"].as_str()?, row)))
        .filter(|(task, _, _)| ["tools", "transforms", "sudoku", "paths"].contains(task))
        .collect();
    let mut vocabulary: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (task, expected, _) in &rows {
        vocabulary.entry(task).or_default().extend(words(expected).map(|(_, word)| word));
    }
    println!(
        "{:<10} {:<12} {:>8} {:>9} {:>8} {:>15}",
        "editing", "task", "planted", "repaired", "kept", "forwards/block"
    );
    let mut all = serde_json::Map::new();
    for editing in [0.0, 0.5, 0.9] {
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for (number, (task, expected, row)) in rows.iter().enumerate() {
            let Some(wrong) = plant(expected, &vocabulary[task], number) else { continue };
            for (text, is_planted) in [(wrong.as_str(), true), (expected, false)] {
                let mut asked = request(row)?;
                asked.diffusion.mode = Some(DecodeMode::Quality);
                asked.diffusion.decoder = Some(DecoderKind::Joint);
                asked.diffusion.editing_threshold = Some(editing);
                asked.diffusion.start_from = Some(text.to_owned());
                let answered = answer(engine, &asked)?;
                let is_right = u64::from(is_right(expected, &answered.text));
                let stats = answered.usage.diffusion.unwrap_or_default();
                for task in [*task, "all"] {
                    let sum = sums.entry(task).or_default();
                    if is_planted {
                        sum.planted += 1;
                        sum.repaired += is_right;
                        sum.forwards += u64::from(stats.steps);
                        sum.blocks += u64::from(stats.blocks);
                    } else {
                        sum.intact += 1;
                        sum.kept += is_right;
                    }
                }
            }
        }
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let mut figures = serde_json::Map::new();
        for (task, sum) in sums {
            let (repaired, kept) = (share(sum.repaired, sum.planted), share(sum.kept, sum.intact));
            let forwards = share(sum.forwards, sum.blocks);
            println!(
                "{editing:<10} {task:<12} {:>8} {:>8.1}% {:>7.1}% {forwards:>15.2}",
                sum.planted,
                100.0 * repaired,
                100.0 * kept
            );
            figures.insert(
                task.to_owned(),
                json!({"planted": sum.planted, "repaired": repaired, "kept": kept, "forwards_per_block": forwards}),
            );
        }
        all.insert(editing.to_string(), figures.into());
    }
    Ok(all.into())
}

/// The words and numbers of a text with their places. The frame of a tool call is no word.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_frame = |word: &str| ["tool_call", "name", "arguments"].contains(&word);
    let runs = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    runs.map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word)).filter(move |(_, word)| !is_frame(word))
}

/// `text` with one of its words exchanged for another of the task; which one, `number` decides.
fn plant(text: &str, vocabulary: &[&str], number: usize) -> Option<String> {
    let all: Vec<(usize, &str)> = words(text).collect();
    let (at, old) = *all.get(number % all.len().max(1))?;
    let others: Vec<&&str> = vocabulary.iter().filter(|word| **word != old).collect();
    let new = others.get(number.wrapping_mul(7919) % others.len().max(1))?;
    Some(format!("{}{new}{}", &text[..at], &text[at + old.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_word_changes() {
        let text = "<tool_call>\n{\"name\": \"set_light\", \"arguments\": {\"on\": true}}\n</tool_call>";
        let found: Vec<&str> = words(text).map(|(_, word)| word).collect();
        assert_eq!(found, ["set_light", "on", "true"]);
        assert_eq!(plant("a b", &["a", "b", "c"], 1).as_deref(), Some("a c"));
        assert_eq!(plant("a", &["a"], 5), None, "nothing to exchange it for");
        assert_eq!(plant("", &["a"], 5), None);
    }
}
