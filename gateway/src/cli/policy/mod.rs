//! `weir policy`: what is wrong with routing rules, what they decide, and how their files are laid out. Must never load
//! an engine, nor open a socket unless it is told to ask.

mod tests_of;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use weir_router_policies::{BackendFacts, Diagnostic, Policy, docs};

use super::{ConfigArgs, doctor};
use crate::backends::expected;
use crate::config::policy::PolicySource;
use crate::config::{FileRead, Settings};
use crate::embedded;
use crate::live::prepare::{check_names, in_doubt};

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Find mistakes: types, unknown names, rules that can never decide or reach no backend.
    Check {
        /// Policy files, or names of profiles; none: what the config names.
        policies: Vec<String>,
        #[command(flatten)]
        config: ConfigArgs,
        /// Ask the upstreams, as `weir doctor` does: also name the rules whose backends all fail to answer now.
        #[arg(long)]
        ask: bool,
    },
    /// Run the tests inside policy files.
    Test {
        /// Policy files, or names of profiles; none: what the config names.
        policies: Vec<String>,
        #[command(flatten)]
        config: ConfigArgs,
        /// Test against the config's backends instead of two plain ones.
        #[arg(long)]
        own_backends: bool,
    },
    /// Lay files out one way: order of keys, attempts, empty lines. Comments stay.
    Fmt {
        /// Policy files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Change nothing; fail if something would change.
        #[arg(long)]
        check: bool,
    },
    /// Print a profile, to copy and change.
    Show {
        /// balanced, fastest, cheapest, quality, diffusion-first or ar-first.
        profile: String,
    },
    /// List what a condition may name.
    Words,
}

pub(super) fn command(command: PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Check { policies, config, ask } => check(&policies, config, ask),
        PolicyCommand::Test { policies, config, own_backends } => test(&policies, config, own_backends),
        PolicyCommand::Fmt { files, check } => fmt(&files, check),
        PolicyCommand::Show { profile } => {
            print!("{}", named(&profile)?.text);
            Ok(())
        }
        PolicyCommand::Words => {
            print!("{}", docs::features());
            Ok(())
        }
    }
}

/// A file, or else a profile, of this name.
///
/// # Errors
/// Neither is there.
pub(in crate::cli) fn named(name: &str) -> Result<PolicySource> {
    let path = Path::new(name);
    if path.exists() {
        return PolicySource::read(path).with_context(|| name.to_owned());
    }
    let profile = PolicySource::profile(name);
    profile.with_context(|| {
        let known = embedded::PROFILES.map(|(known, _)| known).join(", ");
        format!("{name}: no such file, and no such profile ({known})")
    })
}

fn sources(policies: &[String], settings: &Settings) -> Result<Vec<PolicySource>> {
    match policies {
        [] => Ok(vec![settings.policy.clone()]),
        names => names.iter().map(|name| named(name)).collect(),
    }
}

fn check(policies: &[String], config: ConfigArgs, ask: bool) -> Result<()> {
    let settings = if ask { config.load() } else { config.load_to_read() }?;
    let facts = expected::facts(&settings);
    let unfit = if ask { doctor::unfit(&settings) } else { Vec::new() };
    let mut wrong = 0;
    for source in sources(policies, &settings)? {
        match complaints(&source, &settings, &facts) {
            Ok((policy, mut complaints)) => {
                complaints.extend(stranded(&policy, &facts, &unfit, &complaints));
                complaints.iter().for_each(|complaint| println!("{complaint}"));
                wrong += complaints.len();
                if complaints.is_empty() {
                    let (rules, tests) = (policy.rules().count(), policy.tests().len());
                    println!("{}: ok, rules: {rules}, tests: {tests}", source.origin);
                }
            }
            Err(error) => {
                println!("{error:#}");
                wrong += 1;
            }
        }
    }
    if wrong > 0 { bail!("the policy cannot be used as it is") } else { Ok(()) }
}

fn complaints(source: &PolicySource, settings: &Settings, facts: &[BackendFacts]) -> Result<(Policy, Vec<Diagnostic>)> {
    let policy = source.parse()?;
    check_names(&policy, settings)?;
    let tenants: Vec<&str> = settings.tenants.tenants.iter().map(|tenant| tenant.name.as_ref()).collect();
    let complaints = in_doubt(&policy, facts, &tenants);
    Ok((policy, complaints))
}

/// The rules that reach no backend once the unfit ones are left out, but for those that reach none anyway.
fn stranded(
    policy: &Policy,
    facts: &[BackendFacts],
    unfit: &[(String, String)],
    known: &[Diagnostic],
) -> Vec<Diagnostic> {
    let is_fit = |fact: &&BackendFacts| unfit.iter().all(|(name, _)| *name != fact.name);
    let fit: Vec<BackendFacts> = facts.iter().filter(is_fit).cloned().collect();
    let why: Vec<&str> = unfit.iter().map(|(_, why)| why.as_str()).collect();
    let lost = policy.check_reach(&fit).into_iter().filter(|one| known.iter().all(|known| known.rule != one.rule));
    lost.map(|one| Diagnostic {
        message: "can reach no healthy backend now".to_owned(),
        help: format!("mend one, or add an attempt at another: {}", why.join("; ")),
        ..one
    })
    .collect()
}

fn test(policies: &[String], config: ConfigArgs, own_backends: bool) -> Result<()> {
    let settings = config.load_to_read()?;
    let facts = own_backends.then(|| expected::facts(&settings));
    let (mut ran, mut failed) = (0, 0);
    for source in sources(policies, &settings)? {
        for outcome in tests_of::run(&source, facts.as_deref())? {
            ran += 1;
            failed += usize::from(!outcome.problems.is_empty());
            let (line, _) = outcome.position;
            match outcome.problems.as_slice() {
                [] => println!("ok      {}:{line}: {}", outcome.origin, outcome.name),
                problems => {
                    println!("FAILED  {}:{line}: {}", outcome.origin, outcome.name);
                    problems.iter().for_each(|problem| println!("        {problem}"));
                }
            }
        }
    }
    println!("{ran} tests, {failed} failed");
    match (failed, ran) {
        (0, 0) => bail!("there is no test: write a `[[test]]` into the policy"),
        (0, _) => Ok(()),
        _ => bail!("the policy does not decide as its tests expect"),
    }
}

fn fmt(files: &[PathBuf], check: bool) -> Result<()> {
    let mut differ = 0;
    for file in files {
        let text = FileRead::text_of(file).with_context(|| file.display().to_string())?;
        let laid_out =
            weir_router_policies::policy::format(&text).map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))?;
        if laid_out == text {
            continue;
        }
        differ += 1;
        if check {
            println!("{}: is laid out differently", file.display());
        } else {
            std::fs::write(file, laid_out).with_context(|| file.display().to_string())?;
            println!("{}: laid out", file.display());
        }
    }
    if check && differ > 0 { bail!("run `weir policy fmt` on these files") } else { Ok(()) }
}
