//! The trace file: every denoise step of one answer as JSON, for a console to replay. `docs/trace.md` is its reference;
//! a change that old readers would misread raises [`VERSION`]. Must never hold the prompt's text.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use weir_diffusion_engine::{CellState, StepView};
use weir_protocol::ChatRequest;

use super::answering::Answered;
use super::asked::{Model, explained};
use super::report;

const VERSION: u32 = 1;

/// A trace file being written.
pub(super) struct Recording {
    file: BufWriter<File>,
    path: PathBuf,
    trace: Trace,
}

#[derive(Serialize)]
struct Trace {
    format: &'static str,
    version: u32,
    weir: &'static str,
    model: Value,
    settings: Value,
    prompt_tokens: u32,
    events: Vec<Happened>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Happened {
    Step { at_ms: f64, step: u32, block: u32, start: u32, masked: usize, cells: Vec<CellWritten> },
    Text { at_ms: f64, text: String },
    End { at_ms: f64, text: String, finish_reason: &'static str, usage: Value },
}

#[derive(Serialize)]
struct CellWritten {
    id: u32,
    text: String,
    state: &'static str,
}

impl Recording {
    /// Opens the file at once, so that a wrong path is known before the model has worked.
    ///
    /// # Errors
    /// The file cannot be made, or the settings are refused.
    pub(super) fn open(path: &Path, model: &Model, request: &ChatRequest) -> Result<Self> {
        let decoding = model.engine.decoding_of(request).map_err(|error| explained(&error))?;
        let info = model.engine.info();
        let trace = Trace {
            format: "weir-trace",
            version: VERSION,
            weir: env!("CARGO_PKG_VERSION"),
            model: json!({"name": model.name, "architecture": info.architecture, "parameters": info.parameters}),
            settings: json!({
                "decoder": decoding.decoder.as_str(),
                "mode": request.diffusion.mode,
                "threshold": short(decoding.threshold),
                "editing_threshold": short(decoding.editing_threshold),
                "max_post_steps": decoding.max_post_steps,
                "block_length": decoding.block_length,
                "max_steps": decoding.max_steps,
                "multi_block_window": decoding.window,
                "repeat_penalty": short(decoding.repeat_penalty),
                "refresh_every": decoding.refresh_every,
                "temperature": request.sampling.temperature.map(short),
                "seed": request.sampling.seed,
                "max_tokens": request.max_tokens,
                "structured": request.response_format != weir_protocol::ResponseFormat::Text,
            }),
            prompt_tokens: 0,
            events: Vec::new(),
        };
        let file = File::create(path).with_context(|| format!("--trace-file {}", path.display()))?;
        Ok(Recording { file: BufWriter::new(file), path: path.to_owned(), trace })
    }

    pub(super) fn begin(&mut self, prompt_tokens: u32) {
        self.trace.prompt_tokens = prompt_tokens;
    }

    pub(super) fn step(&mut self, view: StepView, at: Duration) {
        let masked = view.masked();
        let StepView { step, block, start, cells } = view;
        let written = |cell: weir_diffusion_engine::Cell| {
            let beyond = cell.state == CellState::Beyond;
            let text = if beyond { String::new() } else { cell.text };
            CellWritten { id: cell.token, text, state: cell.state.as_str() }
        };
        let cells = cells.into_iter().map(written).collect();
        self.trace.events.push(Happened::Step { at_ms: report::ms(at), step, block, start, masked, cells });
    }

    pub(super) fn text(&mut self, text: &str, at: Duration) {
        self.trace.events.push(Happened::Text { at_ms: report::ms(at), text: text.to_owned() });
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn end(mut self, answered: &Answered) -> Result<()> {
        self.trace.events.push(Happened::End {
            at_ms: report::ms(answered.total),
            text: answered.text.clone(),
            finish_reason: answered.end.as_str(),
            usage: report::usage(&answered.usage),
        });
        let written = serde_json::to_writer(&mut self.file, &self.trace).map_err(std::io::Error::from);
        let written = written.and_then(|()| self.file.write_all(b"\n")).and_then(|()| self.file.flush());
        written.with_context(|| format!("--trace-file {}", self.path.display()))
    }
}

/// As written by people: 0.7, not 0.699999988.
fn short(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}
