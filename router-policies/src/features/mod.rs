//! Named facts about a request, computed once. Their names are the words of the policy language, so a name never changes
//! its meaning. Must never keep prompt text: features are logged and explained.
//!
//! The list below is the one place where a feature is declared; `docs/features.md` is made from it.

mod code;
mod content;
mod conversation;
mod known_tools;
mod language;
mod lexicon;
mod looked_up;
#[cfg(test)]
mod plain;
mod shapes;
mod sizes;
mod table;
mod tool_need;
mod words;

use std::borrow::Cow;

use weir_protocol::{ChatRequest, ResponseFormat, ToolChoice};

pub(crate) use self::content::json_bytes;
pub use self::conversation::{Conversation, Modality};
pub use self::language::Language;
pub use self::table::{About, Cost, FeatureInfo, Kind};
pub(crate) use self::tool_need::rank as rank_tools;

use self::content::Content;
use self::table::{Valued, features, valued_words};
use crate::unwrap::{self, Asked, Trigger};

valued_words!(Trigger, Language, Conversation, Modality);

/// Bytes of the asked text that shapes and words are looked for in. A longer text is long by itself.
const TEXT_BYTES: usize = 16 * 1024;

features! {
    trigger: Trigger, Request, Field, "Who asked: a person, or which trigger of an agent, as hinted (`x-weir-trigger`) or as the text says.";
    repeated: bool, Request, Text, "The agent says that it asks again after a failure.";
    agent: String, Request, Field, "The agent that asks, as hinted (`x-weir-agent`: any client may send it) or as its runtime line says; empty when nothing tells.";
    structure_demanded: bool, Request, Text, "The answer must have a form: `response_format`, a forced tool choice, or the asked text wants JSON.";
    call_demanded: bool, Request, Field, "`tool_choice` demands a call.";
    form_demanded: bool, Request, Field, "`response_format` demands a form.";
    tool_needed: bool, Tools, Tools, "The asked text wants something done that an offered tool does. Not: tools are offered.";
    planning_shape: bool, Text, Text, "A constraint puzzle: a sudoku grid, edges with a start and a goal, a plan under constraints.";
    transform_shape: bool, Text, Text, "A short list to be sorted, reversed or deduplicated.";
    infill: bool, Request, Text, "A gap is to be filled: fill-in-the-middle marks in the text, or `suffix` in the body.";
    edit_shape: bool, Text, Text, "A passage that is quoted, fenced or follows a colon is to be changed (fix, rewrite, translate, refactor, …).";
    has_code: bool, Text, Text, "There is code in the asked text: a fence, a diff, or lines that no sentence looks like.";
    has_diff: bool, Text, Text, "There is a diff in the asked text.";
    code_fences: u64, Text, Text, "Fenced passages in the asked text.";
    question: bool, Text, Text, "The asked text asks something instead of wanting something done.";
    language: Language, Text, Text, "Language of the asked text by script and frequent words, or `unknown`: of short requests in Latin letters about one in five is.";
    asked_chars: u64, Text, Text, "Characters of the asked text.";
    asked_words: u64, Text, Text, "Words of the asked text, in its first 16 KB.";
    quoted_chars: u64, Text, Text, "Characters of the passage that is quoted, fenced or follows a colon.";
    constraint_words: u64, Text, Text, "Words of constraints and plans in the asked text (exactly, unless, schedule, …).";
    digits_percent: u64, Text, Text, "Digits among a hundred characters of the asked text.";
    names_percent: u64, Text, Text, "Numbers and capitalised names among a hundred words of the asked text.";
    expected_output_tokens: u64, Request, Text, "Tokens the answer will have, roughly, by what is asked; never more than `max_tokens`.";
    max_tokens: u64, Request, Field, "Most tokens the caller wants, 0 when not said.";
    tail_is_tool_result: bool, Request, Body, "The conversation ends with a tool's result.";
    conversation: Conversation, Request, Body, "Where the conversation is: its first turn, a later one, or within a tool loop.";
    user_turns: u64, Request, Body, "Messages of the user that say something.";
    tool_rounds: u64, Request, Body, "Turns with tool calls since the user last spoke.";
    message_count: u64, Request, Field, "Messages in the conversation.";
    tools_count: u64, Request, Field, "Tools offered.";
    prompt_chars: u64, Request, Body, "Characters of all messages.";
    prompt_bytes: u64, Request, Body, "Bytes of all messages and of the offered tools.";
    prompt_tokens_estimate: u64, Request, Body, "`prompt_bytes` / 4, rounded up: a usual tokenizer's count, roughly.";
    modality: Modality, Request, Body, "What the messages hold besides text.";
    has_images: bool, Request, Body, "An image is somewhere in the conversation.";
    has_other_parts: bool, Request, Body, "Content that is neither text nor image is somewhere in the conversation.";
    unsupported: Vec<Cow<'static, str>>, Request, Field, "Body fields the built-in engines cannot honour.";
    stream: bool, Request, Field, "The caller wants a stream.";
    slo_first_content_ms: u64, Request, Field, "Milliseconds within which the caller wants the first content (`x-weir-first-content-ms`), 0 when not said.";
    slo_total_ms: u64, Request, Field, "Milliseconds within which the caller wants the whole answer (`x-weir-total-ms`), 0 when not said.";
}

impl Default for Features {
    /// Those of a request that asks nothing.
    fn default() -> Self {
        Features::of(&ChatRequest::default())
    }
}

impl Features {
    /// Computes them all. Linear in the size of the request.
    pub fn of(request: &ChatRequest) -> Features {
        Features::of_asked(request, &unwrap::asked(request))
    }

    /// The same for who unwrapped the request already.
    pub fn of_asked(request: &ChatRequest, asked: &Asked<'_>) -> Features {
        let text = head(&asked.text);
        let material = code::material(text);
        let mut leading = words::Leading::new();
        let densities = lexicon::densities(words::runs(text).inspect(|run| _ = leading.take(run)));
        let words = leading.0;
        let planning_shape = shapes::is_planning(text);
        let transform_shape = !planning_shape && shapes::is_transform(text);
        let edit_shape = !transform_shape && code::edits_quoted(&words, &material);
        let call_demanded = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_));
        let form_demanded = request.response_format != ResponseFormat::Text;
        let wants_json = shapes::wants_json(&words);
        // A puzzle or a list may be about lamps and timers without wanting any switched.
        let may_call = request.tool_choice != ToolChoice::None && !planning_shape && !transform_shape;
        let tool_needed = call_demanded || (may_call && tool_need::is_needed(&words, &request.tools));
        let question = lexicon::is_question(text);
        let expected = sizes::expected_tokens(&sizes::Wanted {
            words: &words,
            material: &material,
            asked_chars: text.chars().count() as u64,
            edit: edit_shape,
            transform: transform_shape,
            planning: planning_shape,
            structure: form_demanded || wants_json,
            tool: tool_needed,
            question,
        });
        let content = Content::of(request);
        let progress = conversation::progress(request);
        let wish = |hinted: Option<u64>, name| hinted.or_else(|| unwrap::body_hint_number(request, name)).unwrap_or(0);
        Features {
            trigger: asked.trigger,
            repeated: asked.repeated,
            agent: asked.agent.as_deref().and_then(conversation::plain_name).unwrap_or_default(),
            structure_demanded: call_demanded || form_demanded || wants_json,
            call_demanded,
            form_demanded,
            tool_needed,
            planning_shape,
            transform_shape,
            infill: material.gap || request.raw.get("suffix").is_some_and(|suffix| suffix.is_string()),
            edit_shape,
            has_code: material.code,
            has_diff: material.diff,
            code_fences: material.fences,
            question,
            language: language::of(text),
            asked_chars: asked.text.chars().count() as u64,
            asked_words: densities.words,
            quoted_chars: material.quoted_chars as u64,
            constraint_words: densities.constraint_words,
            digits_percent: densities.digits_percent,
            names_percent: densities.names_percent,
            expected_output_tokens: request.max_tokens.map_or(expected, |most| expected.min(u64::from(most))),
            max_tokens: request.max_tokens.map_or(0, u64::from),
            tail_is_tool_result: progress.tail_is_tool_result,
            conversation: progress.state,
            user_turns: progress.user_turns,
            tool_rounds: progress.tool_rounds,
            message_count: request.messages.len() as u64,
            tools_count: request.tools.len() as u64,
            prompt_chars: content.chars,
            prompt_bytes: content.bytes,
            prompt_tokens_estimate: content.bytes.div_ceil(4),
            modality: Modality::of(content.images, content.others),
            has_images: content.images,
            has_other_parts: content.others,
            unsupported: request.unsupported.iter().map(|field| Cow::Borrowed(*field)).collect(),
            stream: request.stream,
            slo_first_content_ms: wish(request.hints.first_content_ms, "first_content_ms"),
            slo_total_ms: wish(request.hints.total_ms, "total_ms"),
        }
    }
}

fn head(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_values_and_explanation_agree() {
        let features = Features::default();
        let explained = serde_json::to_value(&features).unwrap();
        let fields: Vec<&str> = explained.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, FEATURES.iter().map(|info| info.name).collect::<Vec<_>>());
        assert!(FEATURES.iter().all(|info| features.value(info.name).is_some()));
        assert_eq!(serde_json::from_value::<Features>(explained).unwrap(), features);
        assert!(features.value("no_such").is_none());
    }
}
