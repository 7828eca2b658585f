//! Held-out prompts with half of each answer masked, always the same half.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tokenizers::Tokenizer;

/// Token ids, and which of them are masked.
pub(super) struct Sample {
    pub(super) ids: Vec<u32>,
    pub(super) masked: Vec<usize>,
    /// The other places of the answer.
    shown: Vec<usize>,
}

impl Sample {
    /// What a block's forwards would have seen before this: nothing of the answer, then `count` tokens more each time.
    pub(super) fn history(&self, count: usize) -> Vec<Vec<u32>> {
        let mut canvas = self.ids.clone();
        if let Some(mask) = self.masked.first().and_then(|at| self.ids.get(*at)) {
            self.shown.iter().for_each(|at| canvas[*at] = *mask);
        }
        let mut all = vec![canvas.clone()];
        for shown in self.shown.chunks(count.max(1)) {
            shown.iter().for_each(|at| canvas[*at] = self.ids[*at]);
            all.push(canvas.clone());
        }
        all
    }
}

/// `count` samples, spread over the held-out file.
pub(super) fn read(models: &Path, count: usize) -> Result<Vec<Sample>> {
    let file = models.join("heldout.jsonl");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let place = models.join("diffusion/tokenizer.json");
    let tokenizer = Tokenizer::from_file(&place).map_err(anyhow::Error::from_boxed).context("tokenizer.json")?;
    let id = |text: &str| tokenizer.token_to_id(text).with_context(|| format!("no token {text}"));
    let (mask, fill) = (id("<|mask|>")?, id("<|endoftext|>")?);
    let lines: Vec<&str> = text.lines().collect();
    let mut dice = 1u32;
    let mut samples = Vec::new();
    for line in lines.iter().step_by((lines.len() / count).max(1)).take(count) {
        let row: Value = serde_json::from_str(line)?;
        let encode = |text: String| tokenizer.encode(text, false).map_err(anyhow::Error::from_boxed);
        let mut ids = encode(prompt(&row))?.get_ids().to_vec();
        let begin = ids.len();
        ids.extend(encode(format!("{}<|role_end|>", row["expected"].as_str().context("expected")?))?.get_ids());
        let (mut masked, mut shown) = (Vec::new(), Vec::new());
        for (at, id) in ids.iter_mut().enumerate().skip(begin) {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if dice >> 31 == 0 {
                *id = mask;
                masked.push(at);
            } else {
                shown.push(at);
            }
        }
        // As in training: the last block is filled up.
        ids.resize(ids.len().next_multiple_of(super::BLOCK), fill);
        samples.push(Sample { ids, masked, shown });
    }
    Ok(samples)
}

/// The nano models' chat template (`training/template.py`) for one row.
fn prompt(row: &Value) -> String {
    let list = |field: &str| row[field].as_array().cloned().unwrap_or_default();
    let mut text = "<role>SYSTEM</role>".to_owned();
    let said = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    for message in list("messages").iter().filter(|message| message["role"] == "system") {
        text += &format!("{}\n", said(message));
    }
    let tools = list("tools");
    if !tools.is_empty() {
        text += "# Tools\n<tools>";
        for tool in &tools {
            text += &format!("\n{}", tool["function"]["name"].as_str().unwrap_or_default());
        }
        text += "\n</tools>\n";
    }
    text += "detailed thinking off<|role_end|>";
    for message in list("messages").iter().filter(|message| message["role"] == "user") {
        text += &format!("<role>HUMAN</role>{}<|role_end|>", said(message));
    }
    text + "<role>ASSISTANT</role>"
}
