//! A simulation from a request log: a log that the simulation itself could have made gives back what made it; what is
//! missing, broken or too little is said.

use std::collections::BTreeMap;
use std::fmt::Write;

use weir_router_policies::replay::Logged;
use weir_router_policies::simulate::{ComesAs, Host, Recorded, Replaying, Servers, TooLittle};
use weir_router_policies::{BackendFacts, BackendRole, Policy};

const BOTH: &str = "[[rule]]\nname = \"calls\"\nwhen = \"tool_needed\"\nroute = \"diffusion\"\nreason = \"r\"\n\
    attempts = [{ backend = \"diffusion\" }, { backend = \"ar\" }]\n\
    [[rule]]\nname = \"rest\"\nroute = \"ar\"\nreason = \"r\"\nattempts = [{ backend = \"ar\" }]\n";

fn host(name: &str, role: BackendRole) -> Host {
    let facts = BackendFacts {
        name: name.to_owned(),
        group: None,
        role,
        context_tokens: 4096,
        takes_images: false,
        takes_tools: true,
        honours_unsupported: true,
        local: true,
        bytes_per_token: 4.0,
    };
    Host { facts, places: Some((64, 64)), processor: Some("box".into()) }
}

fn hosts() -> Vec<Host> {
    vec![host("diffusion", BackendRole::Diffusion), host("ar", BackendRole::Ar)]
}

/// What a server of this kind takes alone: 5 ms, 20 ms for a thousand tokens, 2 ms for a forward.
fn alone_ms(prompt: u64, forwards: u64) -> (f64, f64) {
    let begin = 5.0 + 20.0 * prompt as f64 / 1000.0;
    (begin + 2.0, begin + 2.0 * forwards as f64)
}

/// A request at `at` seconds that was answered in `slower` times as long as alone.
fn line(number: u64, at: f64, slower: f64) -> String {
    let tool = number.is_multiple_of(4);
    let backend = if tool { "diffusion" } else { "ar" };
    let (prompt, forwards) = (100 + number % 7 * 300, 4 + number % 5);
    // A step of the diffusion engine gives four tokens, all of them in the first block.
    let tokens = if tool { 4 * forwards } else { forwards };
    let (first, total) = alone_ms(prompt, forwards);
    let first = if tool { total } else { first };
    let steps = if tool { format!(",\"diffusion\":{{\"steps\":{forwards}}}") } else { String::new() };
    let (minute, second) = ((at / 60.0) as u64, at % 60.0);
    let family = if tool { "function_call" } else { "chat" };
    format!(
        "{{\"v\":1,\"time\":\"2026-11-29T08:{minute:02}:{second:09.6}Z\",\"backend\":\"{backend}\",\"outcome\":\"finished\",\
         \"ttft_ms\":{:.3},\"total_ms\":{:.3},\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{tokens}{steps}}},\
         \"attempts\":[{{\"backend\":\"{backend}\",\"start_ms\":0.1,\"ms\":{:.3},\"outcome\":\"finished\"}}],\
         \"plan\":{{\"rule\":\"r\",\"attempts\":[{{\"backend\":\"{backend}\"}}],\"family\":{{\"name\":\"{family}\",\
         \"probability\":0.9}},\"features\":{{\"tool_needed\":{tool}}}}}}}\n",
        first * slower,
        total * slower,
        total * slower - 0.1
    )
}

fn read(text: &str) -> (Vec<Logged>, BTreeMap<String, u64>) {
    let (mut lines, mut unread) = (Vec::new(), BTreeMap::new());
    for line in text.lines() {
        match Logged::read(line.as_bytes()) {
            Ok(line) => lines.push(line),
            Err(why) => *unread.entry(why.to_string()).or_default() += 1,
        }
    }
    (lines, unread)
}

fn of_log(text: &str) -> Result<Recorded, TooLittle> {
    let (lines, unread) = read(text);
    Recorded::of(&lines, unread, &hosts())
}

/// A request every tenth of a second: each is alone.
fn calm(count: u64) -> String {
    (0..count).map(|number| line(number, number as f64 * 0.1, 1.0)).collect()
}

fn how(load: f64) -> Replaying {
    Replaying { load, comes_as: ComesAs::Recorded, requests: None, seed: 1 }
}

#[test]
fn who_the_config_does_not_know_has_the_role_that_its_answers_show() {
    let (lines, unread) = read(&calm(400));
    let recorded = Recorded::of(&lines, unread, &[]).unwrap();
    let roles: Vec<_> =
        recorded.servers.backend.iter().map(|fleet| (fleet.name.as_str(), fleet.role.as_str())).collect();
    assert_eq!(roles, [("ar", "ar"), ("diffusion", "diffusion")]);
}

#[test]
fn a_log_gives_back_the_servers_that_made_it() {
    let recorded = of_log(&calm(400)).unwrap();
    assert_eq!(recorded.servers.processor, [], "nobody was beside anybody");
    for fleet in &recorded.servers.backend {
        let figures = (fleet.overhead_ms, fleet.prefill_ms_per_1k, fleet.forward_ms);
        assert!((figures.0 - 5.0).abs() < 0.3 && (figures.1 - 20.0).abs() < 0.3, "{fleet:?}");
        assert!((figures.2 - 2.0).abs() < 0.05 && fleet.failures == 0.0, "{fleet:?}");
    }
    assert_eq!(recorded.servers.backend[0].tokens_per_forward["function_call"], 4.0);
    assert_eq!(Servers::parse(&recorded.servers.written().unwrap()).unwrap(), recorded.servers, "it can be saved");

    let policy = Policy::parse(BOTH, "both").unwrap();
    let report = recorded.run(&recorded.servers, &policy, &how(1.0));
    assert_eq!((report.requests, report.all.answered), (400, 400));
    for (was, is) in [(recorded.summary.ttft_ms, report.all.ttft_ms), (recorded.summary.total_ms, report.all.total_ms)]
    {
        let (was, is) = (was.unwrap(), is.unwrap());
        assert!((is.p50 / was.p50 - 1.0).abs() < 0.05 && (is.p95 / was.p95 - 1.0).abs() < 0.08, "{was:?} {is:?}");
    }
    let kinds: Vec<_> = report.kinds.iter().map(|row| (row.name.as_str(), row.rule.as_str(), row.answered)).collect();
    assert_eq!(kinds, [("function_call, tool", "calls", 100), ("chat", "rest", 300)]);
    // Another policy decides about the same requests.
    let other = Policy::parse(&BOTH.replace("tool_needed", "!tool_needed"), "other").unwrap();
    let moved = recorded.run(&recorded.servers, &other, &how(1.0));
    assert_eq!(moved.backends.iter().map(|row| row.answered).collect::<Vec<_>>(), [300, 100]);
}

#[test]
fn load_number_and_arrivals_are_as_told() {
    let recorded = of_log(&calm(400)).unwrap();
    let policy = Policy::parse(BOTH, "both").unwrap();
    let once = recorded.run(&recorded.servers, &policy, &how(1.0));
    assert!((once.seconds - 39.9).abs() < 0.2, "{}", once.seconds);
    let four = recorded.run(&recorded.servers, &policy, &Replaying { requests: Some(800), ..how(4.0) });
    assert_eq!(four.requests, 800, "they come again");
    assert!((four.seconds - 20.0).abs() < 0.2, "{}", four.seconds);
    let drawn = Replaying { comes_as: ComesAs::Poisson, requests: Some(8000), ..how(2.0) };
    let drawn = recorded.run(&recorded.servers, &policy, &drawn);
    assert!((drawn.seconds / 400.0 - 1.0).abs() < 0.1, "{}", drawn.seconds);
    assert_eq!(drawn.all.answered, 8000);
}

/// Three come at once and share one processor: alone each would take a third.
#[test]
fn a_shared_processor_is_seen_in_the_times() {
    let mut text = String::new();
    for group in 0..120_u64 {
        let at = group as f64 * 0.5;
        // All three of one size, so that they end together; every other group comes alone.
        let beside = if group.is_multiple_of(2) { 3 } else { 1 };
        (0..beside).for_each(|_| text.push_str(&line(group * 4 + 1, at, beside as f64)));
    }
    let recorded = of_log(&text).unwrap();
    let [processor] = recorded.servers.processor.as_slice() else { panic!("{:?}", recorded.summary.processors) };
    assert!((0.9..1.1).contains(&processor.capacity), "{processor:?}");
    let ar = &recorded.servers.backend[0];
    assert_eq!((ar.processor.as_deref(), recorded.summary.backends[0].most_at_once), (Some("box"), 3));
    assert!((ar.overhead_ms - 5.0).abs() < 1.0 && (ar.forward_ms - 2.0).abs() < 0.2, "{ar:?}");
    let policy = Policy::parse(BOTH, "both").unwrap();
    let report = recorded.run(&recorded.servers, &policy, &how(1.0));
    let (was, is) = (recorded.summary.total_ms.unwrap(), report.all.total_ms.unwrap());
    assert!((is.p50 / was.p50 - 1.0).abs() < 0.1 && (is.p95 / was.p95 - 1.0).abs() < 0.1, "{was:?} {is:?}");
}

/// A calm log, and a hundred requests whose attempt at the diffusion engine ends so: the AR engine takes over.
fn half_of_the_first_attempts_end(outcome: &str) -> String {
    let mut text = calm(400);
    for number in 0..100_u64 {
        let answered = line(number * 4 + 1, 60.0 + number as f64 * 0.1, 1.0);
        let tried =
            format!("\"attempts\":[{{\"backend\":\"diffusion\",\"start_ms\":0.1,\"ms\":3,\"outcome\":\"{outcome}\"}},");
        let plan = answered
            .replace("\"attempts\":[{\"backend\":\"ar\",\"start", &format!("{tried}{{\"backend\":\"ar\",\"start"));
        let plan = plan.replace("\"name\":\"chat\"", "\"name\":\"function_call\"");
        text.push_str(&plan.replace("\"tool_needed\":false", "\"tool_needed\":true"));
    }
    text
}

#[test]
fn failures_are_measured_and_followed_by_the_next() {
    let recorded = of_log(&half_of_the_first_attempts_end("stream_cut")).unwrap();
    let diffusion = &recorded.servers.backend[0];
    assert_eq!((diffusion.name.as_str(), diffusion.failures), ("diffusion", 0.5));
    let report = recorded.run(&recorded.servers, &Policy::parse(BOTH, "both").unwrap(), &how(1.0));
    assert_eq!((report.unanswered, report.all.fallbacks), (0, report.backends[0].failed));
    assert!((60..140).contains(&report.all.fallbacks), "{report:?}");
}

/// The simulation has the built-in engines' queues: what these had no room for must not fail there a second time. What
/// an upstream's queue is nobody knows.
#[test]
fn an_overload_is_no_failure_where_the_queue_is_simulated() {
    let text = half_of_the_first_attempts_end("overloaded");
    let recorded = of_log(&text).unwrap();
    let told = &recorded.summary.backends[0];
    assert_eq!((told.name.as_str(), told.answers, told.failed, told.shed), ("diffusion", 100, 0, 100));
    assert_eq!(recorded.servers.backend[0].failures, 0.0);
    let policy = Policy::parse(BOTH, "both").unwrap();
    let report = recorded.run(&recorded.servers, &policy, &how(1.0));
    assert_eq!((report.all.answered, report.all.fallbacks, report.backends[0].shed), (500, 0, 0), "{report:?}");
    // Where the queue is full in the simulation, it sheds.
    let mut narrow = recorded.servers.clone();
    (narrow.backend[0].concurrency, narrow.backend[0].queue) = (1, 0);
    let report = recorded.run(&narrow, &policy, &how(40.0));
    assert!(report.backends[0].shed > 0 && report.backends[0].failed == 0, "{report:?}");

    let (lines, unread) = read(&text);
    let upstream = hosts().into_iter().map(|host| Host { places: None, ..host }).collect::<Vec<_>>();
    let recorded = Recorded::of(&lines, unread, &upstream).unwrap();
    let told = &recorded.summary.backends[0];
    assert_eq!((told.failed, told.shed, recorded.servers.backend[0].failures), (100, 0, 0.5));
}

#[test]
fn what_is_left_out_is_counted_and_too_little_is_said() {
    let mut text = calm(100);
    let _ = writeln!(text, "{{\"v\":2,\"time\":\"x\"}}\n{{\"v\":1,\"ti\nnothing\n{{\"a\":1}}");
    let _ = writeln!(text, "{{\"v\":1,\"plan\":{{\"rule\":\"r\"}}}}");
    let _ = writeln!(text, "{{\"v\":1,\"time\":\"2026-11-29T08:00:00Z\",\"outcome\":\"unauthorized\"}}");
    text.push_str(&line(0, 1.0, 1.0).replace("\"time\"", "\"tide\""));
    text.push_str(&line(0, 1.0, 1.0).replace("\"outcome\":\"finished\",\"ttft", "\"outcome\":\"cancelled\",\"ttft"));
    let recorded = of_log(&text).unwrap();
    let left_out = &recorded.summary.left_out;
    assert_eq!(left_out.values().sum::<u64>(), 7, "{left_out:?}");
    for (why, count) in [("version 2", 1), ("no JSON", 2), ("no version", 1), ("features", 1), ("without a time", 1)] {
        let found: u64 = left_out.iter().filter(|(told, _)| told.contains(why)).map(|(_, count)| count).sum();
        assert_eq!(found, count, "{why}: {left_out:?}");
    }
    assert_eq!(left_out["without a decision (unauthorized)"], 1);
    assert_eq!((recorded.summary.requests, recorded.summary.without_answer), (101, 1));

    let of = |text: &str| {
        let (lines, unread) = read(text);
        Recorded::of(&lines, unread, &hosts()).map(|_| ()).unwrap_err()
    };
    assert_eq!(of(&calm(19)), TooLittle::Requests(19));
    assert_eq!(of(&(0..40).map(|number| line(number, 3.0, 1.0)).collect::<String>()), TooLittle::Moment);
    let nobody = calm(40).replace("\"outcome\":\"finished\"", "\"outcome\":\"timeout\"");
    let why = of(&nobody).to_string();
    assert!(why.contains("diffusion 0") && why.contains("12"), "{why}");
    // Ten answers of the diffusion engine are too few: it is named, and nobody is sent there.
    let few = of_log(&calm(40)).unwrap();
    assert!(few.summary.backends.iter().any(|one| one.name == "diffusion" && one.answers == 10 && !one.simulated));
    assert!(few.servers.backend.iter().all(|fleet| fleet.name == "ar"));
    let report = few.run(&few.servers, &Policy::parse(BOTH, "both").unwrap(), &how(1.0));
    assert_eq!(report.all.answered, 40, "the plan's next takes them");
}
