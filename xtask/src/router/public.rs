//! The public question sets of `../shared/data/llmrouter`, read where they lie and never copied. Whole sets are on one
//! side of the fence: what is measured on them is how the classifier does on people's questions it has never seen.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use weir_router_policies::classify::Family;

use super::generate::Sample;
use super::templates::Split;

/// Set, its family, and its side.
const SETS: [(&str, Family, Split); 14] = [
    ("mbpp", Family::CodeGeneration, Split::HeldOut),
    ("human_eval", Family::CodeGeneration, Split::Train),
    ("gsm8k", Family::Maths, Split::HeldOut),
    ("math", Family::Maths, Split::Train),
    ("agentverse-mgsm", Family::Maths, Split::HeldOut),
    ("trivia_qa", Family::Question, Split::Train),
    ("natural_qa", Family::Question, Split::HeldOut),
    ("commonsense_qa", Family::Question, Split::Calibrate),
    ("mmlu", Family::Question, Split::Train),
    ("openbook_qa", Family::Question, Split::HeldOut),
    ("arc_challenge", Family::Question, Split::Calibrate),
    ("gpqa", Family::Question, Split::Train),
    ("agentverse-logicgrid", Family::Logic, Split::HeldOut),
    ("commongen", Family::Prose, Split::Train),
];

#[derive(Deserialize)]
struct Line {
    task_name: String,
    query: String,
}

/// Where they lie beside the repository.
pub(crate) fn place(root: &Path) -> PathBuf {
    root.join("../shared/data/llmrouter/queries.jsonl")
}

/// All of them, or `None` where this machine has none.
pub(crate) fn read(root: &Path) -> Result<Option<Vec<Sample>>> {
    let path = place(root);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let mut samples = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line).with_context(|| format!("{} line {}", path.display(), at + 1))?;
        let Some((_, family, split)) = SETS.iter().find(|(name, ..)| *name == line.task_name) else { continue };
        samples.push(Sample {
            text: line.query,
            family: *family,
            language: "en".to_owned(),
            source: line.task_name,
            split: *split,
            tools: false,
        });
    }
    Ok(Some(samples))
}
