//! Policies of several files, with defaults, weights, condensation, and tests inside them.

use std::collections::BTreeMap;
use std::path::Path;

use weir_protocol::DecodeMode;
use weir_router_policies::policy::{TestOutcome, format};
use weir_router_policies::{Features, Interval, JudgedFamily, Policy, Predicted, Question};

fn parse(files: &[(&str, &str)]) -> Result<Policy, String> {
    let map: BTreeMap<&str, &str> = files.iter().copied().collect();
    let mut read = |path: &Path| {
        let text = path.to_str().and_then(|path| map.get(path));
        text.map(|text| (*text).to_owned()).ok_or_else(|| "no such file".to_owned())
    };
    Policy::parse_with(files[0].1, files[0].0, &mut read).map_err(|error| error.to_string())
}

const COMMON: &str = r#"
[pins]
fallback = [{ backend = "role:ar" }]
[[rule]]
name = "tools"
when = "tool_needed"
route = "diffusion"
reason = "tools"
attempts = [{ backend = "role:diffusion" }]
[[test]]
name = "not run from here"
given = { tool_needed = true }
expect = { rule = "no such rule" }
"#;

const OWN: &str = r#"
about = "For tests."
include = ["./lib/common.toml"]
[defaults]
mode = "quality"
first_content_ms = 500
condense = true
[condense]
instructions = "Answer briefly."
[[rule]]
name = "quick"
when = "predicted.diffusion.total_ms < predicted.ar.total_ms && family == 'sql' && family_probability > 0.8"
route = "diffusion"
reason = "sql, and diffusion is quicker"
attempts = [{ backend = "role:diffusion", mode = "speed", condense = false }, { backend = "role:ar" }]
[[rule]]
name = "night"
when = "tenant == 'kitchen' && hour >= 22 && weekday in ['sat', 'sun']"
route = "night"
reason = "nobody is awake"
attempts = [{ backend = "role:diffusion" }, { backend = "role:ar" }]
[[rule]]
name = "rest"
route = "ar"
reason = "free text"
attempts = [{ backend = "role:ar", weight = 3 }, { backend = "gpu", weight = 1 }, { backend = "role:diffusion" }]

[[test]]
name = "the included rule is first"
given = { tool_needed = true, family = "sql", predicted = { diffusion = { total_ms = 1 }, ar = { total_ms = 2 } } }
expect = { rule = "tools", route = "diffusion", first = "diffusion" }
[[test]]
name = "sql where diffusion is quicker"
given = { family = "sql", predicted = { diffusion = { total_ms = 100 }, ar = { total_ms = 200 } } }
expect = { rule = "quick", attempts = ["diffusion", "gpu", "ar"], condensed = false }
[[test]]
name = "not sure enough"
given = { family = "sql", family_probability = 0.5, predicted = { diffusion = { total_ms = 100 }, ar = { total_ms = 200 } } }
expect = { rule = "rest" }
[[test]]
name = "sql by its text"
given = { predicted = { diffusion = { total_ms = 100 }, ar = { total_ms = 200 } } }
request = "Write an SQL query that counts the orders of each customer."
expect = { rule = "quick" }
[[test]]
name = "what is given goes before what the text looks like"
given = { family = "chat", predicted = { diffusion = { total_ms = 100 }, ar = { total_ms = 200 } } }
request = "Write an SQL query that counts the orders of each customer."
expect = { rule = "rest" }
[[test]]
name = "a night"
given = { tenant = "kitchen", hour = 23, weekday = "sun" }
expect = { rule = "night", condensed = true }
[[test]]
name = "a text"
request = "hi"
expect = { rule = "rest" }
[[test]]
name = "fails"
request = { model = "ar", messages = [] }
expect = { rule = "rest", first = "diffusion" }
"#;

fn both() -> Policy {
    parse(&[("a/own.toml", OWN), ("a/lib/common.toml", COMMON)]).unwrap_or_else(|error| panic!("{error}"))
}

fn run(policy: &Policy) -> Vec<TestOutcome> {
    policy.run_tests(&policy.test_backends(), &|_| Err("no files here".to_owned()))
}

#[test]
fn includes_defaults_and_tests() {
    let policy = both();
    assert_eq!(policy.rules().collect::<Vec<_>>(), ["tools", "quick", "night", "rest"]);
    assert_eq!(policy.files(), ["a/lib/common.toml", "a/own.toml"]);
    let outcomes = run(&policy);
    let failed: Vec<&TestOutcome> = outcomes.iter().filter(|outcome| !outcome.problems.is_empty()).collect();
    assert_eq!(outcomes.len(), 8);
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0].problems, ["the request cannot be read: no files here"]);

    let features = Features { tool_needed: false, ..Features::default() };
    let backends = policy.test_backends();
    let predicted = ["diffusion", "ar"].map(|name| {
        let ms = if name == "ar" { 900.0 } else { 300.0 };
        let interval = Interval { expected_ms: ms, low_ms: ms, high_ms: ms };
        Predicted { backend: name.into(), ttft: interval, total: interval, error_rate: 0.0 }
    });
    let family = Some(JudgedFamily { name: "sql".into(), probability: 0.9 });
    let question = Question { family, predicted: &predicted, ..Question::about(features, &backends) };
    let plan = policy.decide(&question);
    assert_eq!(plan.rule, "quick");
    assert_eq!(plan.attempts[0].decoding.mode, Some(DecodeMode::Speed), "an attempt's own word wins");
    assert_eq!(plan.attempts[0].first_content_ms, Some(500), "the default");
    assert_eq!(plan.attempts.last().and_then(|last| last.first_content_ms), None, "nobody follows the last");
    let explained = policy.explain(&question);
    let quick = explained.rules.iter().find(|rule| rule.rule == "quick").expect("it is there");
    assert!(quick.decides && quick.holds == Some(true));
    assert_eq!(quick.because.len(), 3);
    assert_eq!(quick.because[0].condition, "predicted.diffusion.total_ms < predicted.ar.total_ms");
    assert_eq!(quick.values["predicted.ar.total_ms"], 900.0);
    let night = explained.rules.iter().find(|rule| rule.rule == "night").expect("it is there");
    assert_eq!(night.holds, Some(false));
    assert_eq!(
        night.because.iter().map(|term| term.holds).collect::<Vec<_>>(),
        [Some(false), Some(false), Some(false)]
    );
}

#[test]
fn weights_share_conversations_and_keep_each_where_it_is() {
    let policy = both();
    let backends = policy.test_backends();
    let first = |conversation| {
        let question = Question { conversation, ..Question::about(Features::default(), &backends) };
        policy.decide(&question).attempts[0].backend.clone()
    };
    let gpu = (0..4000).filter(|conversation| first(*conversation) == "gpu").count();
    // `gpu` is of the role `ar` too and comes first in it: both lots lead to it, so another policy tells them apart.
    assert_eq!(gpu, 4000);
    let text = OWN.replace("{ backend = \"role:ar\", weight = 3 }", "{ backend = \"ar\", weight = 3 }");
    let policy =
        parse(&[("a/own.toml", &text), ("a/lib/common.toml", COMMON)]).unwrap_or_else(|error| panic!("{error}"));
    let first = |conversation| {
        let question = Question { conversation, ..Question::about(Features::default(), &backends) };
        policy.decide(&question).attempts[0].backend.clone()
    };
    let gpu = (0..4000).filter(|conversation| first(*conversation) == "gpu").count();
    assert!((850..1150).contains(&gpu), "{gpu} of 4000 for a weight of 1 in 4");
    assert!((0..100).all(|conversation| first(conversation) == first(conversation)));
}

#[test]
fn mistakes_of_files_and_tests_are_told() {
    let own = |from: &str, to: &str| {
        let text = OWN.replace(from, to);
        assert_ne!(text, OWN, "{from}");
        parse(&[("a/own.toml", &text), ("a/lib/common.toml", COMMON)]).expect_err(to)
    };
    for (from, to, said) in [
        ("./lib/common.toml", "gone.toml", "a/own.toml:3:12: `a/gone.toml` cannot be read: no such file"),
        ("./lib/common.toml", "../a/own.toml", "`a/own.toml` includes itself"),
        ("instructions = \"Answer briefly.\"", "instructions = \"\"", "`instructions` has 0 bytes"),
        (
            "condense = true\n[condense]\ninstructions = \"Answer briefly.\"",
            "condense = true",
            "condensation is on, but nothing says how",
        ),
        ("weight = 3", "weight = 0", "`weight` is 0"),
        ("first_content_ms = 500", "first_content_ms = 0", "`first_content_ms` is 0"),
        (
            "given = { tenant = \"kitchen\", hour = 23",
            "given = { tenent = \"kitchen\", hour = 23",
            "test `a night`: unknown feature `tenent`\n  help: did you mean `tenant`?",
        ),
        ("hour = 23", "hour = 24", "test `a night`: `hour` is no hour from 0 to 23"),
        (
            "given = { family = \"sql\", family",
            "given = { family = \"sqk\", family",
            "test `not sure enough`: unknown family `sqk`\n  help: did you mean `sql`?",
        ),
        (
            "given = { tool_needed = true, family",
            "given = { tool_needed = 3, family",
            "`tool_needed` takes `true` or `false`",
        ),
        (
            "request = \"hi\"\nexpect = { rule = \"rest\" }",
            "request = \"hi\"\nexpect = {}",
            "test `a text`: nothing is expected",
        ),
    ] {
        let error = own(from, to);
        assert!(error.contains(said), "{to}: {error}");
    }
    let broken = COMMON.replace("tool_needed\"", "tool_neded\"");
    let error = parse(&[("a/own.toml", OWN), ("a/lib/common.toml", &broken)]).expect_err("in the included file");
    assert!(error.starts_with("a/lib/common.toml:6:8: rule `tools`: unknown variable `tool_neded`"), "{error}");
}

#[test]
fn a_file_is_laid_out_one_way_and_means_the_same() {
    let untidy = "# About it.\n[pins]\nfallback=[ {backend=\"role:ar\"} ]\n\n\n\n[[rule]]\n# why\nroute = \"ar\"   # where\nname = \"a\"\nreason=\"r\"\nattempts=[{first_content_ms=3, backend=\"role:diffusion\",},{backend=\"role:ar\"}]\n";
    let tidy = format(untidy).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(
        tidy,
        "# About it.\n[pins]\nfallback = [{ backend = \"role:ar\" }]\n\n[[rule]]\nname = \"a\"\n# why\nroute = \"ar\"   # where\n\
         reason = \"r\"\nattempts = [\n  { backend = \"role:diffusion\", first_content_ms = 3 },\n  { backend = \"role:ar\" },\n]\n"
    );
    assert_eq!(format(&tidy).as_ref(), Ok(&tidy), "laying out twice changes nothing");
    let noted = "[[rule]]\nname = \"a\"\nreason = \"r\"\nroute = \"ar\"\nattempts = [{\n  # who\n  backend = \"role:ar\", # all of it\n}]\n";
    let kept = format(noted).unwrap_or_else(|why| panic!("{why}"));
    assert!(kept.contains("# who") && kept.contains("# all of it"), "{kept}");
    for text in [OWN, COMMON, noted] {
        let once = format(text).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(format(&once).as_ref(), Ok(&once));
    }
    assert!(format("[[rule]").is_err());
}

/// One test with these predictions, over a condition on them: its problems, or what keeps the policy from being read.
fn foretold(predicted: &str) -> Result<Vec<String>, String> {
    let text = format!(
        r#"[[rule]]
name = "shaky"
when = "predicted['gpu-1'].error_rate > 0.2 || predicted.ar.ttft_high_ms > 900.0 && predicted.ar.known"
route = "ar"
reason = "it fails"
attempts = [{{ backend = "ar" }}]
[[rule]]
name = "rest"
route = "ar"
reason = "else"
attempts = [{{ backend = "role:ar" }}]
[[test]]
name = "t"
given = {{ predicted = {predicted} }}
expect = {{ rule = "shaky" }}
"#
    );
    let policy = parse(&[("p.toml", &text)]).map_err(|error| error.to_string())?;
    Ok(run(&policy).remove(0).problems)
}

#[test]
fn tests_may_foretell_whatever_a_condition_names() {
    for good in ["{ gpu-1 = { error_rate = 0.5 } }", "{ ar = { ttft_ms = 10, ttft_high_ms = 1000 } }"] {
        assert_eq!(foretold(good), Ok(Vec::new()), "{good}");
    }
    assert_eq!(
        foretold("{ gpu-9 = { error_rate = 0.5 } }"),
        Ok(vec!["`predicted` names `gpu-9`, which is no backend, group or role here".to_owned()])
    );
    for (wrong, said) in [
        ("{ ar = { totl_ms = 3 } }", "unknown prediction `totl_ms` of `ar`\n  help: did you mean `total_ms`?"),
        ("{ ar = { error_rate = 20 } }", "`error_rate` of `ar` is no share from 0 to 1"),
        ("{ ar = { ttft_ms = -1 } }", "`ttft_ms` of `ar` is no time in milliseconds"),
        ("{ ar = 3 }", "`predicted` holds no predictions"),
    ] {
        let error = foretold(wrong).expect_err(wrong);
        assert!(error.contains(said), "{wrong}: {error}");
    }
}
