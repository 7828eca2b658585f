//! A chat completions body: the caller's own where it speaks this dialect, else one built from what was understood of
//! another. Must never leave out a demand: what has no field here is refused.

use serde_json::{Map, Value, json};
use weir_protocol::{ChatRequest, Dialect, Effort, EngineError, ResponseFormat, ToolChoice};

use super::{parts, turns};
use crate::backends::upstream::body::{self, Fields};
use crate::backends::upstream::demands::{self, unsupported};
use crate::config::wire::{LimitField, PrefillForm, WireSettings};

/// Demands whose answers are passed on, but have no place among our events: several answers, of which a stream would be
/// over with the first, and speech, which is another thing in a stream.
const SEVERAL: &[&str] = &["n", "best_of"];
const SPEECH: &[&str] = &["modalities", "audio"];

/// What a caller of responses says in the same words, and pays for. Its other hints are left out: many servers of this
/// dialect refuse fields they do not know.
const PAID: &[&str] = &["service_tier"];

/// The bytes to send.
///
/// # Errors
/// The request demands what cannot be sent, or whose answer could not come back.
pub(in crate::backends) fn body(
    request: &ChatRequest,
    model: &str,
    wire: &WireSettings,
) -> Result<Vec<u8>, EngineError> {
    if request.is_in(Dialect::OpenAiChat) {
        return forwarded(request, model, wire);
    }
    demands::refuse_own_forms(request)?;
    demands::refuse_untold(request, wire)?;
    parts::refuse_linked_files(request)?;
    let mut fields = Fields::default();
    fields.set("model", model);
    fields.set("messages", turns::conversation(&request.messages, model, wire.reasoning_field));
    fields.set_some(wire.limit_field.as_str(), request.max_tokens);
    if request.prefill {
        prefill(wire.prefill, &mut fields)?;
    }
    fields.set_some("reasoning_effort", request.effort.filter(|_| wire.takes_effort).map(Effort::word));
    tools(request, &mut fields);
    form(request, &mut fields);
    sampling(request, &mut fields);
    if request.dialect == Dialect::OpenAiResponses {
        fields.set_shared(&request.raw, PAID);
    }
    fields.set("stream", true);
    fields.set("stream_options", json!({"include_usage": true}));
    body::bytes(&fields.0)
}

fn prefill(form: PrefillForm, fields: &mut Fields) -> Result<(), EngineError> {
    match form {
        PrefillForm::None => return Err(unsupported("messages", "this upstream goes on from no assistant's words")),
        PrefillForm::LastMessage => {}
        PrefillForm::ContinueFinalMessage => {
            fields.set("continue_final_message", true);
            fields.set("add_generation_prompt", false);
        }
    }
    Ok(())
}

/// The caller's own body.
///
/// # Errors
/// The request demands what could not come back.
pub(super) fn forwarded(request: &ChatRequest, model: &str, wire: &WireSettings) -> Result<Vec<u8>, EngineError> {
    demands::refuse_own_forms(request)?;
    let demanded = |demands: &[&str]| request.unsupported.iter().copied().find(|field| demands.contains(field));
    if let Some(field) = demanded(SEVERAL).filter(|_| request.stream) {
        return Err(unsupported(field, "several answers are not streamed"));
    }
    let as_it_is = demanded(SEVERAL).or(demanded(SPEECH)).is_some();
    let mut ours: Vec<(&'static str, Value)> = vec![("model", model.into())];
    let older = request.raw.get("max_tokens").is_some_and(|limit| !limit.is_null());
    let is_chat = request.dialect == Dialect::OpenAiChat;
    if let Some(limit) = request.max_tokens.filter(|_| is_chat && older && wire.limit_field != LimitField::MaxTokens) {
        // The name that its callers still use is refused there.
        ours.extend([("max_tokens", Value::Null), (wire.limit_field.as_str(), limit.into())]);
    }
    if !request.stream && (as_it_is || !wire.stream_whole) {
        ours.push(("stream", false.into()));
        return body::forwarded(request, &ours);
    }
    let options = request.raw.get("stream_options").and_then(Value::as_object).cloned();
    let mut options: Map<String, Value> = options.unwrap_or_default();
    // Always counted, for metrics; whether the caller sees it is decided on the way out.
    options.insert("include_usage".into(), Value::Bool(true));
    ours.extend([("stream", true.into()), ("stream_options", options.into())]);
    body::forwarded(request, &ours)
}

fn tools(request: &ChatRequest, fields: &mut Fields) {
    if request.tools.is_empty() {
        return;
    }
    let tool = |tool: &weir_protocol::Tool| {
        let mut function = Fields::default();
        function.set("name", tool.name.as_str());
        function.set_some("description", tool.description.as_deref());
        function.set_some("parameters", Some(&tool.parameters).filter(|schema| !schema.is_null()).cloned());
        function.set_some("strict", tool.strict.then_some(true));
        json!({"type": "function", "function": function.0})
    };
    fields.set("tools", request.tools.iter().map(tool).collect::<Vec<_>>());
    fields.set_some("parallel_tool_calls", request.parallel_tool_calls);
    match &request.tool_choice {
        ToolChoice::Auto => {}
        ToolChoice::None => fields.set("tool_choice", "none"),
        ToolChoice::Required => fields.set("tool_choice", "required"),
        ToolChoice::Function(name) => {
            fields.set("tool_choice", json!({"type": "function", "function": {"name": name}}));
        }
    }
}

fn form(request: &ChatRequest, fields: &mut Fields) {
    match &request.response_format {
        ResponseFormat::JsonObject => fields.set("response_format", json!({"type": "json_object"})),
        ResponseFormat::JsonSchema(schema) => {
            let named = body::named_schema(schema, &request.schema_terms);
            fields.set("response_format", json!({"type": "json_schema", "json_schema": named.0}));
        }
        // The last two were refused before.
        ResponseFormat::Text | ResponseFormat::Regex(_) | ResponseFormat::Grammar(_) => {}
    }
}

/// `top_k` and the three after it are no fields of OpenAI's, but of nearly all servers that speak its dialect; one that
/// knows them not says so, and that is better than leaving them out.
fn sampling(request: &ChatRequest, fields: &mut Fields) {
    let sampling = &request.sampling;
    fields.set_number("temperature", sampling.temperature);
    fields.set_number("top_p", sampling.top_p);
    fields.set_some("top_k", sampling.top_k.filter(|most| *most > 0));
    fields.set_number("min_p", sampling.min_p.filter(|least| *least > 0.0));
    fields.set_number("repetition_penalty", sampling.repetition_penalty.filter(|penalty| *penalty != 1.0));
    fields.set_some("min_tokens", sampling.min_tokens.filter(|least| *least > 0));
    fields.set_some("seed", sampling.seed.map(u64::cast_signed));
    fields.set_number("frequency_penalty", sampling.frequency_penalty);
    fields.set_number("presence_penalty", sampling.presence_penalty);
    fields.set_list("stop", sampling.stop.iter().map(|stop| stop.as_str().into()).collect());
    if !sampling.logit_bias.is_empty() {
        let bias = sampling.logit_bias.iter().map(|(token, bias)| (token.to_string(), body::number(*bias)));
        fields.set("logit_bias", bias.collect::<Map<_, _>>());
    }
    if let Some(count) = sampling.logprobs {
        fields.set("logprobs", true);
        fields.set("top_logprobs", count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openai_chat::decode::decode;
    use crate::config::wire::{BackendKind, ReasoningField};

    /// As a config without a word about it.
    fn wire() -> WireSettings {
        WireSettings::plain(BackendKind::OpenAiChat)
    }

    /// A request in this dialect, as it is sent on.
    #[track_caller]
    fn check_forwarded(body: &str, expect: &str) {
        let request = decode(body.as_bytes()).expect("a good request");
        let sent = super::body(&request, "up-1", &wire()).expect("bytes");
        assert_eq!(String::from_utf8(sent).expect("text"), expect);
    }

    /// The same request as if it had come in another dialect: built anew from what was understood.
    fn composed(body: Value) -> Result<Value, EngineError> {
        let mut request = decode(body.to_string().as_bytes()).expect("a good request");
        request.dialect = Dialect::AnthropicMessages;
        super::body(&request, "up-1", &wire()).map(|sent| serde_json::from_slice(&sent).expect("JSON"))
    }

    #[test]
    fn unknown_fields_survive() {
        check_forwarded(
            r#"{"messages":[{"role":"user","content":"hi","x":1}],"model":"auto","x_own":{"b":1,"a":2}}"#,
            r#"{"model":"up-1","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi","x":1}],"x_own":{"b":1,"a":2}}"#,
        );
        check_forwarded(
            r#"{"messages":[{"role":"user","content":"hi"}],"stream":false,"stream_options":{"x":1,"include_usage":false}}"#,
            r#"{"model":"up-1","stream":true,"stream_options":{"x":1,"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#,
        );
    }

    #[test]
    fn a_limit_has_the_name_that_the_server_takes() {
        let newer = WireSettings { limit_field: LimitField::MaxCompletionTokens, ..wire() };
        for (limits, expect) in [
            (json!({"max_tokens": 9}), [Value::Null, json!(9)]),
            (json!({"max_tokens": 9, "max_completion_tokens": 8}), [Value::Null, json!(8)]),
            (json!({"max_completion_tokens": 8}), [Value::Null, json!(8)]),
            (json!({}), [Value::Null, Value::Null]),
        ] {
            let mut asked = json!({"messages": [{"role": "user", "content": "hi"}]});
            asked.as_object_mut().expect("an object").extend(limits.as_object().expect("an object").clone());
            let request = decode(asked.to_string().as_bytes()).expect("a good request");
            let sent = super::body(&request, "up-1", &newer).expect("bytes");
            let sent: Map<String, Value> = serde_json::from_slice(&sent).expect("JSON");
            let told = ["max_tokens", "max_completion_tokens"].map(|key| sent.get(key).cloned().unwrap_or_default());
            assert_eq!(told, expect, "{limits}");
            assert!(!sent.values().any(Value::is_null));
        }
    }

    #[test]
    fn long_numbers_keep_their_digits() {
        check_forwarded(
            r#"{"messages":[{"role":"user","content":"\ud83d","x":[ 1e5 ]}],"model":"auto","y":1, "y":1.0,"x_own":{"at":123456789012345678901,"p":0.12345678901234567890}}"#,
            r#"{"model":"up-1","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"\ufffd","x":[ 1e5 ]}],"y":1.0,"x_own":{"at":123456789012345678901,"p":0.12345678901234567890}}"#,
        );
    }

    #[test]
    fn what_cannot_come_back_is_not_sent() {
        let of = |unsupported, stream| {
            let sent = body(&ChatRequest { unsupported, stream, ..ChatRequest::default() }, "m", &wire());
            sent.map(|sent| serde_json::from_slice::<Value>(&sent).expect("JSON")["stream"] == true)
        };
        assert!(matches!(of(vec!["tools", "n"], true), Err(EngineError::Unsupported { field, .. }) if field == "n"));
        // Whole they are asked for as the caller does.
        assert_eq!((of(vec!["n"], false), of(vec!["audio"], false)), (Ok(false), Ok(false)));
        assert_eq!((of(vec!["audio"], true), of(vec!["web_search_options"], false)), (Ok(true), Ok(true)));
    }

    #[test]
    fn everything_understood_is_said_again() {
        let said = json!({
            "model": "up-1",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"x\":1}"}},
                    {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
                {"role": "tool", "tool_call_id": "c2", "content": "a dog"},
                {"role": "assistant", "content": "A cat."},
                {"role": "user", "content": "sure?"}],
            "max_tokens": 9,
            "tools": [{"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}, "strict": true}}],
            "parallel_tool_calls": false,
            "tool_choice": "required",
            "response_format": {"type": "json_schema", "json_schema": {"name": "thing", "description": "d", "schema": {"type": "object"}, "strict": true}},
            "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "min_tokens": 2, "seed": 3,
            "frequency_penalty": 0.5, "presence_penalty": 0.25, "stop": ["x"], "logit_bias": {"7": 1.5},
            "logprobs": true, "top_logprobs": 2,
            "stream": true, "stream_options": {"include_usage": true},
        });
        assert_eq!(composed(said.clone()).expect("sent"), said);
    }

    #[test]
    fn neighbours_of_one_role_are_one_turn() {
        let says = |role: &str, text: &str| json!({"role": role, "content": text});
        let rule = |text: &str| says("system", text);
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
        let look = |text: &str| json!({"type": "text", "text": text});
        let sent = composed(json!({"messages": [
            rule("a"), rule(""), rule("b"), says("user", "hi"), rule("c"),
            says("assistant", "one"), says("assistant", "two"),
            {"role": "assistant", "content": null, "tool_calls": [call("c1")]},
            {"role": "assistant", "content": "three", "tool_calls": [call("c2")]},
            {"role": "tool", "tool_call_id": "c1", "content": [look("r"), image]},
            {"role": "tool", "tool_call_id": "c2", "content": "s"},
            says("user", "so"), {"role": "user", "content": [image]}, says("user", "?"),
            says("assistant", "")]}));
        let expect = json!([
            rule("a\n\nb"), says("user", "hi"), rule("c"),
            {"role": "assistant", "content": "one\n\ntwo\n\nthree", "tool_calls": [call("c1"), call("c2")]},
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
            {"role": "tool", "tool_call_id": "c2", "content": "s"},
            {"role": "user", "content": [look("Shown by the tool call c1:"), image, look("so"), image, look("?")]},
            says("assistant", "")]);
        assert_eq!(sent.expect("sent")["messages"], expect);
    }

    #[test]
    fn images_of_results_are_shown_after_all_results() {
        let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
        let result = |id: &str, content: Value| json!({"role": "tool", "tool_call_id": id, "content": content});
        let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}});
        let told = json!({"messages": [
            {"role": "assistant", "content": null, "tool_calls": [call("c1"), call("c2")]},
            result("c1", json!([{"type": "text", "text": "a cat"}, image])), result("c2", json!("a dog"))], "seed": -1});
        let sent = composed(told).expect("sent");
        assert_eq!(sent["messages"][1], result("c1", json!("a cat")));
        assert_eq!(sent["messages"][2], result("c2", json!("a dog")));
        let said = json!({"type": "text", "text": "Shown by the tool call c1:"});
        assert_eq!(sent["messages"][3], json!({"role": "user", "content": [said, image]}));
        assert_eq!((sent["messages"].as_array().map(Vec::len), &sent["seed"]), (Some(4), &json!(-1)));
    }

    #[test]
    fn what_was_thought_is_told_where_it_is_wanted() {
        let call = json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
        let turn = |more: Value| crate::api::reading::tests::with(json!({"role": "assistant"}), more);
        let user = json!({"role": "user", "content": "so?"});
        let told = json!({"messages": [
            turn(json!({"content": "a", "reasoning_content": "hm"})), user,
            turn(json!({"content": null, "tool_calls": call})), user,
            turn(json!({"content": "b"}))]});
        let mut request = decode(told.to_string().as_bytes()).expect("a good request");
        request.dialect = Dialect::AnthropicMessages;
        let sent = |reasoning_field| {
            let sent = super::body(&request, "m", &WireSettings { reasoning_field, ..wire() }).expect("bytes");
            let sent: Value = serde_json::from_slice(&sent).expect("JSON");
            [0, 2, 4].map(|at| sent["messages"][at]["reasoning"].as_str().map(str::to_owned))
        };
        assert_eq!(sent(ReasoningField::Reasoning), [Some("hm".into()), Some(" ".into()), None]);
        assert_eq!(sent(ReasoningField::None), [None, None, None]);
    }

    #[test]
    fn a_whole_answer_may_be_asked_for_as_such() {
        let request = decode(br#"{"messages":[{"role":"user","content":"hi"}]}"#).expect("a good request");
        let sent = super::body(&request, "m", &WireSettings { stream_whole: false, ..wire() }).expect("bytes");
        let expect = r#"{"model":"m","stream":false,"messages":[{"role":"user","content":"hi"}]}"#;
        assert_eq!(String::from_utf8(sent).expect("text"), expect);
    }

    #[test]
    fn an_assistants_words_are_gone_on_from_where_that_is_known_to_work() {
        let messages = json!([{"role": "user", "content": "count"}, {"role": "assistant", "content": "one,"}]);
        let mut request = decode(json!({"messages": messages}).to_string().as_bytes()).expect("a good request");
        (request.prefill, request.amended, request.effort) = (true, true, Some(Effort::Tokens(5000)));
        let sent = |prefill| {
            let wire = WireSettings { prefill, takes_effort: true, ..wire() };
            super::body(&request, "m", &wire).map(|sent| serde_json::from_slice::<Value>(&sent).expect("JSON"))
        };
        assert!(matches!(sent(PrefillForm::None), Err(EngineError::Unsupported { .. })));
        let plain = sent(PrefillForm::LastMessage).expect("sent");
        assert_eq!((&plain["messages"][1]["content"], &plain["reasoning_effort"]), (&json!("one,"), &json!("medium")));
        let told = sent(PrefillForm::ContinueFinalMessage).expect("sent");
        assert_eq!((&told["continue_final_message"], &told["add_generation_prompt"]), (&json!(true), &json!(false)));
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let refused = |body: Value| match composed(body) {
            Err(EngineError::Unsupported { field, .. }) => field,
            other => format!("{other:?}"),
        };
        let user = json!([{"role": "user", "content": "hi"}]);
        assert_eq!(refused(json!({"messages": user, "n": 2})), "n");
        let audio = json!([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]);
        assert_eq!(refused(json!({"messages": audio})), "messages");
    }
}
