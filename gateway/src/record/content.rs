//! Prompt and answer for the request log, where the operator turned `content` on: bounded, and redacted before anything
//! leaves this file. Must never be asked for anywhere else.

use std::sync::Arc;

use serde::Serialize;
use weir_protocol::{ChatRequest, Event, Message, Part};

use super::redact::Redactor;

/// Most bytes of a text that are kept.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of all texts of a prompt; older turns are left out first.
const PROMPT_BYTES_MAX: usize = 256 * 1024;
/// Marks a text that was longer.
const CUT: &str = "…[cut]";

/// Prompt and answer.
pub(super) type Said = (Arc<ChatRequest>, AnswerSaid);

/// What an answer has said so far.
#[derive(Debug, Default)]
pub(crate) struct AnswerSaid {
    text: String,
    reasoning: String,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    index: u32,
    name: String,
    arguments: String,
}

impl AnswerSaid {
    /// An event goes to the caller.
    pub(crate) fn saw(&mut self, event: &Event) {
        match event {
            Event::TextDelta(more) | Event::RefusalDelta(more) => push(&mut self.text, more),
            Event::ReasoningDelta(more) => push(&mut self.reasoning, more),
            Event::ToolCallStarted { index, name, .. } => {
                self.calls.push(Call { index: *index, name: name.clone(), arguments: String::new() });
            }
            Event::ToolCallDelta { index, arguments } => {
                if let Some(call) = self.calls.iter_mut().find(|call| call.index == *index) {
                    push(&mut call.arguments, arguments);
                }
            }
            _ => {}
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let calls = self.calls.iter().map(|call| call.name.len() + call.arguments.len());
        self.text.len() + self.reasoning.len() + calls.sum::<usize>()
    }
}

fn push(text: &mut String, more: &str) {
    if text.len() < TEXT_BYTES_MAX {
        text.push_str(more);
    }
}

/// `content` of a line.
#[derive(Debug, Serialize)]
pub(super) struct Content {
    messages: Vec<Turn>,
    /// Older turns that are not shown.
    left_out: usize,
    answer: Answered,
}

#[derive(Debug, Serialize)]
struct Turn {
    role: weir_protocol::Role,
    text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    calls: Vec<Called>,
    /// Images and other parts, which are never kept.
    #[serde(skip_serializing_if = "is_zero")]
    other_parts: usize,
}

#[derive(Debug, Serialize)]
struct Called {
    name: String,
    arguments: String,
}

#[derive(Debug, Serialize)]
struct Answered {
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    calls: Vec<Called>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Prompt and answer, redacted.
pub(super) fn shown(request: &ChatRequest, answer: &AnswerSaid, redactor: &Redactor) -> Content {
    let clean = |text: &str| cut(redactor.clean(text));
    let mut left = PROMPT_BYTES_MAX;
    let mut messages = Vec::new();
    // From the newest on.
    for message in request.messages.iter().rev() {
        let turn = turn(message, &clean);
        let bytes = turn.text.len() + turn.calls.iter().map(|call| call.arguments.len()).sum::<usize>();
        let Some(rest) = left.checked_sub(bytes) else { break };
        left = rest;
        messages.push(turn);
    }
    messages.reverse();
    let left_out = request.messages.len() - messages.len();
    let calls = answer.calls.iter();
    let calls = calls.map(|call| Called { name: call.name.clone(), arguments: clean(&call.arguments) }).collect();
    let answer = Answered { text: clean(&answer.text), reasoning: clean(&answer.reasoning), calls };
    Content { messages, left_out, answer }
}

fn turn(message: &Message, clean: &impl Fn(&str) -> String) -> Turn {
    let calls = message.tool_calls.iter();
    Turn {
        role: message.role,
        text: clean(&message.joined_text()),
        calls: calls.map(|call| Called { name: call.name.clone(), arguments: clean(&call.arguments) }).collect(),
        other_parts: message.content.iter().filter(|part| !matches!(part, Part::Text(_))).count(),
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let at = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(at.unwrap_or_default());
        text.push_str(CUT);
    }
    text
}
