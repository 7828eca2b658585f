//! Finds what is not Rust: a C++ compiler for the tests of the GPU kernels, and, with the feature `cuda`, the PTX that
//! `cargo xtask cuda` made of them. Must never compile or fetch anything, nor fail where either is missing.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() -> std::io::Result<()> {
    println!("cargo::rustc-check-cfg=cfg(weir_cxx, weir_ptx)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CXX");
    if has_compiler() {
        println!("cargo::rustc-cfg=weir_cxx");
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
        std::fs::write(out.join("ptx.rs"), ptx()?)?;
    }
    Ok(())
}

/// Whether the tests will find a compiler; without one they are listed as ignored.
fn has_compiler() -> bool {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let version = Command::new(compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// The table of PTX texts as Rust, newest GPU generation first; empty where there is none for these very sources.
fn ptx() -> std::io::Result<String> {
    let sources = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("cuda");
    let made = sources.join("ptx");
    println!("cargo::rerun-if-changed={}", sources.display());
    let mut table = String::from("pub(super) const PTX: &[(i32, &str)] = &[");
    for generation in [90, 80] {
        let file = made.join(format!("weir_sm_{generation}.ptx"));
        if file.is_file() && is_of(&sources, &made.join("sources"))? {
            let _ = write!(table, "({generation}, include_str!({:?})),", file.display().to_string());
        }
    }
    table.push_str("];\n");
    match table.contains(".ptx") {
        true => println!("cargo::rustc-cfg=weir_ptx"),
        false => println!("cargo::warning=no PTX of the GPU kernels: run `cargo xtask cuda` before this build"),
    }
    Ok(table)
}

/// Whether `copies` are the sources the PTX was made of.
fn is_of(sources: &Path, copies: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(sources)? {
        let path = entry?.path();
        let is_source = path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh");
        let Some(name) = path.file_name().filter(|_| is_source) else { continue };
        if std::fs::read(copies.join(name)).ok() != Some(std::fs::read(&path)?) {
            return Ok(false);
        }
    }
    Ok(true)
}
