//! How long a decision takes for a small request and for an OpenClaw-shaped one of 53 KB: each part, and all that the
//! gateway does between a decoded body and a plan. Prints figures and judges none.
#![allow(clippy::disallowed_methods, reason = "a bench needs a clock; plans still have none")]
#![allow(clippy::panic, reason = "a bench has nobody to report to")]

#[path = "../tests/suite/openclaw.rs"]
mod openclaw;

use std::hint::black_box;
use std::time::{Duration, Instant};

use weir_protocol::ChatRequest;
use weir_router_policies::classify::Classifier;
use weir_router_policies::condense::condense;
use weir_router_policies::{Features, Policy, Question, RoutePlan, Turn, unwrap};

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
            measure(&format!("{name}, {profile}: all"), || decision(&policy, request));
        }
    }
}

/// What the gateway does for each request.
fn decision(policy: &Policy, request: &ChatRequest) -> RoutePlan {
    let backends = policy.test_backends();
    let asked = unwrap::asked(request);
    let features = Features::of_asked(request, &asked);
    let turn = Turn::of(request, &asked, &features);
    let condensed = policy.condenses().and_then(|settings| condense(request, &features, settings));
    policy.decide(&Question {
        conversation: turn.conversation,
        condensed: condensed.map(|condensed| condensed.size),
        ..Question::about(features, &backends)
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
