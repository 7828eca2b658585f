//! A record as spans, in the words of OpenTelemetry's semantic conventions for generative AI (`gen_ai.*`) and HTTP: one for
//! the request, below it one for each attempt. What is ours is named `weir.*`. Names and attributes hold the config's
//! names and words of the protocol; nothing a caller wrote but the model, and that only if there is such a model.

use std::collections::HashMap;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use weir_protocol::{Dialect, Usage};

use super::TraceContext;
use crate::config::BackendSettings;
use crate::config::wire::BackendKind;
use crate::record::attempts::AttemptNote;
use crate::record::closed::{Closed, FINISHED};

/// Where an upstream is, for its attempts' spans.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    provider: &'static str,
    model: String,
    address: String,
    port: Option<u16>,
}

/// By the backends' names; built-in engines have none.
pub(super) fn origins(backends: &[BackendSettings]) -> HashMap<String, Origin> {
    backends.iter().map(|backend| (backend.name.clone(), origin(backend))).collect()
}

fn origin(backend: &BackendSettings) -> Origin {
    let url = reqwest::Url::parse(&backend.base_url).ok();
    Origin {
        provider: match backend.wire.kind {
            BackendKind::OpenAiChat | BackendKind::OpenAiResponses => "openai",
            BackendKind::Anthropic => "anthropic",
            BackendKind::Ollama => "ollama",
            BackendKind::SglangDllm => "sglang",
        },
        model: backend.model.clone(),
        address: url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default().to_owned(),
        port: url.as_ref().and_then(reqwest::Url::port_or_known_default),
    }
}

/// The spans of a request; none if it is not recorded.
pub(super) fn of(closed: &Closed, origins: &HashMap<String, Origin>, scope: &InstrumentationScope) -> Vec<SpanData> {
    let Some(trace) = &closed.trace else { return Vec::new() };
    let Some(own) = trace.span_id else { return Vec::new() };
    let mut spans = vec![request(closed, trace, own, scope)];
    let attempts = closed.attempts.iter().filter_map(|note| Some((note, note.span_id?)));
    spans.extend(attempts.map(|(note, id)| attempt(closed, note, (trace.trace_id, own, id), origins, scope)));
    spans
}

fn request(closed: &Closed, trace: &TraceContext, own: u64, scope: &InstrumentationScope) -> SpanData {
    let mut attributes = vec![
        text("gen_ai.operation.name", operation(closed.dialect)),
        text("gen_ai.provider.name", "weir"),
        text("weir.request_id", closed.id.clone()),
        text("weir.dialect", closed.dialect.as_str()),
        text("weir.outcome", closed.outcome),
    ];
    let mut name = operation(closed.dialect).to_owned();
    if let Some(model) = closed.own_model() {
        name = format!("{name} {model}");
        attributes.push(text("gen_ai.request.model", model.to_owned()));
    }
    if let (Some(asked), Some(plan)) = (&closed.asked, &closed.plan) {
        attributes.push(KeyValue::new("weir.stream", asked.stream));
        attributes.push(text("weir.route", plan.route.clone()));
        attributes.push(text("weir.rule", plan.rule.clone()));
        attributes.push(text("weir.reason", plan.reason.clone()));
    }
    attributes.extend(closed.tenant.as_ref().map(|tenant| text("weir.tenant", tenant.to_string())));
    attributes.extend(closed.why.as_ref().map(|why| text("weir.why", why.clone())));
    attributes.extend(closed.backend.as_ref().map(|backend| text("weir.backend", backend.clone())));
    attributes.extend(closed.status.map(|status| number("http.response.status_code", u64::from(status))));
    attributes.extend(closed.overhead.map(|overhead| KeyValue::new("weir.overhead", overhead.as_secs_f64())));
    let first = closed.first_content.map(|at| at.saturating_duration_since(closed.asked_at()).as_secs_f64());
    attributes.extend(first.map(|seconds| KeyValue::new("gen_ai.response.time_to_first_chunk", seconds)));
    answered(closed, &mut attributes);
    failed(closed.outcome, &mut attributes);
    SpanData {
        span_context: context(trace.trace_id, own),
        parent_span_id: trace.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
        parent_span_is_remote: trace.parent.is_some(),
        span_kind: SpanKind::Server,
        name: name.into(),
        start_time: closed.time,
        end_time: closed.wall(closed.ended),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: status(closed.outcome),
        instrumentation_scope: scope.clone(),
    }
}

fn attempt(
    closed: &Closed,
    note: &AttemptNote,
    (trace, parent, own): (u128, u64, u64),
    origins: &HashMap<String, Origin>,
    scope: &InstrumentationScope,
) -> SpanData {
    let origin = origins.get(&note.backend);
    let end = note.ended();
    let operation = operation(closed.dialect);
    let provider = origin.map_or("weir", |origin| origin.provider);
    let mut attributes = vec![
        text("gen_ai.operation.name", operation),
        text("gen_ai.provider.name", provider),
        // The older name, which many a viewer still reads.
        text("gen_ai.system", provider),
        text("weir.backend", note.backend.clone()),
        text("weir.attempt.purpose", note.purpose.as_str()),
        text("weir.outcome", end.outcome),
    ];
    if let Some(origin) = origin {
        attributes.push(text("gen_ai.request.model", origin.model.clone()));
        attributes.push(text("server.address", origin.address.clone()));
        attributes.extend(origin.port.map(|port| number("server.port", u64::from(port))));
    }
    attributes.extend(end.status.map(|status| number("http.response.status_code", u64::from(status))));
    attributes.extend(end.why.map(|why| text("weir.why", why)));
    if end.outcome == FINISHED {
        answered(closed, &mut attributes);
    }
    failed(end.outcome, &mut attributes);
    SpanData {
        span_context: context(trace, own),
        parent_span_id: SpanId::from_bytes(parent.to_be_bytes()),
        parent_span_is_remote: false,
        span_kind: if origin.is_some() { SpanKind::Client } else { SpanKind::Internal },
        name: format!("{operation} {}", note.backend).into(),
        start_time: closed.wall(note.started),
        end_time: closed.wall(end.at),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: status(end.outcome),
        instrumentation_scope: scope.clone(),
    }
}

/// What the answer says about itself.
fn answered(closed: &Closed, attributes: &mut Vec<KeyValue>) {
    if let Some(model) = &closed.answered_model {
        attributes.push(text("gen_ai.response.model", model.clone()));
    }
    if let Some(reason) = closed.reason {
        let reasons = vec![StringValue::from(reason.as_str())];
        attributes.push(KeyValue::new("gen_ai.response.finish_reasons", Value::Array(reasons.into())));
    }
    if let Some(Usage { prompt_tokens, completion_tokens, cached_tokens, diffusion, .. }) = &closed.usage {
        attributes.push(number("gen_ai.usage.input_tokens", *prompt_tokens));
        attributes.push(number("gen_ai.usage.output_tokens", *completion_tokens));
        attributes.push(number("gen_ai.usage.cache_read.input_tokens", *cached_tokens));
        attributes.extend(diffusion.as_ref().map(|stats| number("weir.denoise_steps", u64::from(stats.steps))));
    }
}

/// The outcomes that are nobody's fault.
fn is_fault(outcome: &str) -> bool {
    !matches!(outcome, FINISHED | "cancelled" | "lost")
}

fn failed(outcome: &'static str, attributes: &mut Vec<KeyValue>) {
    if is_fault(outcome) {
        attributes.push(text("error.type", outcome));
    }
}

fn status(outcome: &'static str) -> Status {
    if is_fault(outcome) { Status::error(outcome) } else { Status::Unset }
}

fn context(trace: u128, span: u64) -> SpanContext {
    let (trace, span) = (TraceId::from_bytes(trace.to_be_bytes()), SpanId::from_bytes(span.to_be_bytes()));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}

fn operation(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiCompletions => "text_completion",
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::AnthropicMessages => "chat",
    }
}

fn text(key: &'static str, value: impl Into<StringValue>) -> KeyValue {
    KeyValue::new(key, Value::String(value.into()))
}

/// The protocol has no unsigned numbers.
fn number(key: &'static str, value: u64) -> KeyValue {
    KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX))
}
