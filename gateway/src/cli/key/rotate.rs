//! `weir key rotate TENANT`: a new key beside the old ones, which end some days later, in one step. The new config is checked
//! before it takes the old one's place, whole; a gateway that watches the file has it in force a moment later. Must never
//! leave a half-written file, nor put a key into it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::renewed::{Renewal, Renewed};
use super::{check_end, day, now, shown};
use crate::config::{ConfigErrors, Inputs, load};
use crate::tenants::key::{KeyHash, fresh};

const DAY_S: u64 = 86_400;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Whose keys: the `name` of a `[[tenant]]`.
    tenant: String,
    /// Days for which the old keys go on; 0: they end now, as for a key that leaked.
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(0..=3650))]
    overlap: u64,
    /// Last day (UTC) on which the new key is good, YYYY-MM-DD; without it, for ever.
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
    /// Config file; without it `weir.toml` in the working directory.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn command(args: &Args) -> Result<()> {
    check_end(args.expires.as_deref())?;
    let inputs = Inputs::from_process(args.config.clone(), None);
    let Some(named) = &inputs.file else { bail!("there is no weir.toml here; name the config with --config") };
    // What a link points to is replaced, not the link.
    let file = named.canonicalize().with_context(|| named.display().to_string())?;
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let Ok((key, hash)) = fresh() else { bail!("the system has no randomness") };
    let (today, last_day) = (day(now()), day(now() + args.overlap * DAY_S));
    let renewal = Renewal {
        tenant: &args.tenant,
        hash: &hash.to_string(),
        expires: args.expires.as_deref(),
        last_day: Some(last_day.as_str()).filter(|_| args.overlap > 0),
        today: &today,
    };
    let renewed = renewal.put_into(&text).with_context(|| file.display().to_string())?;
    let by_hand = || format!("{} cannot be replaced; `weir key new` prints an entry to put in by hand", file.display());
    let new = copy(folder(&file), &file, &renewed.text).with_context(by_hand)?;
    match folder(named).canonicalize().ok().as_deref() == Some(folder(&file)) {
        true => no_new_mistakes(&inputs, new.path())?,
        // What it names beside itself is looked for beside the link.
        false => no_new_mistakes(&inputs, copy(folder(named), &file, &renewed.text).with_context(by_hand)?.path())?,
    }
    if std::fs::read_to_string(&file).ok().as_ref() != Some(&text) {
        bail!("{} was changed meanwhile by somebody else: try again", file.display());
    }
    // Before it counts: a key that nobody could read would be of no use. Alone on stdout, so that it can be piped to where
    // secrets live.
    println!("{key}");
    std::io::stdout().flush().context("the key cannot be shown; nothing was changed")?;
    new.persist(&file)
        .map_err(|failed| failed.error)
        .with_context(|| format!("{} cannot be replaced: the key above is good for nothing", file.display()))?;
    tell(args, &renewed, &hash);
    Ok(())
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The new text in a file of `folder`, with the owner and mode of `file`.
fn copy(folder: &Path, file: &Path, text: &str) -> Result<tempfile::NamedTempFile> {
    let mut new = tempfile::Builder::new().prefix(".weir-key-").suffix(".toml").tempfile_in(folder)?;
    let old = std::fs::metadata(file)?;
    std::fs::set_permissions(new.path(), old.permissions())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, chown};
        let own = std::fs::metadata(new.path())?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            chown(new.path(), Some(old.uid()), Some(old.gid()))?;
        }
    }
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    Ok(new)
}

/// What was wrong before, such as a variable that only the service has, is none of ours.
fn no_new_mistakes(before: &Inputs, new: &Path) -> Result<(), ConfigErrors> {
    let after = Inputs { file: Some(new.to_path_buf()), ..before.clone() };
    let Err(mut errors) = load(&after) else { return Ok(()) };
    let known = load(before).err().map(|errors| errors.0).unwrap_or_default();
    errors.0.retain(|one| !known.iter().any(|old| (&old.key, &old.message) == (&one.key, &one.message)));
    if errors.0.is_empty() { Ok(()) } else { Err(errors) }
}

fn tell(args: &Args, renewed: &Renewed, hash: &KeyHash) {
    let Args { tenant, expires, .. } = args;
    let until = expires.as_ref().map(|day| format!(", good until {day} (UTC)")).unwrap_or_default();
    eprintln!("The line above is the new key of tenant `{tenant}` ({}){until}: it is shown this once.", shown(hash));
    let name = |hash: &str| KeyHash::parse(hash).map_or_else(|| "one that is no hash".to_owned(), |hash| shown(&hash));
    for (hash, last_day) in &renewed.kept {
        eprintln!("  {} is good until {last_day} (UTC): meanwhile its owner changes over", name(hash));
    }
    for hash in &renewed.removed {
        eprintln!("  {} is out", name(hash));
    }
    eprintln!("A gateway that runs takes it from the file by itself (`server.watch_ms`), else at SIGHUP.");
}
