//! What cargo knows about the workspace. Looking must never change anything.

use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

/// The workspace's packages and everything they depend on.
pub(crate) fn read() -> Result<Metadata> {
    let manifest = root()?.join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).exec().context("cargo metadata")
}

/// The repository's root.
pub(crate) fn root() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).context("xtask lies in the repository's root")
}

/// Where programs are built.
pub(crate) fn target_dir() -> Result<PathBuf> {
    Ok(read()?.target_directory.into_std_path_buf())
}

/// Where release programs lie.
pub(crate) fn release_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("release"))
}
