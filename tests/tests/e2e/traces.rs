//! Traces: a caller's is handed on, and with a collector each request is a span and each attempt one below it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_tests::asking::{client, metrics_until, question, read, with};
use weir_tests::binary::Weir;
use weir_tests::fault_upstream::FaultUpstream;
use weir_tests::trace_collector::{Span, TraceCollector};

use crate::backend;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

async fn ask(weir: &Weir, body: &Value, flags: Option<&str>) -> Result<u16> {
    let mut request = client()?.post(weir.url("/v1/chat/completions")).json(body);
    if let Some(flags) = flags {
        request = request.header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}")).header("tracestate", "a=1");
    }
    Ok(read(request.send().await?).await?.status)
}

fn story(model: &str, stream: bool) -> Value {
    with(question(model, "my locker code is plover"), json!({"stream": stream, "max_tokens": 16}))
}

#[tokio::test]
async fn without_a_collector_a_callers_trace_goes_on_as_it_came() -> Result<()> {
    let upstream = FaultUpstream::start().await?;
    let weir = Weir::start(&backend("fine", &upstream.base_url("fine")))?;
    ask(&weir, &story("fine", true), Some("01")).await?;
    ask(&weir, &story("fine", true), None).await?;
    let seen = upstream.seen();
    assert_eq!(seen[0].header("traceparent"), format!("00-{TRACE}-{PARENT}-01"));
    assert_eq!(seen[0].header("tracestate"), "a=1");
    assert_eq!((seen[1].header("traceparent"), seen[1].header("tracestate")), ("", ""), "nothing is made up");
    Ok(())
}

#[tokio::test]
async fn each_request_is_a_span_and_each_attempt_one_below_it() -> Result<()> {
    let (upstream, collector) = (FaultUpstream::start().await?, TraceCollector::start().await?);
    let config = format!(
        "[tracing.otlp]\nendpoint = \"{}\"\nheaders_env = \"TEST_OTLP\"\nservice = \"weir-test\"\n\n{}{}",
        collector.endpoint,
        backend("fine", &upstream.base_url("fine")),
        backend("bad", &upstream.base_url("500")),
    );
    let weir = Weir::start_with(&config, &[("TEST_OTLP", "x-token=secret")])?;
    assert_eq!(ask(&weir, &story("fine", true), Some("01")).await?, 200);
    assert_eq!(ask(&weir, &story("bad", true), None).await?, 200, "another takes over");
    assert_eq!(ask(&weir, &story("ar", true), None).await?, 200);
    assert_eq!(ask(&weir, &story("nobody", false), None).await?, 404);
    ask(&weir, &story("fine", false), Some("00")).await?;

    let spans = collector.spans(8).await?;
    let named = |name: &str| -> Result<&Span> {
        spans.iter().find(|span| span.name == name).with_context(|| format!("no span {name} in {spans:?}"))
    };
    let request = named("chat fine")?;
    let of_caller: Vec<&Span> = spans.iter().filter(|span| span.trace == TRACE).collect();
    assert_eq!(of_caller.len(), 2, "{of_caller:?}");
    let request = of_caller.iter().find(|span| span.kind == 2).copied().unwrap_or(request);
    assert_eq!((request.parent.as_str(), request.service.as_str()), (PARENT, "weir-test"));
    for (key, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "fine"),
        ("gen_ai.response.model", "upstream-7b-2026"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("http.response.status_code", "200"),
        ("weir.route", "fine"),
        ("weir.outcome", "finished"),
    ] {
        assert_eq!(request.get(key), value, "{key}: {request:?}");
    }
    assert!(request.get("gen_ai.usage.output_tokens").parse::<u64>().is_ok_and(|tokens| tokens > 0));
    let attempt = of_caller.iter().find(|span| span.kind == 3).context("its attempt")?;
    assert_eq!((&attempt.parent, attempt.get("server.address")), (&request.id, "127.0.0.1"));
    assert_eq!(attempt.get("server.port"), upstream.address().port().to_string());
    assert_eq!((attempt.get("gen_ai.provider.name"), attempt.get("gen_ai.request.model")), ("openai", "fine-model"));
    assert!(attempt.lasted > 0 && attempt.lasted <= request.lasted);
    let sent = upstream.seen();
    assert_eq!(sent[0].header("traceparent"), format!("00-{TRACE}-{}-01", attempt.id));
    assert_eq!(sent[0].header("tracestate"), "a=1");

    let failed =
        spans.iter().find(|span| span.kind == 3 && span.get("weir.backend") == "bad").context("the bad one")?;
    assert_eq!(
        (failed.failed, failed.get("error.type"), failed.get("http.response.status_code")),
        (true, "upstream", "500")
    );
    let beside = spans.iter().filter(|span| span.trace == failed.trace).count();
    assert_eq!(beside, 3, "the request, the bad backend and the one that took over");
    assert!(spans.iter().any(|span| span.kind == 1 && span.get("gen_ai.provider.name") == "weir"), "{spans:?}");
    let refused = spans.iter().find(|span| span.get("weir.outcome") == "unknown_model").context("the refusal")?;
    assert_eq!((refused.failed, refused.name.as_str()), (true, "chat"));
    metrics_until(&weir, "spans are counted", |page| page.sum("weir_spans_total", &[]) == 8.0).await?;
    assert_eq!(
        sent.last().map(|seen| seen.header("traceparent").ends_with("-00")),
        Some(true),
        "not sampled, passed on"
    );
    let (headers, strange) = collector.requests();
    assert_eq!(strange, 0);
    assert!(headers.iter().all(|headers| headers.get("x-token").is_some_and(|value| value == "secret")));
    assert!(!format!("{spans:?}").contains("plover"), "no prompt in spans");
    Ok(())
}

#[tokio::test]
async fn a_stop_sends_what_waits_and_a_collector_that_is_away_costs_only_spans() -> Result<()> {
    let (upstream, collector) = (FaultUpstream::start().await?, TraceCollector::start().await?);
    let config = |endpoint: &str| {
        let traces = format!("[tracing.otlp]\nendpoint = \"{endpoint}\"\n\n");
        traces + &backend("fine", &upstream.base_url("fine"))
    };
    let weir = Weir::start(&config(&collector.endpoint))?;
    ask(&weir, &story("fine", true), None).await?;
    assert_eq!(tokio::task::spawn_blocking(move || weir.terminate()).await??, Some(0));
    assert_eq!(collector.spans(2).await?.len(), 2);

    let away = FaultUpstream::refused_url().await?;
    let weir = Weir::start(&config(&away))?;
    assert_eq!(ask(&weir, &story("fine", true), None).await?, 200);
    metrics_until(&weir, "the loss is counted", |page| {
        page.sum("weir_spans_dropped_total", &[("cause", "export")]) == 2.0
    })
    .await?;
    Ok(())
}
