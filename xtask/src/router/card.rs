//! The card of `models/router/`: what the shipped weights were made from and how good they are, computed from the
//! weights themselves. Must never print a figure that it did not just measure.

use std::fmt::Write;

use weir_router_policies::classify::Classifier;

use super::measure::{self, Judgement};
use super::train;

/// The part measured on made prompts: anyone can do it again.
pub(crate) fn made(classifier: &Classifier, judged: &[Judgement]) -> String {
    let mut out = String::new();
    let families = train::classes();
    let (right, all) = measure::accuracy(judged);
    let _ = writeln!(
        out,
        "{all} made prompts whose patterns training never saw: accuracy {:.3}, **macro-F1 {:.3}**, **ECE {:.3}**.",
        right,
        measure::macro_f1(judged),
        measure::calibration_error(judged)
    );
    out.push_str(&floor_line(classifier, judged));
    out.push_str("\n| family | precision | recall | F1 | prompts |\n|---|---|---|---|---|\n");
    for family in &families {
        let (precision, recall, f1, count) = measure::of_family(judged, *family);
        let _ = writeln!(out, "| {} | {precision:.3} | {recall:.3} | {f1:.3} | {count} |", family.as_str());
    }
    out.push_str("\nConfusion, truth down, found across, in the order above:\n\n```\n");
    for truth in &families {
        let row: Vec<String> = families
            .iter()
            .map(|found| judged.iter().filter(|one| one.truth == *truth && one.found == *found).count())
            .map(|count| format!("{count:4}"))
            .collect();
        let _ = writeln!(out, "{:16}{}", truth.as_str(), row.join(""));
    }
    out.push_str("```\n\n");
    out.push_str(&groups("language", judged, |one| one.language.clone()));
    out.push_str(&groups("characters", judged, |one| {
        let name = [(20, "0 to 19"), (60, "20 to 59"), (200, "60 to 199"), (800, "200 to 799")];
        name.iter().find(|(most, _)| one.chars < *most).map_or("800 and more", |(_, name)| name).to_owned()
    }));
    out
}

/// The part measured on public sets.
pub(crate) fn public(classifier: &Classifier, judged: &[Judgement]) -> String {
    let mut out = String::new();
    let (right, all) = measure::accuracy(judged);
    let _ = writeln!(
        out,
        "{all} questions of whole sets that training never saw: accuracy {right:.3}, macro-F1 over their families \
         {:.3}, ECE {:.3}.",
        measure::macro_f1(judged),
        measure::calibration_error(judged)
    );
    out.push_str(&floor_line(classifier, judged));
    out.push('\n');
    out.push_str(&groups("set", judged, |one| format!("{} ({})", one.source, one.truth.as_str())));
    out
}

/// Both together.
pub(crate) fn together(judged: &[Judgement]) -> String {
    format!(
        "All held-out prompts together: macro-F1 **{:.3}**, ECE **{:.3}**.\n",
        measure::macro_f1(judged),
        measure::calibration_error(judged)
    )
}

fn floor_line(classifier: &Classifier, judged: &[Judgement]) -> String {
    let floor = classifier.weights().floor;
    let (unsure, right) = measure::with_floor(judged, floor);
    format!(
        "Below a probability of {floor:.2} the family is `unsure`: {:.1} % of them; of the rest {right:.3} are right.\n",
        unsure * 100.0
    )
}

fn groups(title: &str, judged: &[Judgement], key: impl Fn(&Judgement) -> String) -> String {
    let mut out = format!("| {title} | accuracy | prompts |\n|---|---|---|\n");
    for (name, group) in measure::by(judged, key) {
        let (right, count) = measure::accuracy(group.iter().copied());
        let _ = writeln!(out, "| {name} | {right:.3} | {count} |");
    }
    out.push('\n');
    out
}
