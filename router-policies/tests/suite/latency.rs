//! The latency model from outside: it learns what a backend does, says how sure it is, forgets, survives a restart.

use weir_router_policies::classify::Family;
use weir_router_policies::latency::{Ask, LatencyModel, LatencySettings, Priors, SavedError, Seen};
use weir_router_policies::{BackendFacts, BackendRole, Features, Question};

const AR: BackendRole = BackendRole::Ar;
const DIFFUSION: BackendRole = BackendRole::Diffusion;

fn model() -> LatencyModel {
    LatencyModel::new(Priors::embedded(), LatencySettings::default())
}

fn ask(family: Family, prompt_tokens: u64, in_flight: u32) -> Ask {
    Ask { family, prompt_tokens, output_tokens: 0, max_tokens: 0, continues: false, in_flight }
}

/// A made-up AR backend: 30 ms, 50 ms for a thousand tokens, 15 ms for each other request, 4 ms a token.
fn ar_answer(at: u64) -> Seen {
    let ask = ask(Family::Chat, 200 + at * 37 % 3000, (at % 4) as u32);
    let tokens = 20 + at * 13 % 100;
    let ttft_s = 0.030 + 0.050 * ask.prompt_tokens as f64 / 1000.0 + 0.015 * f64::from(ask.in_flight);
    let total_s = ttft_s + 0.004 * (tokens - 1) as f64;
    let prompt_tokens = ask.prompt_tokens;
    Seen { ask, ttft_s, total_s, prompt_tokens, cached_tokens: 0, completion_tokens: tokens, steps: None }
}

/// A made-up diffusion backend: 20 ms, steps of 10 ms, 8 tokens a step for SQL and 2 for prose.
fn diffusion_answer(at: u64) -> Seen {
    let family = if at.is_multiple_of(2) { Family::Sql } else { Family::Prose };
    let per_step = if family == Family::Sql { 8.0 } else { 2.0 };
    let tokens = 64 + at * 16 % 128;
    let steps = (tokens as f64 / per_step).ceil();
    let ttft_s = 0.020 + 0.010 * (32.0_f64 / per_step).ceil();
    let total_s = 0.020 + 0.010 * steps;
    let ask = ask(family, 100, 0);
    Seen {
        ask,
        ttft_s,
        total_s,
        prompt_tokens: 100,
        cached_tokens: 0,
        completion_tokens: tokens,
        steps: Some(steps as u32),
    }
}

fn taught() -> LatencyModel {
    let mut model = model();
    for at in 0..400 {
        model.seen("gpu", AR, &ar_answer(at), at as f64);
        model.seen("llada", DIFFUSION, &diffusion_answer(at), at as f64);
    }
    model
}

#[test]
fn it_learns_prefill_load_and_pace_of_an_ar_backend() {
    let model = taught();
    for (prompt, load) in [(100, 0), (2000, 0), (2000, 3)] {
        let truth = 30.0 + 0.050 * prompt as f64 + 15.0 * f64::from(load);
        let got = model.predict("gpu", AR, &ask(Family::Chat, prompt, load), 400.0);
        assert!((got.ttft.expected_ms / truth - 1.0).abs() < 0.1, "{prompt} {load}: {got:?} for {truth}");
        assert!(got.ttft.low_ms < truth && truth < got.ttft.high_ms);
        assert!(got.total.expected_ms > got.ttft.expected_ms && model.weight("gpu", 400.0) > 30.0);
    }
    let short = Ask { max_tokens: 1, ..ask(Family::Chat, 100, 0) };
    let got = model.predict("gpu", AR, &short, 400.0);
    assert!((got.total.expected_ms / got.ttft.expected_ms - 1.0).abs() < 0.2, "one token ends with the first: {got:?}");
}

#[test]
fn a_diffusion_backend_is_fast_where_a_step_gives_many_tokens() {
    let model = taught();
    let total = |family| model.predict("llada", DIFFUSION, &ask(family, 100, 0), 400.0).total.expected_ms;
    let (sql, prose) = (total(Family::Sql), total(Family::Prose));
    let truth = |per_step: f64| 20.0 + 10.0 * 120.0 / per_step;
    assert!((sql / truth(8.0) - 1.0).abs() < 0.35, "{sql} for {}", truth(8.0));
    assert!((prose / truth(2.0) - 1.0).abs() < 0.35, "{prose} for {}", truth(2.0));
    // A family it never met goes by the published figures, at the pace that was learnt.
    assert!(total(Family::CodeGeneration) < total(Family::Chat) * 4.0);
}

#[test]
fn nothing_seen_is_a_wide_guess_and_sightings_narrow_it() {
    let request = ask(Family::Chat, 500, 0);
    let width = |model: &LatencyModel| {
        let span = model.predict("gpu", AR, &request, 400.0).ttft;
        span.high_ms / span.low_ms
    };
    let (before, after) = (width(&model()), width(&taught()));
    assert!(before > 3.0 && after < 2.0, "{before} {after}");
    assert_eq!(model().weight("gpu", 0.0), 0.0);
}

#[test]
fn its_own_error_is_known_and_small_and_most_come_true_inside_the_interval() {
    let errors = taught().own_errors();
    let of = |name: &str| errors.iter().find(|one| one.backend == name).unwrap();
    assert!(of("gpu").ttft < 0.2, "{:?}", of("gpu"));
    assert!(of("gpu").ttft_inside > 0.8 && of("llada").total_inside > 0.5, "{errors:?}");
    assert!(model().own_errors().is_empty());
}

#[test]
fn old_figures_fade_and_a_slow_hour_is_forgotten() {
    let mut model = taught();
    for at in 0..30 {
        let slow = Seen { ttft_s: 2.0, total_s: 3.0, ..ar_answer(at) };
        model.seen("gpu", AR, &slow, 400.0 + at as f64);
    }
    let request = ask(Family::Chat, 500, 0);
    assert!(model.predict("gpu", AR, &request, 430.0).ttft.expected_ms > 500.0);
    for at in 0..200 {
        model.seen("gpu", AR, &ar_answer(at), 4000.0 + at as f64);
    }
    let again = model.predict("gpu", AR, &request, 4200.0).ttft.expected_ms;
    assert!(again < 150.0, "{again}");
    assert!(model.weight("gpu", 40_000.0) < 0.1, "nothing of it counts after ten hours");
}

#[test]
fn failures_show_and_pass() {
    let mut model = taught();
    let rate = |model: &LatencyModel| model.predict("gpu", AR, &ask(Family::Chat, 100, 0), 0.0).error_rate;
    let before = rate(&model);
    (0..60).for_each(|at| model.failed("gpu", 400.0 + f64::from(at)));
    assert!(before < 0.05 && rate(&model) > 0.2, "{before} {}", rate(&model));
}

#[test]
fn a_cached_beginning_makes_later_turns_faster() {
    let mut model = model();
    for at in 0..200 {
        let continues = at % 2 == 1;
        let read = if continues { 400.0 } else { 4000.0 };
        let asked = Ask { continues, ..ask(Family::Chat, 4000, 0) };
        let ttft_s = 0.02 + 0.1 * read / 1000.0;
        let seen = Seen {
            ask: asked,
            ttft_s,
            total_s: ttft_s + 0.1,
            prompt_tokens: 4000,
            cached_tokens: 4000 - read as u64,
            completion_tokens: 30,
            steps: None,
        };
        model.seen("gpu", AR, &seen, f64::from(at));
    }
    let of =
        |continues| model.predict("gpu", AR, &Ask { continues, ..ask(Family::Chat, 4000, 0) }, 200.0).ttft.expected_ms;
    assert!(of(false) > 4.0 * of(true), "{} {}", of(false), of(true));
}

#[test]
fn what_was_learnt_survives_and_what_is_damaged_is_refused_whole() {
    let model = taught();
    let mut again = self::model();
    again.load(&model.save()).unwrap();
    let request = ask(Family::Sql, 700, 1);
    let of = |model: &LatencyModel| model.predict("llada", DIFFUSION, &request, 500.0).total.high_ms;
    assert!((of(&again) / of(&model) - 1.0).abs() < 1e-9, "a text may lose the last bit of a number");
    let saved = model.save();
    let before = again.save();
    let version = saved.replacen("\"version\":1", "\"version\":9", 1);
    assert_eq!(again.load(&version).unwrap_err(), SavedError::Version(9));
    let unsound = saved.replacen("\"weight\":", "\"weight\":-", 1);
    assert_eq!(again.load(&unsound).unwrap_err(), SavedError::Unsound("gpu".into()));
    for text in ["", "[]", "{\"version\":1}", &saved[..saved.len() / 2]] {
        assert!(matches!(again.load(text).unwrap_err(), SavedError::Unreadable(_)), "{text}");
    }
    assert_eq!(again.save(), before, "a refused file changes nothing");
}

#[test]
fn a_backend_nobody_asks_is_probed_by_count() {
    let settings = LatencySettings { probe_every: 3, ..LatencySettings::default() };
    let mut model = LatencyModel::new(Priors::embedded(), settings);
    model.seen("gpu", AR, &ar_answer(1), 1000.0);
    model.seen("llada", DIFFUSION, &diffusion_answer(1), 100.0);
    let probes: Vec<Option<usize>> = (0..6).map(|_| model.probe(&["gpu", "llada"], 1000.0)).collect();
    assert_eq!(probes, [None, None, Some(1), None, None, Some(1)]);
    model.seen("llada", DIFFUSION, &diffusion_answer(1), 990.0);
    assert!((0..6).all(|_| model.probe(&["gpu", "llada"], 1000.0).is_none()), "it was seen just now");
    assert!((0..6).all(|_| self::model().probe(&["gpu", "llada"], 1e9).is_none()), "off unless it is asked for");
}

#[test]
fn predictions_are_found_by_backend_and_by_role() {
    let backend = |name: &str, role| BackendFacts {
        name: name.to_owned(),
        group: None,
        role,
        context_tokens: 4096,
        takes_images: false,
        takes_tools: true,
        honours_unsupported: true,
        local: true,
        bytes_per_token: 2.0,
    };
    let facts = [backend("gpu", AR), backend("other", AR), backend("llada", DIFFUSION)];
    let all = taught().predictions(&facts, &ask(Family::Chat, 500, 0), |name| u32::from(name == "gpu") * 2, 400.0);
    let question = Question { predicted: &all, ..Question::about(Features::default(), &facts) };
    let gpu = question.predicted_of("gpu").unwrap();
    assert!(question.predicted_of("other").is_none(), "nothing was seen of it");
    assert_eq!(question.predicted_of("ar").unwrap(), gpu);
    assert_eq!(question.predicted_of("diffusion").unwrap().backend, "llada");
    assert!(question.predicted_of("nobody").is_none());
    let truth = 30.0 + 0.050 * 1000.0 + 15.0 * 2.0;
    assert!((gpu.ttft.expected_ms / truth - 1.0).abs() < 0.15, "half the bytes a token are twice the tokens: {gpu:?}");
}

#[test]
fn a_clock_that_was_put_back_does_not_keep_what_was_seen_for_ever() {
    const YEAR: f64 = 365.0 * 86_400.0;
    let settings = LatencySettings { probe_every: 1, ..LatencySettings::default() };
    let mut model = LatencyModel::new(Priors::embedded(), settings);
    for at in 0..40 {
        // The clock is a year ahead.
        model.seen("gpu", AR, &ar_answer(at), YEAR + at as f64);
    }
    assert!(model.weight("gpu", YEAR + 40.0) > 10.0);
    // It is right again, and nobody asks this backend any more.
    assert!(model.weight("gpu", 100.0) < 1.0);
    model.seen("llada", DIFFUSION, &diffusion_answer(1), 100.0);
    assert_eq!(model.probe(&["llada", "gpu"], 100.0), Some(1));
    // What is seen from now on fades as ever.
    for at in 0..40 {
        model.seen("gpu", AR, &ar_answer(at), 100.0 + at as f64);
    }
    assert!(model.weight("gpu", 140.0) > 10.0 && model.weight("gpu", 140.0 + 86_400.0) < 1.0);
}
