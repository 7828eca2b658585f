//! `cargo xtask tidy`: the house rules, held by a program because a habit that nobody checks fades. Finds everything
//! in one go; must never change a file.

mod arrows;
mod licence;
mod metrics;
mod packages;
mod sources;

use anyhow::{Result, bail};

use crate::metadata;

/// Checks every rule.
pub(crate) fn run() -> Result<()> {
    let root = metadata::root()?;
    let cargo = metadata::read()?;
    let mut complaints = sources::check(&root)?;
    complaints.extend(metrics::check(&root)?);
    complaints.extend(arrows::check(&cargo));
    complaints.extend(packages::check(&root, &cargo)?);
    if complaints.is_empty() {
        return Ok(());
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    bail!("{} house rules broken", complaints.len())
}
