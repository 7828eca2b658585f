//! How long a plan takes for a small request and for an OpenClaw-shaped one. Prints figures and judges none.
#![allow(clippy::disallowed_methods, reason = "a bench needs a clock; plans still have none")]
#![allow(clippy::panic, reason = "a bench has nobody to report to")]

#[path = "../tests/suite/openclaw.rs"]
mod openclaw;

use std::hint::black_box;
use std::time::{Duration, Instant};

use weir_protocol::ChatRequest;
use weir_router_policies::{BackendFacts, BackendRole, Features, Policy};

const RUNS: usize = 2000;

fn main() {
    let text = include_str!("../../config/policies/balanced.toml");
    let policy = Policy::parse(text, "default").unwrap_or_else(|error| panic!("{error}"));
    let backends = BackendRole::ALL.map(|role| BackendFacts {
        name: role.as_str().to_owned(),
        group: None,
        role,
        context_tokens: 1024,
        takes_images: false,
        takes_tools: true,
        honours_unsupported: false,
        local: true,
        bytes_per_token: 4.0,
    });
    for (name, request) in [
        ("plain", openclaw::plain("sort pear, fig, plum")),
        ("openclaw", openclaw::request("turn off the kitchen lights")),
    ] {
        measure(&format!("{name} features"), &request, |request| drop(black_box(Features::of(request))));
        measure(&format!("{name} plan"), &request, |request| drop(black_box(policy.plan(request, &backends))));
    }
}

fn measure(name: &str, request: &ChatRequest, run: impl Fn(&ChatRequest)) {
    let mut took: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            run(black_box(request));
            started.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!("{name}: p50 {:?}, p99 {:?}", took[RUNS / 2], took[RUNS * 99 / 100]);
}
