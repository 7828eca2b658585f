//! How long a decision takes for a small request and for an OpenClaw-shaped one of 53 KB: each part, and all that the
//! gateway does between a decoded body and a plan. Prints figures and judges none.
#![allow(clippy::disallowed_methods, reason = "a bench needs a clock; plans still have none")]
#![allow(clippy::panic, reason = "a bench has nobody to report to")]

#[path = "../tests/suite/openclaw.rs"]
mod openclaw;

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use weir_protocol::ChatRequest;
use weir_router_policies::classify::{Classifier, Family};
use weir_router_policies::condense::condense;
use weir_router_policies::latency::{Ask, LatencyModel, LatencySettings, Priors, Seen};
use weir_router_policies::{BackendFacts, Features, Policy, Question, RoutePlan, Turn, unwrap};

const RUNS: usize = 5000;

fn main() {
    let policies = [
        ("balanced", include_str!("../../config/policies/balanced.toml")),
        ("diffusion-first", include_str!("../../config/policies/diffusion-first.toml")),
    ];
    let requests = [
        ("plain", openclaw::plain("sort pear, fig, plum")),
        ("openclaw", openclaw::request("turn off the kitchen lights")),
    ];
    for (name, request) in &requests {
        measure(&format!("{name}: unwrap"), || unwrap::asked(request));
        let asked = unwrap::asked(request);
        measure(&format!("{name}: features"), || Features::of_asked(request, &asked));
        let features = Features::of_asked(request, &asked);
        measure(&format!("{name}: classify"), || Classifier::embedded().classify(&asked, &features));
        measure(&format!("{name}: turn"), || Turn::of(request, &asked, &features));
        for (profile, text) in policies {
            let policy = Policy::parse(text, profile).unwrap_or_else(|error| panic!("{error}"));
            let backends = policy.test_backends();
            let question = Question::about(features.clone(), &backends);
            measure(&format!("{name}, {profile}: rules"), || policy.decide(&question));
            let latency = measured(&backends);
            measure(&format!("{name}, {profile}: all"), || decision(&policy, &backends, &latency, request));
            // Tools that were never seen: each list is another one, so nothing is remembered of it.
            let fresh: Vec<ChatRequest> = (0..RUNS).map(|number| with_new_tools(request, profile, number)).collect();
            let next = Cell::new(0);
            measure(&format!("{name}, {profile}: new tools"), || {
                let at = next.replace(next.get() + 1);
                decision(&policy, &backends, &latency, &fresh[at])
            });
        }
    }
}

/// The request with a list of tools that no other has.
fn with_new_tools(request: &ChatRequest, profile: &str, number: usize) -> ChatRequest {
    let mut request = request.clone();
    for tool in &mut request.tools {
        tool.name = format!("{}_{profile}_{number}", tool.name);
    }
    request
}

/// A latency model that has seen each backend.
fn measured(backends: &[BackendFacts]) -> LatencyModel {
    let mut latency = LatencyModel::new(Priors::embedded(), LatencySettings::default());
    for (facts, number) in backends.iter().flat_map(|facts| (0..40).map(move |number| (facts, number))) {
        let family = Family::ALL[number % Family::ALL.len()];
        let ask = Ask { family, prompt_tokens: 500, output_tokens: 50, max_tokens: 0, continues: false, in_flight: 0 };
        let (ttft_s, total_s, prompt_tokens, completion_tokens) = (0.1, 0.5, 500, 50);
        let seen = Seen { ask, ttft_s, total_s, prompt_tokens, cached_tokens: 0, completion_tokens, steps: Some(10) };
        latency.seen(&facts.name, facts.role, &seen, number as f64);
    }
    latency
}

/// What the gateway does for each request, as `gateway/src/route/asking.rs` does it.
fn decision(policy: &Policy, backends: &[BackendFacts], latency: &LatencyModel, request: &ChatRequest) -> RoutePlan {
    let asked = unwrap::asked(request);
    let features = Features::of_asked(request, &asked);
    let turn = Turn::of(request, &asked, &features);
    let judged = Classifier::embedded().classify(&asked, &features);
    let ask = Ask::of(judged.family, &features);
    let predicted = latency.predictions(backends, &ask, |_| 1, 40.0);
    let condensed = policy.condenses().and_then(|settings| condense(request, &features, settings));
    policy.decide(&Question {
        conversation: turn.conversation,
        family: Some(judged.into()),
        predicted: &predicted,
        condensed: condensed.map(|condensed| condensed.size),
        ..Question::about(features, backends)
    })
}

fn measure<T>(name: &str, run: impl Fn() -> T) {
    let mut took: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            black_box(run());
            started.elapsed()
        })
        .collect();
    took.sort_unstable();
    let at = |share: usize| took[RUNS * share / 1000].as_nanos() as f64 / 1000.0;
    println!("{name:<32} p50 {:>6.1} µs   p90 {:>6.1}   p99 {:>6.1}", at(500), at(900), at(990));
}
