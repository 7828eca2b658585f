//! Scripted backends under paused time: who answers, what the caller sees, and that each request counts once.

mod continued;
mod empty;
mod ending;
mod extra;
mod groups;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use weir_protocol::{ChatRequest, DecodeMode, DiffusionOptions, EngineError, Event, FinishReason, TimeoutPhase, Usage};

use super::dice::Dice;
use super::ending::Ending;
use super::open::Step;
use super::run::{Given, Search};
use super::standing::{Class, Standing};
use super::{Answer, Refusal, RouteReport};
use crate::backends::{Attempt, BackendService, EventStream};
use crate::config::attempts::{AskingSettings, AttemptSettings};
use crate::metrics::{Flight, Metrics, Scrape};
use crate::record::Record;

/// One line of a scripted backend.
#[derive(Clone)]
enum Line {
    Wait(u64),
    Say(Event),
    Fail(EngineError),
}

fn text(text: &str) -> Line {
    Line::Say(Event::TextDelta(text.into()))
}

fn started(model: &str) -> Line {
    Line::Say(Event::Started { model: model.into() })
}

const END: Line = Line::Say(Event::Finished { reason: FinishReason::Stop });

fn backend(lines: Vec<Line>) -> BackendService {
    BackendService::new(tower::service_fn(move |_: Attempt| {
        let lines = lines.clone();
        async move {
            let events = stream::iter(lines).filter_map(|line| async move {
                match line {
                    Line::Wait(ms) => {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        None
                    }
                    Line::Say(event) => Some(Ok(event)),
                    Line::Fail(error) => Some(Err(error)),
                }
            });
            Ok::<EventStream, EngineError>(Box::pin(events))
        }
    }))
}

fn refusing(error: EngineError) -> BackendService {
    BackendService::new(tower::service_fn(move |_: Attempt| {
        let error = error.clone();
        async move { Err::<EventStream, _>(error) }
    }))
}

fn step(name: &str, service: BackendService) -> Step {
    Step {
        backend: name.into(),
        service,
        standing: Standing::new(name, &AskingSettings::default(), &AttemptSettings::default().standing),
        retries: 0,
        caches_prefixes: false,
        model: None,
        decoding: DiffusionOptions::default(),
        first_content: Some(Duration::from_millis(100)),
        instead: None,
        left_out: false,
    }
}

fn request() -> Arc<ChatRequest> {
    Arc::new(ChatRequest::default())
}

fn streaming() -> Arc<ChatRequest> {
    Arc::new(ChatRequest { stream: true, ..ChatRequest::default() })
}

struct Ran {
    metrics: Arc<Metrics>,
    result: Result<Answer, Refusal>,
}

async fn go(steps: Vec<Step>, request: Arc<ChatRequest>) -> Ran {
    // One round of each plan, unless a test is about more.
    go_by(steps, request, &AttemptSettings { retries: 0, ..AttemptSettings::default() }).await
}

async fn go_by(steps: Vec<Step>, request: Arc<ChatRequest>, settings: &AttemptSettings) -> Ran {
    let metrics = Arc::new(Metrics::new().unwrap());
    let result = search(steps, &request, settings, &metrics).await;
    Ran { metrics, result }
}

fn report() -> RouteReport {
    RouteReport { route: "auto".into(), reason: "r".into(), backend: String::new(), failed: vec![], left_out: false }
}

async fn search(
    steps: Vec<Step>,
    request: &Arc<ChatRequest>,
    settings: &AttemptSettings,
    metrics: &Arc<Metrics>,
) -> Result<Answer, Refusal> {
    let (dice, class) = (Dice::new(1), Class::new("rule", 0));
    let given = Given { request, class, settings, dice: &dice, lesson: &|_| None, ended: Ending::new().ended() };
    Search::new(steps, report(), Flight::start(Record::counted_only(metrics), "auto", None), given).run().await
}

impl Ran {
    /// The answer's events to the end, as text.
    async fn all(self) -> (Arc<Metrics>, String) {
        let Ok(mut answer) = self.result else { panic!("no answer") };
        let mut out = answer.report.failed.iter().map(|(who, why)| format!("{who}:{why} ")).collect::<String>();
        while let Some(event) = answer.events.next().await {
            out.push_str(&match event {
                Ok(Event::Started { model }) => format!("<{model}>"),
                Ok(Event::TextDelta(text)) => text,
                Ok(Event::Draft { .. }) => "(draft)".into(),
                Ok(Event::Usage(_)) => "(usage)".into(),
                Ok(Event::Finished { reason }) => format!("[{}]", reason.as_str()),
                Ok(other) => format!("{other:?}"),
                Err(error) => format!("!{}", error.kind()),
            });
        }
        assert!(answer.events.next().await.is_none(), "nothing may follow the end");
        (self.metrics, out)
    }
}

#[track_caller]
fn counted(metrics: &Metrics, line: &str) {
    let page = metrics.render(&Scrape::default()).unwrap();
    assert!(page.lines().any(|have| have == line), "no `{line}` in\n{page}");
    for line in page.lines().filter(|line| line.starts_with("weir_in_flight{")) {
        assert!(line.ends_with(" 0"), "a guard is alive: {line}");
    }
    let requests = page.lines().filter(|line| line.starts_with("weir_requests_total{"));
    assert_eq!(requests.count(), 1, "one request, one outcome");
}

#[tokio::test(start_paused = true)]
async fn the_first_backend_answers() {
    let usage = Event::Usage(Usage { prompt_tokens: 3, completion_tokens: 2, ..Usage::default() });
    let first = backend(vec![started("m"), text("hi"), text(" you"), Line::Say(usage), END, text("late")]);
    let ran = go(vec![step("a", first), step("b", refusing(EngineError::Cancelled))], request()).await;
    let (metrics, out) = ran.all().await;
    assert_eq!(out, "<m>hi you(usage)[stop]");
    counted(&metrics, r#"weir_requests_total{backend="a",outcome="finished",route="auto"} 1"#);
    counted(&metrics, r#"weir_tokens_total{backend="a",direction="output"} 2"#);
}

#[tokio::test(start_paused = true)]
async fn each_failure_before_content_is_replaced() {
    let full = refusing(EngineError::Overloaded { limit: 1, retry_after: None });
    let slow = backend(vec![started("slow"), Line::Wait(500), text("never"), END]);
    let cut = backend(vec![started("cut"), text("")]);
    let broken =
        backend(vec![Line::Fail(EngineError::Upstream { status: 500, message: String::new(), retry_after: None })]);
    let good = backend(vec![started("good"), Line::Wait(99), text("yes"), END]);
    let steps =
        vec![step("full", full), step("slow", slow), step("cut", cut), step("broken", broken), step("good", good)];
    let (metrics, out) = go(steps, request()).await.all().await;
    assert_eq!(out, "full:overloaded slow:timeout cut:stream_cut broken:upstream <good>yes[stop]");
    counted(&metrics, r#"weir_fallbacks_total{cause="timeout",from="slow",to="cut"} 1"#);
    counted(&metrics, r#"weir_requests_total{backend="good",outcome="finished",route="auto"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_an_answer_and_gets_a_model() {
    let (_, out) = go(vec![step("a", backend(vec![END]))], request()).await.all().await;
    assert_eq!(out, "<a>[stop]");
}

#[tokio::test(start_paused = true)]
async fn after_content_an_error_ends_the_answer() {
    let breaks = backend(vec![started("m"), text("half"), Line::Fail(EngineError::Cancelled), text("late")]);
    let other = backend(vec![text("other"), END]);
    let (metrics, out) = go(vec![step("a", breaks), step("b", other.clone())], streaming()).await.all().await;
    assert_eq!(out, "<m>half!cancelled");
    counted(&metrics, r#"weir_requests_total{backend="a",outcome="cancelled",route="auto"} 1"#);

    let stops = backend(vec![started("m"), text("half")]);
    let (metrics, out) = go(vec![step("a", stops), step("b", other)], streaming()).await.all().await;
    assert_eq!(out, "<m>half!stream_cut");
    counted(&metrics, r#"weir_requests_total{backend="a",outcome="stream_cut",route="auto"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_mistake_ends_the_search() {
    let wrong = refusing(EngineError::invalid("messages", "empty"));
    let ran = go(vec![step("a", wrong), step("b", backend(vec![text("b"), END]))], request()).await;
    let refusal = ran.result.err().expect("a refusal");
    assert_eq!(refusal.error.kind(), "invalid_request");
    assert_eq!(refusal.report.unwrap().failed, [("a".to_owned(), "invalid_request")]);
    counted(&ran.metrics, r#"weir_requests_total{backend="a",outcome="invalid_request",route="auto"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_error_worth_most_is_shown() {
    async fn shown(errors: Vec<EngineError>) -> &'static str {
        let named = ["x", "y"].into_iter().zip(errors);
        let steps = named.map(|(name, error)| step(name, refusing(error))).collect();
        go(steps, request()).await.result.err().expect("a refusal").error.kind()
    }
    let too_long = EngineError::ContextTooLong { limit: 1, got: 2 };
    let full = EngineError::Overloaded { limit: 1, retry_after: None };
    let key = EngineError::Unauthorized { status: 401 };
    let broken = EngineError::Upstream { status: 500, message: String::new(), retry_after: None };
    assert_eq!(shown(vec![full.clone(), too_long.clone()]).await, "overloaded");
    assert_eq!(shown(vec![too_long.clone(), key]).await, "context_too_long");
    let cut = EngineError::StreamCut { message: String::new() };
    assert_eq!(shown(vec![full, cut.clone()]).await, "overloaded", "a place may be free at once");
    assert_eq!(shown(vec![broken, cut]).await, "stream_cut");
    assert_eq!(shown(vec![]).await, "internal");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_counts_as_cancelled() {
    let endless = backend(vec![started("m"), text("one"), Line::Wait(1_000_000), END]);
    let mut ran = go(vec![step("a", endless.clone())], request()).await;
    let answer = ran.result.as_mut().ok().unwrap();
    answer.events.next().await.unwrap().unwrap();
    let Ran { metrics, result } = ran;
    drop(result);
    counted(&metrics, r#"weir_requests_total{backend="a",outcome="cancelled",route="auto"} 1"#);

    // The same while it still waits for the first content.
    let silent = Step { first_content: None, ..step("a", backend(vec![Line::Wait(1_000_000)])) };
    let metrics = Arc::new(Metrics::new().unwrap());
    let (request, settings) = (request(), AttemptSettings::default());
    let waiting = search(vec![silent], &request, &settings, &metrics);
    assert!(tokio::time::timeout(Duration::from_secs(1), waiting).await.is_err());
    counted(&metrics, r#"weir_requests_total{backend="a",outcome="cancelled",route="auto"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_draft_is_shown_at_once_but_only_if_asked_for() {
    let draft = Event::Draft { snapshot: "░".into(), step: 1, masked: 1 };
    let drafting = backend(vec![started("m"), Line::Say(draft), Line::Wait(50), text("x"), END]);
    let (_, out) = go(vec![step("a", drafting.clone())], request()).await.all().await;
    assert_eq!(out, "<m>x[stop]");
    let mut asks = ChatRequest::default();
    asks.diffusion.drafts = true;
    let (_, out) = go(vec![step("a", drafting)], Arc::new(asks)).await.all().await;
    assert_eq!(out, "<m>(draft)x[stop]");
}

#[tokio::test(start_paused = true)]
async fn the_plans_decoding_gives_way_to_the_callers_word() {
    fn echo() -> Step {
        let service = BackendService::new(tower::service_fn(|attempt: Attempt| async move {
            let said = format!("{:?}", attempt.request.diffusion.mode);
            let events = stream::iter([Event::TextDelta(said), Event::Finished { reason: FinishReason::Stop }].map(Ok));
            Ok::<EventStream, EngineError>(Box::pin(events))
        }));
        Step {
            decoding: DiffusionOptions { mode: Some(DecodeMode::Speed), ..Default::default() },
            ..step("a", service)
        }
    }
    assert_eq!(go(vec![echo()], request()).await.all().await.1, "<a>Some(Speed)[stop]");
    let mut told = ChatRequest::default();
    told.diffusion.threshold = Some(0.9);
    assert_eq!(go(vec![echo()], Arc::new(told)).await.all().await.1, "<a>None[stop]");
}

#[tokio::test(start_paused = true)]
async fn the_timeout_says_which_wait_it_was() {
    let slow = step("a", backend(vec![Line::Wait(500), END]));
    let error = go(vec![slow], request()).await.result.err().unwrap().error;
    assert_eq!(error, EngineError::Timeout { phase: TimeoutPhase::FirstContent, waited_ms: 100 });
}
