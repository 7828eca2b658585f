//! Every shipped profile holds its own tests, is laid out as `weir policy fmt` does, and suits a plain config.

use super::*;
use crate::config::Inputs;

#[test]
fn every_profile_passes_its_own_tests() {
    let settings = crate::config::load(&Inputs::default()).unwrap();
    let facts = expected::facts(&settings);
    for (name, _) in embedded::PROFILES {
        let source = PolicySource::profile(name).unwrap();
        let (policy, complaints) = complaints(&source, &settings, &facts).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(complaints.is_empty(), "{name}: {complaints:?}");
        let outcomes = tests_of::run(&source, None).unwrap();
        assert!(outcomes.len() >= 3 && outcomes.len() == policy.tests().len(), "{name} has few tests");
        for outcome in outcomes {
            assert!(outcome.problems.is_empty(), "{name}: {}: {:?}", outcome.name, outcome.problems);
        }
    }
}

#[test]
fn every_profile_is_laid_out_as_we_lay_out() {
    let laid_out = |text: &str| weir_router_policies::policy::format(text).unwrap();
    if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/policies");
        for (name, text) in embedded::PROFILES {
            std::fs::write(folder.join(format!("{name}.toml")), laid_out(text)).unwrap();
        }
    }
    for (name, text) in embedded::PROFILES {
        assert!(laid_out(text) == text, "{name}: run `weir policy fmt` on it");
    }
}

#[test]
fn files_go_before_profiles_and_neither_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.toml");
    std::fs::write(&file, "include = [\"other.toml\"]\n").unwrap();
    let source = named(file.to_str().unwrap()).unwrap();
    let error = source.parse().unwrap_err().to_string();
    assert!(error.contains("other.toml` cannot be read: no such file"), "{error}");
    std::fs::write(dir.path().join("other.toml"), embedded::POLICY).unwrap();
    let source = named(file.to_str().unwrap()).unwrap();
    assert_eq!(source.included.len(), 1);
    assert!(source.parse().unwrap().rules().any(|rule| rule == "tool-call"));
    let error = named("fastst").unwrap_err().to_string();
    assert!(error.contains("no such profile (balanced, fastest,"), "{error}");
}

#[test]
fn a_rule_whose_backends_do_not_answer_is_named_when_they_are_asked() {
    // Nobody listens on a port that was just let go.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weir.toml");
    let backend = format!("[[backend]]\nname = \"gpu\"\nbase_url = \"http://{free}/v1\"\nmodel = \"m\"\n");
    std::fs::write(&file, backend).unwrap();
    let settings = crate::config::load(&Inputs { file: Some(file), ..Inputs::default() }).unwrap();
    let rule = |name: &str, rest: &str| {
        format!("[[rule]]\nname = \"{name}\"\nroute = \"ar\"\nreason = \"as the test says\"\n{rest}\n")
    };
    let far = rule("far", "when = \"has_images\"\nattempts = [{ backend = \"gpu\" }]");
    let near = rule("near", "attempts = [{ backend = \"gpu\" }, { backend = \"role:ar\" }]");
    let rules = format!("{far}{near}");
    let policy = dir.path().join("rules.toml");
    std::fs::write(&policy, rules).unwrap();
    let facts = expected::facts(&settings);
    let (policy, none) = complaints(&PolicySource::read(&policy).unwrap(), &settings, &facts).unwrap();
    assert!(none.is_empty(), "{none:?}");
    let found = stranded(&policy, &facts, &doctor::unfit(&settings), &none);
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((one.rule.as_str(), one.message.as_str()), ("far", "can reach no healthy backend now"));
    assert!(one.help.contains("`gpu`") && one.help.contains("nobody listens"), "{}", one.help);
    assert!(stranded(&policy, &facts, &[], &none).is_empty());
}
