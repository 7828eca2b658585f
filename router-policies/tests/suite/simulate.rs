//! The simulation from outside: the same seed gives the same report, known queues come out as theory says, failures are
//! followed by the plan's next, and nothing gets lost.

use weir_router_policies::Policy;
use weir_router_policies::simulate::{Report, Scenario, run};

fn policy(attempts: &str) -> Policy {
    let text = format!(
        "[pins]\nfallback = []\n[[rule]]\nname = \"all\"\nroute = \"ar\"\nreason = \"all of it\"\nattempts = [{attempts}]\n"
    );
    Policy::parse(&text, "test").unwrap_or_else(|error| panic!("{error}"))
}

/// Requests of one kind, one token each.
fn scenario(requests: u64, per_s: f64, backends: &str) -> Scenario {
    let text = format!(
        "seed = 7\nrequests = {requests}\n[arrivals]\nper_s = {per_s}\n[[mix]]\nname = \"chat\"\nshare = 1.0\n\
         ask = \"hello, how are you?\"\nprompt_tokens = {{ median = 1 }}\noutput_tokens = {{ median = 1 }}\n{backends}"
    );
    Scenario::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn backend(name: &str, more: &str) -> String {
    format!(
        "[[backend]]\nname = \"{name}\"\nrole = \"ar\"\nconcurrency = 1\nqueue = 100000\noverhead_ms = 0\n\
         prefill_ms_per_1k = 0\nforward_ms = 10\nspread = 0.0\n{more}\n"
    )
}

fn lost_nothing(report: &Report) {
    assert_eq!(report.all.answered + report.unanswered, report.requests);
    assert_eq!(report.backends.iter().map(|row| row.answered).sum::<u64>(), report.all.answered);
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let scenario = scenario(20_000, 60.0, &backend("ar", "failures = 0.01"));
    let policy = policy("{ backend = \"ar\" }");
    assert_eq!(run(&scenario, &policy), run(&scenario, &policy));
    let other = Scenario { seed: 8, ..scenario.clone() };
    assert_ne!(run(&scenario, &policy), run(&other, &policy));
}

/// M/D/1: the mean wait is ρ / (2 (1 − ρ)) services.
#[test]
fn one_server_queues_as_theory_says() {
    for load in [0.3, 0.6, 0.8] {
        let report = run(&scenario(60_000, load * 100.0, &backend("ar", "")), &policy("{ backend = \"ar\" }"));
        lost_nothing(&report);
        let row = &report.backends[0];
        let wait = row.waited_ms.unwrap().mean;
        let theory = 10.0 * load / (2.0 * (1.0 - load));
        assert!((wait / theory - 1.0).abs() < 0.08, "load {load}: {wait} ms, {theory} by theory");
        assert!((row.utilisation / load - 1.0).abs() < 0.03, "{row:?}");
    }
}

#[test]
fn failures_outages_full_queues_and_budgets_are_followed_by_the_next() {
    let cases = [("failures = 0.5", 10.0), ("[[backend.outage]]\nfrom_s = 0\nuntil_s = 1e9", 10.0)];
    let both = policy("{ backend = \"ar\" }, { backend = \"other\" }");
    for (fault, per_s) in cases {
        let backends = backend("ar", fault) + &backend("other", "");
        let report = run(&scenario(5_000, per_s, &backends), &both);
        lost_nothing(&report);
        assert_eq!(report.unanswered, 0, "{fault}");
        assert_eq!(report.all.fallbacks, report.backends[0].failed, "{fault}");
        assert!(report.all.fallbacks > 2000, "{fault}");
    }
    // Twice what one server can do, ten may wait.
    let small = backend("ar", "").replace("queue = 100000", "queue = 10") + &backend("other", "replicas = 4");
    let report = run(&scenario(20_000, 200.0, &small), &both);
    lost_nothing(&report);
    assert_eq!(report.unanswered, 0);
    assert_eq!(report.backends[0].shed, report.all.fallbacks);
    assert!((0.4..0.6).contains(&(report.backends[0].answered as f64 / 20_000.0)), "{report:?}");
    // Nobody waits longer than the budget for a first content.
    let hurried = policy("{ backend = \"ar\", first_content_ms = 50 }, { backend = \"other\" }");
    let slow = backend("ar", "") + &backend("other", "replicas = 4");
    let report = run(&scenario(20_000, 150.0, &slow), &hurried);
    lost_nothing(&report);
    assert!(report.backends[0].over_budget > 1000, "{report:?}");
    assert!(report.all.ttft_ms.unwrap().p99 < 50.0 + 50.0);
}

#[test]
fn nobody_left_is_unanswered_and_bursts_hurt() {
    let dead = backend("ar", "[[backend.outage]]\nfrom_s = 0\nuntil_s = 1e9");
    let report = run(&scenario(100, 10.0, &dead), &policy("{ backend = \"ar\" }"));
    assert_eq!((report.unanswered, report.all.answered, report.all.ttft_ms), (100, 0, None));
    let calm = scenario(50_000, 50.0, &backend("ar", ""));
    let mut bursty = calm.clone();
    bursty.arrivals.per_s = 38.5;
    (bursty.arrivals.burst_every_s, bursty.arrivals.burst_s, bursty.arrivals.burst_factor) = (10.0, 1.0, 4.0);
    let of = |scenario| run(scenario, &policy("{ backend = \"ar\" }")).all.ttft_ms.unwrap().p95;
    assert!(of(&bursty) > 3.0 * of(&calm));
}

/// Two backends on one processor, in an M/G/1 queue with shared service: the mean time is S / (1 − ρ), whoever asks for it.
#[test]
fn who_shares_a_processor_slows_the_others() {
    let all = |name: &str| backend(name, "processor = \"box\"").replace("concurrency = 1", "concurrency = 10000");
    let half = policy("{ backend = \"ar\", weight = 1 }, { backend = \"other\", weight = 1 }");
    let box_of = |capacity: f64| format!("[[processor]]\nname = \"box\"\ncapacity = {capacity}\n");
    for load in [0.3, 0.7] {
        let mut both = scenario(30_000, load * 100.0, &(box_of(1.0) + &all("ar") + &all("other")));
        both.replan_s = 0.02;
        let report = run(&both, &half);
        lost_nothing(&report);
        let mean = report.all.total_ms.unwrap().mean;
        let theory = 10.0 / (1.0 - load);
        assert!((mean / theory - 1.0).abs() < 0.08, "load {load}: {mean} ms, {theory} by theory");
        assert!((report.processors[0].utilisation / load - 1.0).abs() < 0.03, "{:?}", report.processors);
        assert!(report.backends.iter().all(|row| row.answered > 12_000), "{:?}", report.backends);
    }
    // Twice the capacity, or two machines of the same, have room for both.
    let two = all("ar") + &all("other");
    let wide = run(&scenario(20_000, 80.0, &(box_of(2.0) + &two)), &half).all.total_ms.unwrap().mean;
    assert!((10.0..14.0).contains(&wide), "{wide}");
}

/// A slowdown holds while others are there, and not longer.
#[test]
fn a_server_is_slower_while_it_has_more_to_do() {
    let crowded = backend("ar", "slowdown = 1.0").replace("concurrency = 1", "concurrency = 10000");
    let report = run(&scenario(40_000, 60.0, &crowded), &policy("{ backend = \"ar\" }"));
    let mean = report.all.total_ms.unwrap().mean;
    // Each other request doubles the time: the same as sharing one processor.
    assert!((mean / 25.0 - 1.0).abs() < 0.08, "{mean}");
}

#[test]
fn many_backends_many_requests() {
    let fleet: String = (0..50).map(|at| backend(&format!("ar{at}"), "replicas = 8")).collect();
    let mut text = fleet.replace("spread = 0.0", "spread = 0.3");
    text.push_str(&backend("ar", ""));
    let report = run(&scenario(10_000, 400.0, &text), &policy("{ backend = \"role:ar\" }"));
    lost_nothing(&report);
    assert_eq!(report.backends.len(), 51);
}

#[test]
fn a_wrong_scenario_names_its_field() {
    let good = "requests = 10\n[arrivals]\nper_s = 1\n[[mix]]\nname = \"a\"\nshare = 1\nask = \"hi\"\n\
                prompt_tokens = { median = 1 }\noutput_tokens = { median = 1 }\n[[backend]]\nname = \"ar\"\nrole = \"ar\"\n\
                concurrency = 1\noverhead_ms = 1\nprefill_ms_per_1k = 1\nforward_ms = 1\n";
    Scenario::parse(good).unwrap();
    for (from, to, named) in [
        ("requests = 10", "requests = 0", "requests"),
        ("per_s = 1", "per_s = 0", "arrivals.per_s"),
        ("share = 1", "share = -1", "share"),
        ("role = \"ar\"", "role = \"x\"", "role"),
        ("concurrency = 1", "concurrency = 0", "concurrency"),
        ("forward_ms = 1", "forward_ms = nan", "forward_ms"),
        ("ask = \"hi\"", "ask = \"hi\"\nfamily = \"prosa\"", "prosa"),
        ("overhead_ms = 1", "overhead = 1", "overhead"),
        ("overhead_ms = 1", "overhead_ms = 1\nprocessor = \"gpu\"", "gpu"),
        ("overhead_ms = 1", "overhead_ms = 1\ndemand = 0", "demand"),
        ("overhead_ms = 1", "overhead_ms = 1\nfactors = { chat = [2.0, 1.0] }", "factors.chat"),
        ("overhead_ms = 1", "overhead_ms = 1\nfailures_by = { chat = 2.0 }", "failures_by.chat"),
        ("[[backend]]", "[[processor]]\nname = \"gpu\"\ncapacity = 0\n[[backend]]", "capacity"),
    ] {
        let why = Scenario::parse(&good.replacen(from, to, 1)).unwrap_err();
        assert!(why.contains(named), "{why}");
    }
}

#[test]
fn the_shipped_scenarios_run_under_a_shipped_policy() {
    let text = include_str!("../../../config/policies/balanced.toml");
    let policy = Policy::parse(text, "balanced").unwrap();
    for text in [
        include_str!("../../../config/simulate/nano.toml"),
        include_str!("../../../config/simulate/fleet.toml"),
        include_str!("../../../config/simulate/flash.toml"),
    ] {
        let scenario = Scenario { requests: 3_000, ..Scenario::parse(text).unwrap() };
        let report = run(&scenario, &policy);
        lost_nothing(&report);
        assert_eq!(report.unanswered, 0, "{report:?}");
        assert!(report.kinds.iter().all(|row| row.family != "unsure"), "{:?}", report.kinds);
    }
}
