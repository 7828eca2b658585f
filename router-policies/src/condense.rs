//! A smaller request for the diffusion route, and for whom a rule says so: the operator's instructions instead of the
//! agent's, the asked text without its wrapping, the recent turns, and only the tools that can matter. Everybody else
//! gets the request as it came, so nothing is lost when another backend takes over. Must never cut the asked text: what
//! does not fit is not condensed.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Map;
use weir_protocol::{ChatRequest, Message, Part, Role, Tool, ToolChoice};

use crate::features::{Features, json_bytes, rank_tools};
use crate::question::CondensedSize;
use crate::unwrap::{self, Trigger};

/// Bounds of the settings, and what holds where a policy says nothing.
pub(crate) mod limits {
    /// Longest instructions.
    pub(crate) const INSTRUCTIONS_BYTES: usize = 4000;
    /// Recent turns kept.
    pub(crate) const TURNS: u64 = 4;
    pub(crate) const MOST_TURNS: u64 = 64;
    /// Bytes of the whole.
    pub(crate) const BYTES: u64 = 6000;
    pub(crate) const MOST_BYTES: u64 = 262_144;
    /// Tools kept.
    pub(crate) const TOOLS: u64 = 4;
    pub(crate) const MOST_TOOLS: u64 = 64;
}

/// `[condense]` of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CondenseSettings {
    /// The whole system text of a condensed request.
    pub instructions: String,
    /// Most earlier turns that are kept.
    pub turns: u64,
    /// Most bytes of messages and tools together.
    pub max_bytes: u64,
    /// Most tools that are kept.
    pub max_tools: u64,
}

/// A condensed request.
#[derive(Debug, Clone)]
pub struct Condensed {
    /// What the diffusion engine gets.
    pub request: ChatRequest,
    /// What it comes down to.
    pub size: CondensedSize,
    /// What it does not get.
    pub left_out: LeftOut,
}

/// What was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Characters of the caller's system texts.
    pub system_chars: u64,
    /// Earlier turns, tool calls and results among them.
    pub turns: u64,
    /// Names of tools.
    pub tools: Vec<String>,
    /// Bytes of it all.
    pub bytes: u64,
}

/// Condenses. `None` where nothing is to be gained or something would be lost that the answer needs: an errand, which is
/// small anyway; images and other parts; a conversation that goes on after a tool's result; a question or a demanded
/// tool that does not fit the limits.
pub fn condense(request: &ChatRequest, features: &Features, settings: &CondenseSettings) -> Option<Condensed> {
    if features.trigger == Trigger::Utility || features.has_images || features.has_other_parts || request.bare_prompt {
        return None;
    }
    let (asked_at, asked) = request
        .messages
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, message)| message.role == Role::User)
        .map(|(at, message)| (at, unwrap::bare_text(message)))
        .find(|(_, text)| !text.is_empty())?;
    // Only internal context may follow what was asked: anything else is the work on it.
    if request.messages[asked_at + 1..].iter().any(|message| !unwrap::is_context(message)) {
        return None;
    }
    let mut left = settings.max_bytes.checked_sub((settings.instructions.len() + asked.len()) as u64)?;
    let tools = tools(request, &asked, settings, &mut left)?;
    let turns = turns(&request.messages[..asked_at], settings.turns, &mut left);
    let size = CondensedSize { bytes: settings.max_bytes - left, tools: tools.len() as u64 };
    if size.bytes >= features.prompt_bytes {
        return None;
    }
    let system_chars: usize = texts_of(request, Role::System).map(|text| text.chars().count()).sum();
    let earlier = request.messages[..asked_at].iter().filter(|message| message.role != Role::System).count();
    let left_out = LeftOut {
        system_chars: system_chars as u64,
        turns: (earlier - turns.len()) as u64,
        tools: request.tools.iter().filter(|tool| !tools.contains(tool)).map(|tool| tool.name.clone()).collect(),
        bytes: features.prompt_bytes - size.bytes,
    };
    let mut messages = vec![Message::text(Role::System, settings.instructions.as_str())];
    messages.extend(turns);
    messages.push(Message::text(Role::User, asked.as_ref()));
    // Field by field: cloning the whole request would copy the agent's system text and tools only to drop them.
    let request = ChatRequest {
        messages,
        tools,
        // The body is built from these fields, not from the caller's.
        amended: true,
        dialect: request.dialect,
        raw: Arc::new(Map::new()),
        written: None,
        model: request.model.clone(),
        tool_choice: request.tool_choice.clone(),
        parallel_tool_calls: request.parallel_tool_calls,
        bare_prompt: false,
        prefill: false,
        effort: request.effort,
        response_format: request.response_format.clone(),
        schema_terms: request.schema_terms.clone(),
        sampling: request.sampling.clone(),
        max_tokens: request.max_tokens,
        stream: request.stream,
        include_usage: request.include_usage,
        diffusion: request.diffusion.clone(),
        tenant: request.tenant.clone(),
        background: request.background,
        hints: request.hints.clone(),
        unsupported: request.unsupported.clone(),
    };
    Some(Condensed { request, size, left_out })
}

fn texts_of(request: &ChatRequest, role: Role) -> impl Iterator<Item = &str> {
    let messages = request.messages.iter().filter(move |message| message.role == role);
    messages.flat_map(|message| &message.content).filter_map(Part::as_text)
}

/// The tools that can matter, as many as fit. `None` where one is demanded and none can be kept.
fn tools(request: &ChatRequest, asked: &str, settings: &CondenseSettings, left: &mut u64) -> Option<Vec<Tool>> {
    let most = usize::try_from(settings.max_tools).unwrap_or(usize::MAX);
    let wanted: Vec<usize> = match &request.tool_choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Function(name) => request.tools.iter().position(|tool| tool.name == *name).into_iter().collect(),
        ToolChoice::Auto | ToolChoice::Required => rank_tools(asked, &request.tools, most),
    };
    let mut kept = Vec::new();
    for tool in wanted.into_iter().filter_map(|at| request.tools.get(at)) {
        let bytes = (tool.name.len() + tool.description.as_ref().map_or(0, String::len)) as u64;
        if let Some(rest) = left.checked_sub(bytes + json_bytes(&tool.parameters)) {
            *left = rest;
            kept.push(tool.clone());
        }
    }
    let demanded = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_));
    (!demanded || !kept.is_empty()).then_some(kept)
}

/// The most recent turns that say something, oldest first.
fn turns(earlier: &[Message], most: u64, left: &mut u64) -> Vec<Message> {
    let mut kept = Vec::new();
    for message in earlier.iter().rev() {
        if kept.len() as u64 == most {
            break;
        }
        let text = match message.role {
            Role::User => unwrap::bare_text(message).into_owned(),
            Role::Assistant => message.joined_text(),
            Role::System | Role::Tool => continue,
        };
        if text.trim().is_empty() {
            continue;
        }
        // A gap in the conversation would be worse than its beginning missing.
        let Some(rest) = left.checked_sub(text.len() as u64) else { break };
        *left = rest;
        kept.push(Message::text(message.role, text));
    }
    kept.reverse();
    kept
}
