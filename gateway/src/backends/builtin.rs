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
            let request = Arc::clone(&attempt.request);
            // Rendering and tokenizing a long prompt takes milliseconds: not on a thread that serves sockets.
            let started = tokio::task::spawn_blocking(move || engine.generate(&request)).await;
            let generation = started.map_err(|_| EngineError::internal("the engine's front end failed"))??;
            Ok(events(generation, model.to_string(), &attempt.request))
        }
    }))
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
            Part::Image { .. } | Part::Other { .. } => return unsupported("messages", "the built-in engines read text only"),
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
                GenerationEvent::Text(text) => {
                    for event in reader.push(&text) {
                        yield Ok(event);
                    }
                }
                GenerationEvent::Done { reason, usage } => {
                    let (rest, called) = reader.finish();
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
