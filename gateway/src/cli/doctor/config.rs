//! What `weir check` would say of the config, without loading an engine.

use super::{Finding, Subject};
use crate::config::Diagnostic;

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    let settings = match &subject.settings {
        Ok(settings) => settings,
        Err(errors) => {
            let one = |diagnostic: &Diagnostic| {
                let help = diagnostic.help.clone();
                let finding = Finding::problem(Diagnostic { help: String::new(), ..diagnostic.clone() }.to_string());
                if help.is_empty() { finding } else { finding.fix(help) }
            };
            return errors.0.iter().map(one).collect();
        }
    };
    let mut findings = vec![Finding::ok(format!("config from {}", settings.origins.join(" ← ")))];
    let policy = &settings.policy;
    findings.push(match policy.parse() {
        Ok(_) => Finding::ok(format!("policy from {}", policy.origin)),
        Err(error) => Finding::problem(format!("policy: {error:#}")).fix("mend the policy file that is named"),
    });
    findings
}
