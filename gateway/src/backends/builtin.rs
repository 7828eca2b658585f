//! A built-in engine as a backend like any other: its generation becomes protocol events, `<tool_call>` text becomes
//! tool calls when tools are on offer. Must have no knowledge an upstream's backend would not have.

use std::sync::Arc;

use async_stream::stream;
use weir_diffusion_engine::{Engine, Generation, GenerationEvent};
use weir_protocol::{ChatRequest, EngineError, Event, FinishReason, Part, ToolChoice};

use super::tool_text::ToolText;
use super::{Attempt, BackendService, EventStream};

/// The engine as a service; `model` is the public name its answers carry.
pub fn service(engine: Engine, model: String) -> BackendService {
    let model: Arc<str> = model.into();
    BackendService::new(tower::service_fn(move |attempt: Attempt| {
        let (engine, model) = (engine.clone(), Arc::clone(&model));
        async move {
            honours(&attempt.request)?;
            could_fit(&attempt.request, u64::from(engine.info().context))?;
            let request = Arc::clone(&attempt.request);
            // Rendering and tokenizing a long prompt takes milliseconds: not on a thread that serves sockets.
            let started = tokio::task::spawn_blocking(move || engine.generate(&request)).await;
            let generation = started.map_err(|_| EngineError::internal("the engine's front end failed"))??;
            Ok(events(generation, model.to_string(), &attempt.request))
        }
    }))
}

/// More bytes than any token of a real vocabulary stands for: what has more of them fits no window, and to count it would take
/// seconds.
pub(crate) const TOKEN_BYTES_MAX: u64 = 256;

/// Refuses without counting what no tokenizer could fit.
fn could_fit(request: &ChatRequest, limit: u64) -> Result<(), EngineError> {
    let texts = request.messages.iter().flat_map(|message| &message.content).filter_map(Part::as_text);
    let bytes: u64 = texts.map(|text| text.len() as u64).sum();
    if bytes / TOKEN_BYTES_MAX > limit {
        // Not counted, so not said.
        return Err(EngineError::ContextTooLong { limit, got: 0 });
    }
    Ok(())
}

/// Refuses what the engines would otherwise silently leave out.
fn honours(request: &ChatRequest) -> Result<(), EngineError> {
    let unsupported = |field: &str, message: &str| {
        Err(EngineError::Unsupported { field: field.to_owned(), message: message.to_owned() })
    };
    if let Some(field) = request.unsupported.first() {
        return unsupported(field, "the built-in engines cannot honour it");
    }
    for part in request.messages.iter().flat_map(|message| &message.content) {
        match part {
            Part::Text(_) => {}
            Part::Image { .. } | Part::File { .. } | Part::Other { .. } => {
                return unsupported("messages", "the built-in engines read text only");
            }
        }
    }
    Ok(())
}

/// The functions an answer may call.
fn offered(request: &ChatRequest) -> Vec<String> {
    let names = request.tools.iter().map(|tool| tool.name.clone());
    match &request.tool_choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Auto | ToolChoice::Required => names.collect(),
        ToolChoice::Function(only) => names.filter(|name| name == only).collect(),
    }
}

fn events(mut generation: Generation, model: String, request: &ChatRequest) -> EventStream {
    let mut reader = ToolText::new(offered(request));
    Box::pin(stream! {
        yield Ok(Event::Started { model });
        while let Some(event) = generation.next().await {
            match event {
                GenerationEvent::Draft { snapshot, step, masked } => yield Ok(Event::Draft { snapshot, step, masked }),
                // Only for who sits at the machine.
                GenerationEvent::Step(_) => {}
                GenerationEvent::Logprobs(logprobs) => yield Ok(Event::Logprobs(logprobs)),
                GenerationEvent::Text(text) => {
                    for event in reader.push(&text) {
                        yield Ok(event);
                    }
                }
                GenerationEvent::StoppedAt(stop) => yield Ok(Event::StoppedAt(stop)),
                GenerationEvent::Done { reason, usage } => {
                    let (rest, called) = reader.finish(reason == FinishReason::Length);
                    for event in rest {
                        yield Ok(event);
                    }
                    yield Ok(Event::Usage(usage));
                    // A limit that cut the answer stays the reason: the calls before it may not be all of them.
                    let reason = if called && reason == FinishReason::Stop { FinishReason::ToolCalls } else { reason };
                    yield Ok(Event::Finished { reason });
                    return;
                }
                GenerationEvent::Failed(error) => {
                    yield Err(error);
                    return;
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::{Message, Role, Tool};

    fn saying(text: String) -> ChatRequest {
        ChatRequest { messages: vec![Message::text(Role::User, text)], ..ChatRequest::default() }
    }

    #[test]
    fn megabytes_are_refused_before_they_are_counted() {
        assert!(could_fit(&saying("x".repeat(10_000)), 100).is_ok());
        assert_eq!(
            could_fit(&saying("x".repeat(100_000)), 100),
            Err(EngineError::ContextTooLong { limit: 100, got: 0 })
        );
    }

    #[test]
    fn what_would_be_left_out_is_refused() {
        let mut image = saying("look".into());
        image.messages[0].content.push(Part::image("data:"));
        assert_eq!(honours(&image).map_err(|error| error.kind()), Err("unsupported"));
        let many = ChatRequest { unsupported: vec!["n"], ..saying("x".into()) };
        assert_eq!(honours(&many).map_err(|error| error.kind()), Err("unsupported"));
        assert_eq!(honours(&saying("x".into())), Ok(()));
    }

    #[test]
    fn only_what_may_be_called_is_offered() {
        let tool = |name: &str| Tool {
            name: name.into(),
            description: None,
            parameters: serde_json::Value::Null,
            ..Tool::default()
        };
        let mut request = ChatRequest { tools: vec![tool("a"), tool("b")], ..saying("x".into()) };
        assert_eq!(offered(&request), ["a", "b"]);
        request.tool_choice = ToolChoice::Function("b".into());
        assert_eq!(offered(&request), ["b"]);
        request.tool_choice = ToolChoice::None;
        assert!(offered(&request).is_empty());
    }
}
