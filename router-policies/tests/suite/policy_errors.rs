//! Each mistake is told with its place, its rule and a way out. One `check` per mistake; every part is asserted.

use weir_router_policies::{Diagnostic, Policy};

pub(crate) const GOOD: &str = r#"[[rule]]
name = "tools"
when = "tool_needed"
route = "diffusion"
reason = "a tool is needed"
attempts = [{ backend = "role:diffusion", mode = "speed", first_content_ms = 4000 }, { backend = "gpu" }]

[[rule]]
name = "rest"
route = "ar"
reason = "free text"
attempts = [{ backend = "role:ar" }]
"#;

pub(crate) struct Expected<'a> {
    pub(crate) line: usize,
    pub(crate) rule: &'a str,
    pub(crate) message: &'a str,
    pub(crate) help: &'a str,
}

/// `from` → `to` in the good policy gives exactly one complaint.
pub(crate) fn check(from: &str, to: &str, expected: &Expected<'_>) {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD, "{from:?} is in the good policy");
    let error = Policy::parse(&text, "p.toml").expect_err(to);
    let [Diagnostic { origin, position, rule, message, help }] = &error.diagnostics[..] else {
        panic!("one complaint about {to:?}, got:\n{error}");
    };
    assert_eq!(origin, "p.toml");
    assert_eq!(position.map_or(0, |(line, _)| line), expected.line, "line for {to:?}: {error}");
    assert_eq!(rule, expected.rule, "rule for {to:?}");
    assert_eq!(message, expected.message, "message for {to:?}");
    assert_eq!(help, expected.help, "help for {to:?}");
}

#[test]
fn names_in_conditions() {
    for (when, message, help) in [
        ("tool_neded", "unknown variable `tool_neded`", "did you mean `tool_needed`?"),
        ("sizes(unsupported) > 0", "unknown function or operator `sizes`", "did you mean `size`?"),
        ("backends.difusion.present", "unknown backend role `difusion`", "did you mean `diffusion`?"),
        ("backends.ar.presnt", "unknown backend fact `presnt`", "did you mean `present`?"),
        (
            "backends.ar",
            "`backends.ar` names no backend fact",
            "write `backends.<role>.<fact>`, as in `backends.ar.present`",
        ),
        (
            "backends == 1",
            "`backends` names no backend fact",
            "write `backends.<role>.<fact>`, as in `backends.ar.present`",
        ),
        (
            "trigger.kind == 'user'",
            "`trigger` has no field `kind`",
            "only `backends` and `predicted` have fields, as in `backends.ar.present`",
        ),
        (
            "tools_count",
            "the condition gives a number, not true or false",
            "compare it with something, as in `tools_count > 0`",
        ),
        (
            "unsupported.all(x, x == 'n')",
            "unknown function or operator `all`",
            "known: size, contains, startsWith, endsWith",
        ),
        ("{'a': 1} == {'a': 1}", "conditions have no loops, maps or structs", "`x in list` asks about a list"),
    ] {
        check("\"tool_needed\"", &format!("\"{when}\""), &Expected { line: 3, rule: "tools", message, help });
    }
}

#[test]
fn conditions_that_are_no_cel() {
    for when in ["tool_needed &&", "", "((", "tool_needed tool_needed", "'", "a = b", "\\u0000"] {
        let text = GOOD.replacen("\"tool_needed\"", &format!("\"{when}\""), 1);
        let error = Policy::parse(&text, "p.toml").expect_err(when);
        let said = &error.diagnostics[0];
        assert_eq!((said.rule.as_str(), said.position), ("tools", Some((3, 8))), "{error}");
        assert!(said.message.starts_with("the condition ") && !said.message.contains('\n'), "{error}");
    }
    let long = format!("\"{}true\"", "true && ".repeat(200));
    check(
        "\"tool_needed\"",
        &long,
        &Expected {
            line: 3,
            rule: "tools",
            message: "the condition has 1604 bytes, 1000 are allowed",
            help: "split it into several rules with the same attempts",
        },
    );
}

#[test]
fn types_are_told_even_behind_a_short_circuit() {
    let order = "a number has no order with a text";
    for (when, message, help) in [
        ("tools_count > 'many'", &*format!("`tools_count > 'many'` makes no sense: {order}"), ""),
        ("tool_needed || max_tokens < 'a'", &*format!("`max_tokens < 'a'` makes no sense: {order}"), ""),
        ("tool_needed && 5", "`tool_needed && 5` makes no sense: `5` is a number, not true or false", ""),
        ("!max_tokens", "`!max_tokens` makes no sense: `max_tokens` is a number, not true or false", ""),
        ("trigger == 3", "`trigger == 3` makes no sense: a text is never a number", ""),
        ("trigger in 'user'", "`trigger in 'user'` makes no sense: `'user'` is a text, not a list", ""),
        ("trigger == 'usr'", "unknown word for `trigger`: `usr`", "did you mean `user`?"),
        (
            "'fro' in unsupported || language in ['de', 'fro']",
            "unknown word for `language`: `fro`",
            "did you mean `fr`?",
        ),
        ("family == 'sqll'", "unknown word for `family`: `sqll`", "did you mean `sql`?"),
        (
            "predicted.ar.total_ms * 2 < 100.0",
            "`predicted.ar.total_ms * 2` makes no sense: a whole number and one with a fraction do not mix",
            "write the constant as the other side is, `2.0` for `2`",
        ),
        ("predicted.ar.totl_ms < 100.0", "unknown prediction `totl_ms`", "did you mean `total_ms`?"),
        (
            "predicted.ar",
            "`predicted.ar` names no prediction",
            "write `predicted.<role or backend>.<fact>`, as in `predicted.ar.total_ms`; a name that is no plain word stands \
             in brackets: `predicted['gpu-1'].total_ms`",
        ),
        (
            "null == null",
            "conditions have no bytes, no unsigned numbers and no null",
            "every name has a value: 0, an empty text or false where nothing is known",
        ),
    ] {
        check("\"tool_needed\"", &format!("\"{when}\""), &Expected { line: 3, rule: "tools", message, help });
    }
}

#[test]
fn fields_of_the_file() {
    let none = |line, message, help| Expected { line, rule: "", message, help };
    check(
        "when =",
        "wehn =",
        &none(
            3,
            "unknown field `wehn`, expected one of `name`, `when`, `route`, `reason`, `attempts`",
            "did you mean `when`?",
        ),
    );
    check(
        "mode = \"speed\"",
        "mode = \"sped\"",
        &none(6, "unknown variant `sped`, expected one of `speed`, `quality`, `custom`", "did you mean `speed`?"),
    );
    check(
        "[[rule]]\nname = \"rest\"",
        "[[rules]]\nname = \"rest\"",
        &none(
            8,
            "unknown field `rules`, expected one of `about`, `include`, `defaults`, `pins`, `condense`, `rule`, `test`",
            "did you mean `rule`?",
        ),
    );
    check("reason = \"a tool is needed\"\n", "", &none(1, "missing field `reason`", ""));
}

#[test]
fn values_of_rules() {
    let label_help = "letters, digits, `-`, `_` and `.`, at most 64";
    check(
        "name = \"tools\"",
        "name = \"to ols\"",
        &Expected { line: 2, rule: "", message: "`name` is not a plain word", help: label_help },
    );
    check(
        "route = \"diffusion\"",
        "route = \"\"",
        &Expected { line: 4, rule: "tools", message: "`route` is not a plain word", help: label_help },
    );
    check(
        "\"a tool is needed\"",
        "\"two\\nlines\"",
        &Expected {
            line: 5,
            rule: "tools",
            message: "`reason` is not one plain line",
            help: "it is returned in a header: printable ASCII, at most 200 characters",
        },
    );
    check(
        "name = \"tools\"",
        "name = \"pin\"",
        &Expected {
            line: 2,
            rule: "pin",
            message: "`pin` is the name of plans for pinned models",
            help: "choose another name",
        },
    );
    check(
        "name = \"tools\"",
        "name = \"rest\"",
        &Expected {
            line: 9,
            rule: "rest",
            message: "another rule has this name",
            help: "names tell rules apart in plans and metrics",
        },
    );
    check(
        "[{ backend = \"role:ar\" }]",
        "[]",
        &Expected {
            line: 12,
            rule: "rest",
            message: "the rule has no attempts",
            help: "name a backend: `attempts = [{ backend = \"role:ar\" }]`",
        },
    );
    check(
        "role:ar",
        "role:arr",
        &Expected {
            line: 12,
            rule: "rest",
            message: "unknown backend role `arr`",
            help: "there are `role:diffusion` and `role:ar`",
        },
    );
    check(
        "{ backend = \"role:ar\" }",
        "{ backend = \"role:ar\", mode = \"speed\" }",
        &Expected {
            line: 12,
            rule: "rest",
            message: "`mode` is for diffusion engines",
            help: "leave it out of an `ar` attempt",
        },
    );
    let tools = |message, help| Expected { line: 6, rule: "tools", message, help };
    check(
        "mode = \"speed\"",
        "mode = \"speed\", diffusion = { mode = \"quality\" }",
        &tools("`mode` is said twice", "leave it out of `diffusion`"),
    );
    check(
        "mode = \"speed\"",
        "diffusion = { block_length = 24 }",
        &tools("`diffusion.block_length` must be a power of two from 1 to 256", ""),
    );
    check(
        "4000",
        "0",
        &Expected {
            line: 6,
            rule: "tools",
            message: "`first_content_ms` is 0",
            help: "between 1 and 600000; leave it out for the backend's own limit",
        },
    );
}

#[test]
fn rules_together() {
    check(
        "name = \"rest\"",
        "name = \"rest\"\nwhen = \"true\"",
        &Expected {
            line: 0,
            rule: "",
            message: "no rule applies to every request",
            help: "end with a rule without `when`, so that every request has a plan",
        },
    );
    check(
        "when = \"tool_needed\"\n",
        "",
        &Expected {
            line: 8,
            rule: "rest",
            message: "never reached: `tools` before it applies to every request",
            help: "move it up, or give the other rule a `when`",
        },
    );
}

#[test]
fn rules_that_can_never_decide() {
    let between = "[[rule]]\nname = \"never\"\nwhen = \"WHEN\"\nroute = \"x\"\nreason = \"r\"\nattempts = [{ backend = \"gpu\" }]\n\n";
    let rest = "[[rule]]\nname = \"rest\"";
    for (when, message, help) in [
        ("max_tokens > 10 && max_tokens < 5", "never true: its parts exclude each other", ""),
        (
            "tool_needed && question",
            "never reached: whenever it holds, `tools` before it holds, too",
            "move it up, or narrow the other rule",
        ),
    ] {
        let to = format!("{}{rest}", between.replace("WHEN", when));
        check(rest, &to, &Expected { line: 9, rule: "never", message, help });
    }
    let text = GOOD.replace(
        rest,
        &format!(
            "{}{}{rest}",
            between.replace("WHEN", "!tool_needed && question"),
            between.replace("never", "both").replace("WHEN", "question")
        ),
    );
    let error = Policy::parse(&text, "p.toml").expect_err("shadowed by two");
    assert_eq!(error.diagnostics[0].rule, "both");
    assert_eq!(error.diagnostics[0].message, "never reached: whenever it holds, one of the rules before it holds, too");
}

#[test]
fn rules_that_reach_nobody() {
    let policy = Policy::parse(GOOD, "p.toml").unwrap_or_else(|error| panic!("{error}"));
    let all = policy.test_backends();
    assert!(policy.check_reach(&all).is_empty());
    let said = policy.check_reach(&all[..1]);
    assert_eq!(said.iter().map(|one| one.rule.as_str()).collect::<Vec<_>>(), ["rest"]);
    assert_eq!(said[0].message, "can reach no backend");
    let tail =
        GOOD.replace("when = \"tool_needed\"", "when = \"tail_is_tool_result\"").replace(", { backend = \"gpu\" }", "");
    let policy = Policy::parse(&tail, "p.toml").unwrap_or_else(|error| panic!("{error}"));
    let said = policy.check_reach(&policy.test_backends());
    assert_eq!(
        said[0].message,
        "can reach no backend: with `tail_is_tool_result` no diffusion backend takes a request"
    );
}

#[test]
fn predictions_are_asked_of_known_backends() {
    let text = GOOD.replace("\"tool_needed\"", "\"predicted['gpu-2'].total_ms < predicted.ar.total_ms\"");
    let policy = Policy::parse(&text, "p.toml").unwrap_or_else(|error| panic!("{error}"));
    let said: Vec<String> = policy.check_backends(&["gpu", "gpu-1", "ar"]).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "p.toml:2:8: rule `tools`: `predicted['gpu-2'].total_ms`: unknown backend `gpu-2`\n  help: did you mean `gpu-1`?"
        ]
    );
}

#[test]
fn all_mistakes_are_told_at_once_and_rendered_once() {
    let text = GOOD.replace("tool_needed", "tool_neded").replace("role:ar", "role:arr");
    let error = Policy::parse(&text, "p.toml").expect_err("two mistakes");
    assert_eq!(
        error.to_string(),
        "p.toml:3:8: rule `tools`: unknown variable `tool_neded`\n  help: did you mean `tool_needed`?\n\
         p.toml:12:25: rule `rest`: unknown backend role `arr`\n  help: there are `role:diffusion` and `role:ar`"
    );
}

#[test]
fn named_backends_are_checked_by_who_knows_them() {
    let policy = Policy::parse(GOOD, "p.toml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(policy.backends(), ["gpu"]);
    assert!(policy.check_backends(&["gpu", "ar"]).is_empty());
    let said: Vec<String> = policy.check_backends(&["gpu2", "ar"]).iter().map(ToString::to_string).collect();
    assert_eq!(said, ["p.toml:6:98: rule `tools`: unknown backend `gpu`\n  help: did you mean `gpu2`?"]);
}

#[test]
fn tenants_in_conditions_are_those_there_are() {
    let text =
        GOOD.replace("\"tool_needed\"", "\"tenant in ['lab', 'kitchn'] || !(tenant != '') || tenant.startsWith('x')\"");
    let policy = Policy::parse(&text, "p.toml").unwrap_or_else(|error| panic!("{error}"));
    let said = |known: &[&str]| policy.check_tenants(known).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        said(&["lab", "kitchen"]),
        ["p.toml:2:8: rule `tools`: no tenant is named `kitchn`\n  help: did you mean `kitchen`?"]
    );
    assert!(said(&[]).is_empty(), "where there are no tenants, nobody knows");
}

#[test]
fn another_languages_words_are_known() {
    for (when, help) in [
        ("tool_needed and stream", "write `&&` for and, `||` for or, `!` for not"),
        ("not tool_needed", "write `&&` for and, `||` for or, `!` for not"),
        ("tool_needed = true", "write `==` to compare"),
        ("tenant == 'and' & stream", "an example: `tool_needed && prompt_tokens_estimate < 800`"),
        (
            "predicted.gpu-1.ttft_ms > 3",
            "write `predicted.<role or backend>.<fact>`, as in `predicted.ar.total_ms`; a name that is no plain word stands in brackets: `predicted['gpu-1'].total_ms`",
        ),
    ] {
        let text = GOOD.replace("\"tool_needed\"", &format!("\"{when}\""));
        let error = Policy::parse(&text, "p.toml").expect_err(when);
        assert_eq!(error.diagnostics[0].help, help, "{when}");
    }
}
