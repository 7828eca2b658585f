//! Which crate of the house may use which: arrows run downwards only (ARCHITECTURE.md has the same table for people).

use cargo_metadata::Metadata;

/// Crate, and the crates of the house it may use.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("weir-protocol", &[]),
    ("weir-kernels", &[]),
    ("weir-diffusion-engine", &["weir-protocol", "weir-kernels"]),
    ("weir-router-policies", &["weir-protocol"]),
    ("weir-gateway", &["weir-protocol", "weir-kernels", "weir-diffusion-engine", "weir-router-policies"]),
    // Benches only: tests use the binary.
    ("weir-tests", &["weir-protocol", "weir-diffusion-engine"]),
    // The classifier's trainer hashes with the router's own code.
    ("xtask", &["weir-protocol", "weir-router-policies"]),
];

/// Complaints about the workspace's crates.
pub(super) fn check(cargo: &Metadata) -> Vec<String> {
    let packages = cargo.workspace_packages();
    let members: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let used = packages.iter().map(|package| {
        let uses = package.dependencies.iter().map(|dependency| dependency.name.as_str());
        (package.name.as_str(), uses.filter(|name| members.contains(name)).collect::<Vec<_>>())
    });
    used.flat_map(|(name, uses)| judge(name, &uses)).collect()
}

fn judge(name: &str, uses: &[&str]) -> Vec<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
        return vec![format!("crate {name} is not in the table of xtask/src/tidy/arrows.rs")];
    };
    uses.iter()
        .filter(|other| !allowed.contains(other))
        .map(|other| format!("crate {name} must not use {other}: arrows run downwards only"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_upwards_and_a_stranger_are_refused() {
        assert!(judge("weir-gateway", &["weir-protocol", "weir-router-policies"]).is_empty());
        assert_eq!(judge("weir-protocol", &["weir-kernels"]).len(), 1);
        assert_eq!(judge("weir-router-policies", &["weir-diffusion-engine"]).len(), 1);
        assert_eq!(judge("weir-new", &[]).len(), 1);
    }
}
