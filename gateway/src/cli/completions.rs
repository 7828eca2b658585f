//! `weir completions`: what a shell needs to complete commands and flags, made from the commands themselves.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

pub(super) fn command(shell: Shell) -> Result<()> {
    print!("{}", script(shell)?);
    Ok(())
}

fn script(shell: Shell) -> Result<String> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "weir", &mut out);
    Ok(String::from_utf8(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_command_is_completed_in_every_shell() {
        for shell in Shell::value_variants() {
            let script = script(*shell).expect("text");
            for command in super::super::Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(script.contains("--log-format") || script.contains("log-format"), "{shell}");
        }
    }
}
