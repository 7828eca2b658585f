//! Rules about other people's crates, read from `deny.toml` so that cargo-deny and we hold the same lists: who may use
//! a banned crate directly, and under which licences code may come in.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, PackageId};
use serde::Deserialize;

use super::licence;

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    wrappers: Vec<String>,
}

/// Complaints about what is built in.
pub(super) fn check(root: &Path, cargo: &Metadata) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join("deny.toml")).context("deny.toml")?;
    let deny: Deny = toml::from_str(&text).context("deny.toml")?;
    let mut complaints = Vec::new();
    for package in &cargo.packages {
        let Some(expression) = package.license.as_deref() else {
            complaints.push(format!("crate {}: states no licence", package.name));
            continue;
        };
        if !licence::allowed(expression, &deny.licenses.allow) {
            complaints.push(format!("crate {}: licence `{expression}` is not in deny.toml", package.name));
        }
    }
    let uses = direct_uses(cargo);
    for ban in &deny.bans.deny {
        let strangers = uses.iter().filter(|(user, used)| used == &ban.name && !ban.wrappers.contains(user));
        complaints.extend(strangers.map(|(user, used)| format!("crate {user} must not use {used} (deny.toml)")));
    }
    Ok(complaints)
}

/// Every (user, used) pair that is resolved for this workspace.
fn direct_uses(cargo: &Metadata) -> Vec<(String, String)> {
    let names: BTreeMap<&PackageId, &str> =
        cargo.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let name = |id: &PackageId| names.get(id).copied().unwrap_or_default().to_owned();
    let nodes = cargo.resolve.iter().flat_map(|resolve| &resolve.nodes);
    nodes.flat_map(|node| node.deps.iter().map(move |dep| (name(&node.id), name(&dep.pkg)))).collect()
}
