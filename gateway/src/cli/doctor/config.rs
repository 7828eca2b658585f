//! What `weir check` would say of the config, without loading an engine.

use super::{Finding, Subject};
use crate::config::Diagnostic;
use crate::live::prepare::check_names;
use crate::route::Policies;

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
    let policies = Policies::of(settings).map_err(anyhow::Error::from);
    let checked = policies.and_then(|policies| policies.all().try_for_each(|policy| check_names(policy, settings)));
    findings.push(match checked {
        Ok(()) => Finding::ok(format!("policy from {}", settings.policy.origin)),
        Err(error) => Finding::problem(format!("policy: {error:#}")).fix("mend the policy file that is named"),
    });
    findings
}

#[cfg(test)]
mod tests {
    use std::cell::OnceCell;

    use super::*;
    use crate::cli::doctor::Level;
    use crate::config::{Inputs, load};

    #[track_caller]
    fn check(policy: &str, attempts: &str, said: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, policy).unwrap();
        let rules = format!("[[rule]]\nname = \"all\"\nroute = \"ar\"\nreason = \"r\"\nattempts = {attempts}\n");
        std::fs::write(folder.path().join("rules.toml"), rules).unwrap();
        let settings = load(&Inputs { file: Some(file), ..Inputs::default() });
        let found = look(&Subject { settings, calls: OnceCell::new() });
        let problem = found.iter().find(|finding| finding.level == Level::Problem);
        assert_eq!(problem.is_some(), said.is_some(), "{found:?}");
        assert!(problem.zip(said).is_none_or(|(problem, said)| problem.text.contains(said)), "{problem:?}");
    }

    #[test]
    fn a_policy_that_names_nobody_is_a_problem_in_each_place() {
        let unknown = "[{ backend = \"arr\" }]";
        for policy in ["[policy]\nfile", "[policy.canary]\npolicy", "[policy.shadow]\npolicy"] {
            let policy = format!("{policy} = \"rules.toml\"\n");
            check(&policy, "[{ backend = \"ar\" }]", None);
            check(&policy, unknown, Some("unknown backend `arr`"));
            check(&policy, "[]", Some("rules.toml"));
        }
    }
}
