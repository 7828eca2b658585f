//! The shapes of an answer on the wire. Data only: the order in which they may come is [`super::stream`]'s business.

use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use weir_protocol::{ChatRequest, FinishReason, Tool, Usage};

use crate::api::answering::failure::{Class, Failure};
use crate::api::answering::stats::DiffusionBody;
use crate::api::openai_chat::encode::LogprobBody;

/// An answer: whole, or as far as a stream has come.
#[derive(serde::Serialize)]
pub(crate) struct ResponseBody<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created_at: u64,
    pub(super) status: &'static str,
    pub(super) error: Option<ResponseError>,
    pub(super) incomplete_details: Option<IncompleteDetails>,
    pub(super) model: &'a str,
    pub(super) output: &'a [ItemBody],
    #[serde(flatten)]
    pub(super) echo: Echo<'a>,
    pub(super) usage: Option<UsageBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) weir: Option<Extra<'a>>,
}

/// What only Weir has; clients that do not know it skip it.
#[derive(serde::Serialize)]
pub(super) struct Extra<'a> {
    /// The backend that went on where another was cut.
    pub(super) continued_by: &'a str,
}

/// What the caller asked for, told back as the dialect has it.
pub(super) struct Echo<'a>(pub(super) &'a Arc<Map<String, Value>>);

impl Serialize for Echo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let defaults = [
            ("instructions", Value::Null),
            ("max_output_tokens", Value::Null),
            ("metadata", json!({})),
            ("parallel_tool_calls", Value::Bool(true)),
            ("reasoning", json!({"effort": null, "summary": null})),
            ("temperature", Value::Null),
            ("text", json!({"format": {"type": "text"}})),
            ("tool_choice", Value::from("auto")),
            ("tools", json!([])),
            ("top_logprobs", Value::from(0)),
            ("top_p", Value::Null),
            ("truncation", Value::from("disabled")),
            ("user", Value::Null),
        ];
        let mut map = serializer.serialize_map(None)?;
        for (key, default) in defaults {
            map.serialize_entry(key, self.0.get(key).filter(|value| !value.is_null()).unwrap_or(&default))?;
        }
        // Whatever was asked: nothing is stored, and nothing runs in the background.
        map.serialize_entry("store", &false)?;
        map.serialize_entry("background", &false)?;
        map.serialize_entry("previous_response_id", &())?;
        map.end()
    }
}

#[derive(serde::Serialize)]
pub(super) struct ResponseError {
    code: &'static str,
    message: String,
}

impl From<&Failure> for ResponseError {
    /// The dialect has few codes.
    fn from(failure: &Failure) -> Self {
        let code = match failure.class {
            Class::RateLimited => "rate_limit_exceeded",
            // Not in the description, but what OpenAI says and clients look for, to shorten the conversation.
            Class::TooLong { .. } => "context_length_exceeded",
            Class::Invalid | Class::NotFound | Class::Key | Class::Forbidden => "invalid_prompt",
            Class::Overloaded | Class::Timeout | Class::Cancelled | Class::Upstream | Class::Internal => "server_error",
        };
        ResponseError { code, message: failure.message.clone() }
    }
}

#[derive(serde::Serialize)]
pub(super) struct IncompleteDetails {
    pub(super) reason: &'static str,
}

/// The status of an answer that came to its end, and what it lacks.
pub(super) fn ending(reason: FinishReason) -> (&'static str, Option<IncompleteDetails>) {
    let incomplete = |reason| ("incomplete", Some(IncompleteDetails { reason }));
    match reason {
        FinishReason::Stop | FinishReason::ToolCalls => ("completed", None),
        FinishReason::Length => incomplete("max_output_tokens"),
        FinishReason::ContentFilter => incomplete("content_filter"),
    }
}

/// A piece of an answer.
#[derive(Debug, serde::Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ItemBody {
    Reasoning {
        id: String,
        /// Always empty: what backends show is the reasoning itself.
        summary: [(); 0],
        content: Vec<ContentPart>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
        status: &'static str,
    },
    Message {
        id: String,
        status: &'static str,
        role: &'static str,
        content: Vec<ContentPart>,
    },
    FunctionCall {
        id: String,
        status: &'static str,
        call_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        name: String,
        arguments: String,
    },
    /// Of a free-form tool.
    CustomToolCall {
        id: String,
        status: &'static str,
        call_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        name: String,
        input: String,
    },
    /// As the upstream wrote it.
    #[serde(untagged)]
    Theirs(Box<RawValue>),
}

/// The text that a call of a free-form tool is for; all of the arguments, where they are not what was asked for.
pub(super) fn input(arguments: String) -> String {
    let parsed = crate::plain_json::parse(&arguments).ok();
    let text = parsed.as_ref().and_then(|arguments| arguments[Tool::INPUT].as_str());
    text.map(str::to_owned).unwrap_or(arguments)
}

/// Those of a request's tools whose calls do not look like any function's: free-form ones, and those in groups.
#[derive(Debug)]
pub(super) struct OddTools(Vec<Tool>);

/// The tool that a call is for, as this dialect tells it.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// Whether it takes text.
    pub(super) is_freeform: bool,
}

impl OddTools {
    pub(super) fn of(request: &ChatRequest) -> Self {
        let odd = request.tools.iter().filter(|tool| tool.freeform || tool.grouped.is_some());
        // Of what they take nothing is asked here.
        let named = |tool: &Tool| Tool {
            name: tool.name.clone(),
            freeform: tool.freeform,
            grouped: tool.grouped.clone(),
            ..Tool::default()
        };
        OddTools(odd.map(named).collect())
    }

    /// The tool that backends know by this name.
    pub(super) fn called(&self, name: String) -> Called {
        let tool = self.0.iter().find(|tool| tool.name == name);
        let (namespace, own) = tool.and_then(|tool| tool.grouped.clone()).unzip();
        Called { namespace, name: own.unwrap_or(name), is_freeform: tool.is_some_and(|tool| tool.freeform) }
    }
}

/// A piece of a message or of reasoning.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ContentPart {
    OutputText { text: String, annotations: [(); 0], logprobs: Vec<LogprobBody> },
    Refusal { refusal: String },
    ReasoningText { text: String },
}

impl ContentPart {
    /// Text and what is known of its tokens.
    pub(super) fn output(text: String, logprobs: Vec<LogprobBody>) -> Self {
        ContentPart::OutputText { text, annotations: [], logprobs }
    }
}

/// Which item of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ItemKind {
    Reasoning,
    Message,
    FunctionCall,
    CustomCall,
}

/// The id of the item at `index` of the answer `response`.
pub(crate) fn item_id(response: &str, kind: ItemKind, index: usize) -> String {
    let prefix = match kind {
        ItemKind::Reasoning => "rs",
        ItemKind::Message => "msg",
        ItemKind::FunctionCall => "fc",
        ItemKind::CustomCall => "ctc",
    };
    let rest = response.strip_prefix("resp_").unwrap_or(response);
    format!("{prefix}_{rest}_{index}")
}

/// Whether an item of reasoning with this id was written here, for a backend that knows no items.
pub(crate) fn is_own_reasoning(id: &str) -> bool {
    let own = id.strip_prefix("rs_").and_then(|rest| rest.split_once('_'));
    own.is_some_and(|(response, at)| {
        response.len() == 32 && response.bytes().all(|byte| byte.is_ascii_hexdigit()) && at.parse::<u32>().is_ok()
    })
}

/// Tokens, with what a diffusion engine adds.
#[derive(serde::Serialize)]
pub(super) struct UsageBody {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    diffusion: Option<DiffusionBody>,
}

#[derive(serde::Serialize)]
struct InputDetails {
    cached_tokens: u64,
}

#[derive(serde::Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> Self {
        UsageBody {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputDetails { cached_tokens: usage.cached_tokens },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning_tokens },
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            diffusion: DiffusionBody::of(usage),
        }
    }
}
