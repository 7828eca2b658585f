//! A folder in memory where a target keeps the files of one checkpoint; one folder a process.

#![allow(dead_code)] // each target uses its part

use std::path::{Path, PathBuf};

/// The tests' small model: the files that a target does not fuzz.
pub fn small(name: &str) -> Vec<u8> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("small").join(name);
    std::fs::read(&place).unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask fuzz`", place.display()))
}

/// The folder, made on first use.
pub fn folder() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
    let folder = base.join(format!("weir-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// libFuzzer's own hook aborts at every panic, but the engine catches those of the tokenizer library on purpose: only
/// a panic that leaves the target counts. Quiet, unless `WEIR_FUZZ_LOUD` is set to look at a finding.
pub fn let_caught_panics_be() {
    drop(std::panic::take_hook());
    if std::env::var_os("WEIR_FUZZ_LOUD").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
}
