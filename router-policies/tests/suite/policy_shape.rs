//! Mistakes of a file's shape, and attempts that only mean something with other backends.

use weir_router_policies::Policy;

use crate::policy_errors::{Expected, GOOD, check};

#[test]
fn attempts_that_cannot_do_what_they_say() {
    let said = |attempts: &str| {
        let text = GOOD.replace("[{ backend = \"role:ar\" }]", attempts);
        let policy = Policy::parse(&text, "p.toml").unwrap_or_else(|error| panic!("{error}"));
        let mut backends = policy.test_backends();
        let gpu = backends.iter_mut().find(|one| one.name == "gpu").expect("it is named");
        (gpu.role, gpu.group) = (weir_router_policies::BackendRole::Ar, Some("pool".to_owned()));
        policy
            .check_attempts(&backends)
            .iter()
            .map(|one| format!("{:?} {}", one.position, one.message))
            .collect::<Vec<_>>()
    };
    assert!(said("[{ backend = \"role:ar\" }]").is_empty());
    assert!(said("[{ backend = \"role:diffusion\", mode = \"speed\" }]").is_empty());
    assert!(said("[{ backend = \"gpu\", weight = 1 }, { backend = \"role:diffusion\", weight = 1 }]").is_empty());
    assert!(said("[{ backend = \"gpu\" }, { backend = \"role:ar\" }]").is_empty(), "no shares, no mistake");
    assert_eq!(
        said("[{ backend = \"gpu\", mode = \"speed\" }]"),
        ["Some((12, 25)) `gpu` is an AR backend, to which `mode` and `diffusion` mean nothing"]
    );
    for (other, shown) in [("role:ar", "`role:ar`"), ("pool", "`pool`")] {
        let attempts = format!("[{{ backend = \"gpu\", weight = 1 }}, {{ backend = \"{other}\", weight = 1 }}]");
        let message = format!("`gpu` and {shown} share a backend, so their weights are no shares");
        assert!(said(&attempts).iter().any(|one| one.ends_with(&message)), "{:?}", said(&attempts));
    }
}

#[test]
fn the_shape_of_a_file_is_explained_where_it_is_wrong() {
    for (from, to, line, message, help) in [
        ("route = \"ar\"\n", "", 8, "missing field `route`", ""),
        ("{ backend = \"gpu\" }", "\n  { weight = 1 }", 7, "missing field `backend`", ""),
        ("route = \"ar\"", "route = \"ar\"\nroute = \"b\"", 11, "`route` stands twice in this table", ""),
        (
            "reason = \"free text\"",
            "reason = \"free text\"\ninclude = [\"a.toml\"]",
            12,
            "unknown field `include`, expected one of `name`, `when`, `route`, `reason`, `attempts`",
            "it stands at the top of the file, before the first `[…]`",
        ),
    ] {
        check(from, to, &Expected { line, rule: "", message, help });
    }
    let error = Policy::parse("\n[rule]\nname = \"a\"", "p.toml").expect_err("one table").to_string();
    assert_eq!(
        error,
        "p.toml:2:1: invalid type: map, expected a sequence\n  help: one of several is written in two brackets: `[[…]]`"
    );
    let twice = "{ backend = \"gpu\" }, { backend = \"gpu\", first_content_ms = 9 }";
    check(
        "{ backend = \"gpu\" }",
        twice,
        &Expected {
            line: 6,
            rule: "tools",
            message: "`gpu` stands twice, and each backend is asked once",
            help: "leave one out; `retries` of its `[[backend]]` are tries again",
        },
    );
}

#[test]
fn operators_within_operators() {
    let plus = |count: usize| format!("when = \"1{} > 0\"", " + 1".repeat(count));
    let message = "more than 100 operators are within each other";
    let help = "split it into several rules with the same attempts";
    let expected = Expected { line: 3, rule: "tools", message, help };
    check("when = \"tool_needed\"", &plus(120), &expected);
    check("when = \"tool_needed\"", &plus(240), &expected);
    let fine = GOOD.replacen("when = \"tool_needed\"", &plus(90).replace("1 + 1 +", "max_tokens + 1 +"), 1);
    assert!(Policy::parse(&fine, "p.toml").is_ok());
    let ands = format!("when = \"tool_needed{}\"", " && question".repeat(70));
    assert!(
        Policy::parse(&GOOD.replacen("when = \"tool_needed\"", &ands, 1), "p.toml").is_ok(),
        "they lie side by side"
    );
}
