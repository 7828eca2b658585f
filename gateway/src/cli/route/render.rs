//! An explanation for people: what was understood, the rules with a mark each, the plan.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value as Json;

use crate::route::Explained;

/// Features that say nothing are left out: false, 0, empty. `kept`: the file with what a gateway has measured.
pub(super) fn text(explained: &Explained, kept: Option<&Path>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "policy    {}", explained.policy);
    let _ = writeln!(out, "model     {}", explained.model);
    for (name, value) in [("agent", &explained.agent), ("session", &explained.session)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{name:<9} {value}");
        }
    }
    let features = serde_json::to_value(&explained.features).unwrap_or_default();
    let said: Vec<String> = features.as_object().into_iter().flatten().filter(says).map(shown).collect();
    let _ = writeln!(out, "features  {}", said.join(", "));
    if let Some(family) = &explained.family {
        let _ = writeln!(out, "family    {} ({:.0} %)", family.name, family.probability * 100.0);
    }
    let kept = kept.map_or_else(|| "[latency] file".into(), |file| file.display().to_string());
    let measured = explained.predicted.iter().map(|one| ("predicted", one, format!("measured, from {kept}")));
    let why = "published figures, nothing measured; no rule sees it";
    let guessed = explained.guessed.iter().map(|one| ("guessed", one, why.to_owned()));
    for (word, one, from) in measured.chain(guessed) {
        let (ttft, total) = (one.ttft, one.total);
        let _ = writeln!(
            out,
            "{word:<9} {}: first content {:.0} ms, end {:.0} ms ({:.0} to {:.0}); {from}",
            one.backend, ttft.expected_ms, total.expected_ms, total.low_ms, total.high_ms
        );
    }
    out.push_str("rules\n");
    for rule in &explained.rules {
        let mark = match (rule.decides, rule.holds) {
            (true, _) => "=> ",
            (false, Some(true)) => " + ",
            (false, Some(false)) => " - ",
            (false, None) => " ? ",
        };
        let _ = writeln!(
            out,
            "{mark}{}{}",
            rule.rule,
            if rule.when.is_none() { " (applies to every request)" } else { "" }
        );
        for term in &rule.because {
            let holds = term.holds.map_or("cannot be told", |holds| if holds { "true" } else { "false" });
            let _ = writeln!(out, "      {holds}: {}", term.condition);
        }
        if let Some(trouble) = &rule.trouble {
            let _ = writeln!(out, "      no match: {trouble}");
        }
    }
    plan(&mut out, explained);
    out
}

fn plan(out: &mut String, explained: &Explained) {
    let plan = &explained.plan;
    let _ = writeln!(out, "plan      {} by `{}`: {}", plan.route, plan.rule, plan.reason);
    for (index, attempt) in plan.attempts.iter().enumerate() {
        let mut more = String::new();
        if let Some(mode) = attempt.decoding.mode {
            let _ = write!(more, ", mode {}", format!("{mode:?}").to_lowercase());
        }
        if let Some(wait) = attempt.first_content_ms {
            let _ = write!(more, ", waits {wait} ms for the first content");
        }
        if attempt.condensed {
            more.push_str(", condensed");
        }
        let _ = writeln!(out, "  {}. {}{more}", index + 1, attempt.backend);
    }
    for passed in &plan.passed_over {
        let _ = writeln!(out, "  passed over: {}: {}", passed.backend, passed.why);
    }
    for note in &plan.notes {
        let _ = writeln!(out, "  note: {note}");
    }
    if let Some(condensed) = &explained.condensed {
        let left = &condensed.left_out;
        let _ = writeln!(
            out,
            "condensed {} bytes, {} tools; left out: {} bytes, {} characters of system text, {} turns, tools {}",
            condensed.size.bytes,
            condensed.size.tools,
            left.bytes,
            left.system_chars,
            left.turns,
            if left.tools.is_empty() { "none".to_owned() } else { left.tools.join(", ") }
        );
    }
}

fn says((_, value): &(&String, &Json)) -> bool {
    match value {
        Json::Bool(value) => *value,
        Json::Number(value) => value.as_u64() != Some(0),
        Json::String(value) => !value.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(_) | Json::Null => false,
    }
}

fn shown((name, value): (&String, &Json)) -> String {
    match value {
        Json::Bool(_) => name.clone(),
        Json::String(value) => format!("{name} {value}"),
        other => format!("{name} {other}"),
    }
}
