//! `weir key`: makes keys for tenants. A key is shown once, on stdout; what is stored is its hash.

use std::io::Read;

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::tenants::key::{KeyHash, end_of_day, fresh};

/// Longest key that is hashed.
const KEY_MAX: u64 = 4096;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key: the key for the tenant, and its hash for weir.toml.
    New {
        /// Last day (UTC) on which it is good, YYYY-MM-DD; without it, for ever.
        #[arg(long, value_name = "DATE")]
        expires: Option<String>,
    },
    /// Print the hash of a key you have, read from stdin.
    Hash,
}

pub(super) fn command(command: &KeyCommand) -> Result<()> {
    match command {
        KeyCommand::New { expires } => new(expires.as_deref()),
        KeyCommand::Hash => hash(),
    }
}

fn new(expires: Option<&str>) -> Result<()> {
    if expires.is_some_and(|date| end_of_day(date).is_none()) {
        bail!("--expires: no such day; write it like 2026-12-31");
    }
    let Ok((key, hash)) = fresh() else { bail!("the system has no randomness") };
    // The key alone on stdout, so that it can be piped to where secrets live.
    println!("{key}");
    let expires = expires.map(|date| format!(", expires = \"{date}\"")).unwrap_or_default();
    eprintln!("The line above is the key: it is shown this once. Put its hash into the tenant's `keys` in weir.toml:");
    eprintln!("  {{ hash = \"{hash}\"{expires} }}");
    eprintln!("To replace an old key without a gap, keep its entry beside this one and give it an `expires`.");
    Ok(())
}

fn hash() -> Result<()> {
    let mut key = String::new();
    std::io::stdin().take(KEY_MAX).read_to_string(&mut key)?;
    let key = key.trim();
    if key.len() < 16 {
        bail!("a key has at least 16 characters: a shorter one can be guessed from its hash");
    }
    println!("{}", KeyHash::of(key.as_bytes()));
    Ok(())
}
