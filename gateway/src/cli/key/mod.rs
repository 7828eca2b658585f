//! `weir key`: makes keys for tenants, and replaces them. A key is shown once, on stdout; what is stored is its hash.

mod list;
mod renewed;
mod rotate;

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Subcommand;

use super::ConfigArgs;
use crate::record::rfc3339;
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
    /// Give a tenant a new key, in its config file, and let its old ones end: prints the new key once.
    Rotate(rotate::Args),
    /// List the tenants' keys, by the beginnings of their hashes, and until when each is good.
    List(ConfigArgs),
    /// Print the hash of a key you have, read from stdin.
    Hash,
}

pub(super) fn command(command: KeyCommand) -> Result<()> {
    match command {
        KeyCommand::New { expires } => new(expires.as_deref()),
        KeyCommand::Rotate(args) => rotate::command(&args),
        KeyCommand::List(config) => list::command(&config.load_to_read()?),
        KeyCommand::Hash => hash(),
    }
}

/// The first digits of a key's hash: they tell keys apart, and tell nothing about them.
fn shown(hash: &KeyHash) -> String {
    hash.to_string().chars().take("sha256:".len() + 8).collect::<String>() + "…"
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The day (UTC) of a second since 1970, as `YYYY-MM-DD`.
fn day(second: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_secs(second)).chars().take("YYYY-MM-DD".len()).collect()
}

/// Whether a key that ends on this day may be made.
fn check_end(expires: Option<&str>) -> Result<()> {
    match expires.map(end_of_day) {
        Some(None) => bail!("--expires: no such day; write it like 2026-12-31"),
        Some(Some(end)) if end <= now() => bail!("--expires: that day is over: the key would never be good"),
        _ => Ok(()),
    }
}

fn new(expires: Option<&str>) -> Result<()> {
    check_end(expires)?;
    let Ok((key, hash)) = fresh() else { bail!("the system has no randomness") };
    // The key alone on stdout, so that it can be piped to where secrets live.
    println!("{key}");
    let expires = expires.map(|date| format!(", expires = \"{date}\"")).unwrap_or_default();
    eprintln!("The line above is the key: it is shown this once. Put its hash into the tenant's `keys` in weir.toml:");
    eprintln!("  {{ hash = \"{hash}\"{expires} }}");
    eprintln!("To replace a tenant's keys without a gap, `weir key rotate TENANT` does all of that in weir.toml.");
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
