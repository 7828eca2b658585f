//! What people write who know other tools, and what they are told. Must never assert more than the words that help.

use weir_router_policies::Policy;

fn rule(attempts: &str, when: &str) -> String {
    format!("[[rule]]\nname = \"a\"\n{when}\nroute = \"a\"\nreason = \"r\"\nattempts = {attempts}\n")
}

#[track_caller]
fn told(text: &str, words: &[&str]) {
    let error = Policy::parse(text, "p.toml").expect_err(text).to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in:\n{error}");
    }
    assert!(!error.contains("u64") && !error.contains("struct "), "a word of ours: {error}");
}

#[test]
fn values_of_another_kind_are_told_by_their_key() {
    told(&rule("[\"small\"]", ""), &["p.toml:6:13: `attempts`: ", "write it like `{ backend = \"role:ar\" }`"]);
    told(&rule("\"small\"", ""), &["`attempts`: ", "expected a list"]);
    let budget = |budget: &str| rule(&format!("[{{ backend = \"b\", first_content_ms = {budget} }}]"), "");
    told(&budget("\"5s\""), &["p.toml:6:", ": `first_content_ms`: ", "expected a whole number from 0 up"]);
    told(&budget("0.5"), &["`first_content_ms`: ", "expected a whole number from 0 up"]);
    told(&budget("-1"), &["`first_content_ms`: ", "expected a whole number from 0 up"]);
    told("defaults = 3", &["`defaults`: ", "expected a table"]);
}

#[test]
fn a_share_needs_another() {
    let weights = |a: &str, b: &str| rule(&format!("[{{ backend = \"x\"{a} }}, {{ backend = \"y\"{b} }}]"), "");
    told(&weights(", weight = 5", ""), &["p.toml:6:", "rule `a`: `weight` is a share", "the attempt beside it"]);
    told(&weights("", ", weight = 5"), &["`weight` is a share"]);
    assert!(Policy::parse(&weights(", weight = 5", ", weight = 1"), "p.toml").is_ok());
}

#[test]
fn words_of_other_languages_are_translated_in_capitals_too() {
    let last = rule("[{ backend = \"b\" }]", "").replace("\"a\"", "\"b\"");
    for when in ["tool_needed AND question", "NOT tool_needed", "tool_needed or question"] {
        let text = rule("[{ backend = \"b\" }]", &format!("when = \"{when}\"")) + &last;
        told(&text, &["write `&&` for and, `||` for or, `!` for not"]);
    }
}

#[test]
fn tests_say_how_a_feature_is_given() {
    let test = |given: &str| {
        rule("[{ backend = \"b\" }]", "")
            + &format!("[[test]]\nname = \"t\"\ngiven = {{ {given} }}\nexpect = {{ rule = \"a\" }}\n")
    };
    told(&test("tools_count = '3'"), &["`tools_count` takes a whole number from 0 up"]);
    told(&test("tool_needed = 1"), &["`tool_needed` takes `true` or `false`"]);
    told(&test("family = 'sql', family_probability = 7.5"), &["no probability from 0.0 to 1.0"]);
    assert!(Policy::parse(&test("family = 'sql', family_probability = 1"), "p.toml").is_ok());
}
