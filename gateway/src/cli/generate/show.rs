//! Where an answer goes while it is written: its text to standard output, its denoise steps to standard error and into
//! the trace file. Must never decide anything.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use weir_diffusion_engine::StepView;

use super::answering::Answered;
use super::painting::{Paint, readable};
use super::recording::Recording;

/// The receiving ends.
pub(super) struct Show {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// Whether text goes out as it comes; else the whole at the end, or not at all.
    streams: bool,
    /// Whether the text goes out at all.
    prints: bool,
    /// Whether a terminal would obey what the model writes.
    out_is_terminal: bool,
    trace: Option<Paint>,
    recording: Option<Recording>,
}

impl Show {
    /// On this process's own standard output (no text there with `json`) and standard error.
    pub(super) fn new(json: bool, trace: bool, recording: Option<Recording>) -> Self {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        Show {
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            streams: !json && !trace,
            prints: !json,
            out_is_terminal: std::io::stdout().is_terminal(),
            trace: trace.then_some(Paint { colour }),
            recording,
        }
    }

    /// For tests.
    #[cfg(test)]
    pub(super) fn to(out: Box<dyn Write>, err: Box<dyn Write>) -> Self {
        Show { out, err, streams: true, prints: true, out_is_terminal: true, trace: None, recording: None }
    }

    /// Whether denoise steps are worth asking for.
    pub(super) fn wants_steps(&self) -> bool {
        self.trace.is_some() || self.recording.is_some()
    }

    /// An answer begins.
    pub(super) fn begin(&mut self, prompt_tokens: u32) {
        if let Some(recording) = &mut self.recording {
            recording.begin(prompt_tokens);
        }
        if let Some(paint) = self.trace {
            self.tell(&paint.legend());
        }
    }

    /// A denoise step was made.
    pub(super) fn step(&mut self, view: StepView, at: Duration) {
        if let Some(paint) = self.trace {
            self.tell(&paint.step(&view));
        }
        if let Some(recording) = &mut self.recording {
            recording.step(view, at);
        }
    }

    /// Text is final.
    ///
    /// # Errors
    /// Nobody reads standard output any more.
    pub(super) fn text(&mut self, text: &str, at: Duration) -> Result<()> {
        if let Some(paint) = self.trace {
            self.tell(&paint.committed(text));
        }
        if let Some(recording) = &mut self.recording {
            recording.text(text, at);
        }
        if self.streams { self.print(text) } else { Ok(()) }
    }

    /// The answer ended.
    ///
    /// # Errors
    /// As [`Show::text`], or the trace file cannot be written.
    pub(super) fn end(&mut self, answered: &Answered) -> Result<()> {
        if let Some(recording) = self.recording.take() {
            recording.end(answered)?;
        }
        if !self.prints {
            return Ok(());
        }
        if !self.streams {
            self.print(&answered.text)?;
        }
        self.print("\n")
    }

    /// A line for who sits there.
    pub(super) fn tell(&mut self, line: &str) {
        // Nobody reads it any more: the answer itself is what counts.
        let _ = writeln!(self.err, "{line}");
    }

    /// Asks for a line.
    pub(super) fn ask(&mut self) {
        let _ = write!(self.err, "> ").and_then(|()| self.err.flush());
    }

    /// Standard output.
    pub(super) fn print(&mut self, text: &str) -> Result<()> {
        let text = if self.out_is_terminal { readable(text) } else { text.to_owned() };
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).context("standard output")
    }
}
