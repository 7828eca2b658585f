//! One answer from its start to its end, told to whoever shows it. Must never print.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use weir_diffusion_engine::GenerationEvent;
use weir_protocol::{ChatRequest, FinishReason, Usage};

use super::asked::{Model, explained};
use super::show::Show;

/// A finished answer and what it took.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) text: String,
    pub(super) end: End,
    /// Zeros for an answer that was stopped: nobody counted it.
    pub(super) usage: Usage,
    pub(super) first_text: Option<Duration>,
    pub(super) total: Duration,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Complete(FinishReason),
    /// By who asked.
    Stopped,
}

impl End {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            End::Complete(reason) => reason.as_str(),
            End::Stopped => "stopped",
        }
    }
}

/// Answers `request` until it is done or `stop` comes.
///
/// # Errors
/// The engine refuses the request or fails, or `show` cannot go on.
pub(super) async fn answer(
    model: &Model,
    request: &ChatRequest,
    show: &mut Show,
    stop: impl Future<Output = ()>,
) -> Result<Answered> {
    let began = Instant::now();
    let started = match show.wants_steps() {
        true => model.engine.generate_traced(request),
        false => model.engine.generate(request),
    };
    let mut generation = started.map_err(|error| explained(&error))?;
    show.begin(generation.prompt_tokens());
    let mut stop = std::pin::pin!(stop);
    let (mut text, mut first_text) = (String::new(), None);
    let (end, usage) = loop {
        let event = tokio::select! {
            biased;
            () = &mut stop => break (End::Stopped, Usage::default()),
            event = generation.next() => event,
        };
        let at = began.elapsed();
        match event {
            Some(GenerationEvent::Step(view)) => show.step(view, at),
            Some(GenerationEvent::Text(more)) => {
                first_text.get_or_insert(at);
                text.push_str(&more);
                show.text(&more, at)?;
            }
            Some(GenerationEvent::Draft { .. } | GenerationEvent::Logprobs(_) | GenerationEvent::StoppedAt(_)) => {}
            Some(GenerationEvent::Done { reason, usage }) => break (End::Complete(reason), usage),
            Some(GenerationEvent::Failed(error)) => return Err(explained(&error)),
            None => bail!("the answer has no end"),
        }
    };
    // Dropped here: an answer that was stopped leaves the engine within a step.
    drop(generation);
    let answered = Answered { text, end, usage, first_text, total: began.elapsed() };
    show.end(&answered)?;
    Ok(answered)
}
