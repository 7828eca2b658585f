//! A messages body from a request of another dialect. Must never leave out a demand: what has no field here is refused.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use weir_protocol::{ChatRequest, Effort, EngineError, Message, Part, ResponseFormat, Role, Tool, ToolChoice};

use crate::backends::upstream::body::{self, Conversation, Fields};
use crate::backends::upstream::demands::{self, Demand, unsupported};
use crate::config::wire::WireSettings;

const TAKES: &[Demand] =
    &[Demand::Files, Demand::JsonSchema, Demand::Prefill, Demand::SomeCall, Demand::Stop, Demand::TopK];

#[derive(Serialize)]
struct Turn {
    role: &'static str,
    content: Vec<Block>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Block {
    Said(Value),
    Call {
        #[serde(rename = "type")]
        kind: &'static str,
        id: String,
        name: String,
        input: Box<RawValue>,
    },
}

/// The bytes to send.
///
/// # Errors
/// The request demands what cannot be said here.
pub(super) fn body(request: &ChatRequest, model: &str, wire: &WireSettings) -> Result<Vec<u8>, EngineError> {
    demands::refuse_untold(request, wire)?;
    demands::refuse_others(request, TAKES, "anthropic")?;
    let sampling = &request.sampling;
    if sampling.temperature.is_some_and(|temperature| temperature > 1.0) {
        return Err(unsupported("temperature", "an upstream of kind `anthropic` takes at most 1"));
    }
    let mut fields = Fields::default();
    fields.set("model", model);
    // The API demands a limit.
    let limit = request.max_tokens.unwrap_or(wire.max_tokens);
    fields.set("max_tokens", limit);
    if wire.takes_effort {
        thinking(request, limit, &mut fields);
    }
    let system = request.messages.iter().filter(|message| message.role == Role::System);
    let texts = system.flat_map(|message| message.content.iter().filter_map(Part::as_text));
    let system: Vec<Value> = texts.map(str::to_owned).filter_map(text_block).collect();
    fields.set_list("system", system);
    tools(request, &mut fields);
    if let ResponseFormat::JsonSchema(schema) = &request.response_format {
        fields.set("output_config", json!({"format": {"type": "json_schema", "schema": schema}}));
    }
    fields.set_number("temperature", sampling.temperature);
    // All of it is none, and newer models take only one of the two.
    fields.set_number("top_p", sampling.top_p.filter(|mass| *mass < 1.0));
    fields.set_some("top_k", sampling.top_k.filter(|most| *most > 0));
    fields.set_list("stop_sequences", sampling.stop.iter().map(|stop| stop.as_str().into()).collect());
    fields.set("stream", true);
    body::bytes(&Conversation { fields: fields.0, messages: conversation(&request.messages)? })
}

/// The wish gives way to demands beside which the API takes no thinking.
fn thinking(request: &ChatRequest, limit: u32, fields: &mut Fields) {
    let forced = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_));
    let sampled = request.sampling.temperature.is_some_and(|temperature| temperature != 1.0)
        || request.sampling.top_k.is_some_and(|most| most > 0);
    // Within a round of calls it would have to stand before them, sealed there.
    let in_calls = request.messages.last().is_some_and(|last| last.role == Role::Tool);
    match request.effort.map(Effort::tokens) {
        Some(Some(tokens)) if tokens < limit && !forced && !sampled && !request.prefill && !in_calls => {
            fields.set("thinking", json!({"type": "enabled", "budget_tokens": tokens}));
        }
        Some(None) => fields.set("thinking", json!({"type": "disabled"})),
        _ => {}
    }
}

/// Turns alternate here: results of tools are said by the user, and neighbours of one role become one turn.
fn conversation(messages: &[Message]) -> Result<Vec<Turn>, EngineError> {
    let mut turns: Vec<Turn> = Vec::new();
    for message in messages {
        let (role, blocks) = match message.role {
            Role::System => continue,
            Role::User => ("user", said(message)?.into_iter().map(Block::Said).collect()),
            Role::Tool => ("user", vec![Block::Said(result(message)?)]),
            Role::Assistant => ("assistant", assistant(message)?),
        };
        match turns.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            // An empty turn is refused there, and says nothing.
            _ if blocks.is_empty() => {}
            _ => turns.push(Turn { role, content: blocks }),
        }
    }
    Ok(turns)
}

fn said(message: &Message) -> Result<Vec<Value>, EngineError> {
    let block = |part: &Part| match part {
        Part::Text(text) => Ok(text_block(text.clone())),
        Part::Image { url, .. } => match source(url) {
            Some(source) => Ok(Some(json!({"type": "image", "source": source}))),
            None => Err(unsupported("messages", "an image is neither a base64 data URL nor on the web")),
        },
        Part::File { url, name } => file(url, name.as_deref()).map(Some),
        // Refused before.
        Part::Other { .. } => Ok(None),
    };
    let blocks: Result<Vec<Option<Value>>, EngineError> = message.content.iter().map(block).collect();
    Ok(blocks?.into_iter().flatten().collect())
}

/// Empty blocks are refused there.
fn text_block(text: String) -> Option<Value> {
    (!text.is_empty()).then(|| json!({"type": "text", "text": text}))
}

/// `None` for an address that is neither data nor on the web.
fn source(url: &str) -> Option<Value> {
    if let Some((media, data)) = body::data_url(url) {
        return Some(json!({"type": "base64", "media_type": media, "data": data}));
    }
    let is_web = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
    is_web.then(|| json!({"type": "url", "url": url}))
}

fn file(url: &str, name: Option<&str>) -> Result<Value, EngineError> {
    let source = source(url).filter(|source| source["type"] == "url" || source["media_type"] == "application/pdf");
    let refused = || unsupported("messages", "a file is neither a PDF as a base64 data URL nor on the web");
    let mut fields = Fields::default();
    fields.set("type", "document");
    fields.set("source", source.ok_or_else(refused)?);
    fields.set_some("title", name);
    Ok(fields.0.into())
}

fn result(message: &Message) -> Result<Value, EngineError> {
    let mut fields = Fields::default();
    fields.set("type", "tool_result");
    fields.set_some("tool_use_id", message.tool_call_id.as_deref().map(call_id));
    fields.set_list("content", said(message)?);
    if message.tool_failed {
        fields.set("is_error", true);
    }
    Ok(fields.0.into())
}

/// Reasoning is not sent back: without this upstream's own seal on it, it would be refused.
fn assistant(message: &Message) -> Result<Vec<Block>, EngineError> {
    let mut blocks: Vec<Block> = said(message)?.into_iter().map(Block::Said).collect();
    for call in &message.tool_calls {
        let (id, name, input) = (call_id(&call.id), call.name.clone(), body::arguments(call)?);
        blocks.push(Block::Call { kind: "tool_use", id, name, input });
    }
    Ok(blocks)
}

/// Calls of other backends have ids that are refused there, such as `functions.look:0`.
fn call_id(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    if id.is_empty() { "_".into() } else { id.chars().map(plain).collect() }
}

fn tools(request: &ChatRequest, fields: &mut Fields) {
    if request.tools.is_empty() {
        return;
    }
    let tool = |tool: &Tool| {
        let mut fields = Fields::default();
        fields.set("name", tool.name.as_str());
        fields.set_some("description", tool.description.as_deref());
        let schema = Some(&tool.parameters).filter(|schema| !schema.is_null()).cloned();
        fields.set("input_schema", schema.unwrap_or_else(|| json!({"type": "object"})));
        fields.set_some("strict", tool.strict.then_some(true));
        Value::from(fields.0)
    };
    fields.set("tools", request.tools.iter().map(tool).collect::<Vec<_>>());
    let mut choice = Fields::default();
    match &request.tool_choice {
        ToolChoice::Auto => choice.set("type", "auto"),
        ToolChoice::None => choice.set("type", "none"),
        ToolChoice::Required => choice.set("type", "any"),
        ToolChoice::Function(name) => {
            choice.set("type", "tool");
            choice.set("name", name.as_str());
        }
    }
    if request.parallel_tool_calls == Some(false) && request.tool_choice != ToolChoice::None {
        choice.set("disable_parallel_tool_use", true);
    }
    fields.set("tool_choice", choice.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::upstream::tests::script::{sent, unsendable};
    use crate::config::wire::BackendKind;

    fn compose(request: &ChatRequest) -> Result<Vec<u8>, EngineError> {
        super::body(
            request,
            "claude",
            &WireSettings { takes_effort: true, ..WireSettings::plain(BackendKind::Anthropic) },
        )
    }

    #[test]
    fn a_chat_becomes_messages() {
        let chat = json!({
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "developer", "content": "be kind"},
                {"role": "user", "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"x\":1}"}},
                    {"id": "functions.look:1", "type": "function", "function": {"name": "look", "arguments": ""}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
                {"role": "tool", "tool_call_id": "functions.look:1", "content": ""},
                {"role": "user", "content": "sure?"}],
            "tools": [{"type": "function", "function": {"name": "look", "description": "d"}}],
            "tool_choice": "required", "parallel_tool_calls": false,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
            "temperature": 0.7, "top_p": 0.9, "top_k": 5, "stop": ["x"],
        });
        let expect = json!({
            "model": "claude", "max_tokens": 99,
            "system": [{"type": "text", "text": "be brief"}, {"type": "text", "text": "be kind"}],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c1", "name": "look", "input": {"x": 1}},
                    {"type": "tool_use", "id": "functions_look_1", "name": "look", "input": {}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "a cat"}]},
                    {"type": "tool_result", "tool_use_id": "functions_look_1"},
                    {"type": "text", "text": "sure?"}]}],
            "tools": [{"name": "look", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
            "temperature": 0.7, "top_p": 0.9, "top_k": 5, "stop_sequences": ["x"], "stream": true,
        });
        assert_eq!(sent(compose, &chat).expect("sent"), expect);
    }

    #[test]
    fn files_are_documents() {
        let file = |file: Value| {
            let parts = json!([{"type": "text", "text": "?"}, {"type": "file", "file": file}]);
            json!({"messages": [{"role": "user", "content": parts}]})
        };
        let told = |given: Value| sent(compose, &file(given)).expect("sent")["messages"][0]["content"][1].clone();
        let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "AA"});
        let data = "data:application/pdf;base64,AA";
        let named = json!({"type": "document", "source": pdf, "title": "a.PDF"});
        assert_eq!(told(json!({"filename": "a.PDF", "file_data": data})), named);
        assert_eq!(told(json!({"filename": "a.PDF", "file_data": "AA"})), named);
        let url = json!({"type": "url", "url": "https://x.test/a"});
        assert_eq!(told(json!({"file_data": "https://x.test/a"})), json!({"type": "document", "source": url}));
        let word = json!({"filename": "a.docx", "file_data": "data:application/msword;base64,AA"});
        for given in [word, json!({"filename": "a.docx", "file_data": "AA"}), json!({"file_id": "f"})] {
            assert_eq!(unsendable(compose, &file(given)), "messages");
        }
    }

    #[test]
    fn a_wish_to_think_gives_way_to_demands() {
        let thinks = |more: Value| {
            let mut body = json!({"messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "medium", "max_tokens": 9000});
            body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            sent(compose, &body).expect("sent")["thinking"].clone()
        };
        assert_eq!(thinks(json!({})), json!({"type": "enabled", "budget_tokens": 4096}));
        assert_eq!(thinks(json!({"reasoning_effort": "none"})), json!({"type": "disabled"}));
        for more in [json!({"max_tokens": 4096}), json!({"temperature": 0.5}), json!({"top_k": 3})] {
            assert_eq!(thinks(more.clone()), Value::Null, "{more}");
        }
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let refused = |more: Value| {
            let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
            let more = more.as_object().expect("an object").clone();
            body.as_object_mut().expect("an object").extend(more);
            unsendable(compose, &body)
        };
        assert_eq!(refused(json!({"seed": 7})), "seed");
        assert_eq!(refused(json!({"n": 2})), "n");
        assert_eq!(refused(json!({"temperature": 1.5})), "temperature");
        assert_eq!(refused(json!({"response_format": {"type": "json_object"}})), "response_format");
        assert_eq!(refused(json!({"logprobs": true})), "logprobs");
        assert_eq!(refused(json!({"logit_bias": {"1": 1}})), "logit_bias");
    }
}
