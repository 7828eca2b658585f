//! `cargo xtask cuda`: makes PTX of `kernels/cuda` with nvcc, which comes from PyPI into the user's cache, and checks the
//! code behind the feature `cuda`. Nothing here needs a GPU, and nothing here runs on one. Where nvcc cannot be had, it
//! says so and counts as skipped. Must never change a setting of the machine or fetch anything but the pinned compiler.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::counts::Counts;
use crate::stage::{self, Stages};
use crate::{clients, metadata};

/// The compiler and what it needs. 13.0: the older the compiler, the older the drivers that take its PTX.
const WHEELS: [&str; 4] =
    ["nvidia-cuda-nvcc==13.0.88", "nvidia-cuda-crt==13.0.88", "nvidia-cuda-runtime==13.0.96", "nvidia-nvvm==13.0.88"];
/// GPU generations that PTX is made for: Ampere and Hopper. Newer ones take the newest.
const GENERATIONS: [u32; 2] = [80, 90];

/// What the stage looks at: it runs again when one of them has changed.
const LOOKED_AT: [&str; 6] = [
    "kernels",
    "diffusion-engine/src/device",
    "diffusion-engine/src/processor.rs",
    "gateway/src/cli/doctor",
    "Cargo.lock",
    "xtask/src/cuda.rs",
];

/// The command.
pub(crate) fn command() -> Result<()> {
    let root = metadata::root()?;
    let mut stages = Stages::default();
    let result = all(&root, &mut stages);
    stages.print();
    result.map(|_| ())
}

/// What CI runs: all of it when something it looks at is not as it was when it last passed here.
pub(crate) fn when_changed(root: &Path, stages: &mut Stages) -> Result<Counts> {
    let passed = clients::cache()?.join("cuda").join("passed").join(format!("{:016x}", state(root)?));
    if passed.exists() {
        println!("cuda: nothing that this looks at has changed since it last passed here");
        return Ok(Counts::default());
    }
    let counts = all(root, stages)?;
    if counts.skipped == 0 {
        std::fs::create_dir_all(passed.parent().unwrap_or(&passed)).context("the cache")?;
        std::fs::write(&passed, "").context("marking the sources as passed")?;
    }
    Ok(counts)
}

fn all(root: &Path, stages: &mut Stages) -> Result<Counts> {
    let mut counts = Counts::default();
    match stages.run("cuda: nvcc", || Ok(toolkit()))? {
        Ok(toolkit) => stages.run("cuda: PTX", || ptx(root, &toolkit))?,
        Err(reason) => {
            println!("cuda: SKIPPED, the kernels were not compiled to PTX: {reason:#}");
            counts.skipped += 1;
        }
    }
    stages.run("cuda: clippy", || {
        let packages = ["--package=weir-kernels", "--package=weir-diffusion-engine", "--package=weir-gateway"];
        let mut lint = stage::cargo(root);
        lint.args(["clippy", "--release", "--all-targets", "--features", "weir-gateway/cuda"]).args(packages);
        stage::run(lint.args(["--", "-D", "warnings"]))
    })?;
    if counts.skipped == 0 {
        // The program's own look at the PTX that was built in.
        let test = ["test", "--release", "--package", "weir-kernels", "--features", "cuda", "--lib", "cuda"];
        stages.run("cuda: built in", || stage::run(stage::cargo(root).args(test)))?;
    }
    Ok(counts)
}

/// The folder with `bin/nvcc`: fetched once for each set of versions.
fn toolkit() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    WHEELS.hash(&mut hasher);
    let place = clients::cache()?.join("cuda").join(format!("{:016x}", hasher.finish()));
    let folder = place.join("nvidia/cu13");
    let complete = place.join("complete");
    if complete.exists() {
        return Ok(folder);
    }
    let wheels = place.join("wheels");
    std::fs::create_dir_all(&wheels).with_context(|| wheels.display().to_string())?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--dest"]).arg(&wheels).args(WHEELS);
    stage::run(&mut pip).context("python3 with pip fetches nvcc (100 MB)")?;
    for entry in std::fs::read_dir(&wheels).context("the wheels")? {
        let wheel = entry.context("the wheels")?.path();
        stage::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&place))?;
    }
    // zipfile forgets who may run what.
    for programs in [folder.join("bin"), folder.join("nvvm/bin")] {
        stage::run(Command::new("chmod").args(["-R", "a+x"]).arg(&programs))?;
    }
    std::fs::remove_dir_all(&wheels).context("the wheels")?;
    std::fs::write(&complete, "").context("marking the compiler as complete")?;
    Ok(folder)
}

/// Compiles the kernels for each generation, lets the assembler check the result, and puts PTX and the sources it was
/// made of where `kernels/build.rs` looks.
fn ptx(root: &Path, toolkit: &Path) -> Result<()> {
    let sources = root.join("kernels/cuda");
    let made = sources.join("ptx");
    let copies = made.join("sources");
    if made.exists() {
        std::fs::remove_dir_all(&made).context("the old PTX")?;
    }
    std::fs::create_dir_all(&copies).context("kernels/cuda/ptx")?;
    for generation in GENERATIONS {
        let file = made.join(format!("weir_sm_{generation}.ptx"));
        let mut nvcc = Command::new(toolkit.join("bin/nvcc"));
        nvcc.args(["-std=c++17", "-O3", "--ptx", &format!("--gpu-architecture=compute_{generation}"), "-o"]);
        stage::run(nvcc.arg(&file).arg(sources.join("weir.cu")))?;
        let assembled = made.join("assembled");
        let mut ptxas = Command::new(toolkit.join("bin/ptxas"));
        ptxas.args([&format!("--gpu-name=sm_{generation}"), "--verbose", "--output-file"]);
        let output = ptxas.arg(&assembled).arg(&file).stdin(Stdio::null()).output().context("ptxas")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("ptxas refuses the PTX of sm_{generation}:\n{said}");
        }
        std::fs::remove_file(&assembled).context("what ptxas made")?;
        println!("{}", summary(generation, &said));
    }
    for entry in std::fs::read_dir(&sources).context("kernels/cuda")? {
        let path = entry.context("kernels/cuda")?.path();
        let is_source = path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh");
        if let Some(name) = path.file_name().filter(|_| is_source) {
            std::fs::copy(&path, copies.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// How many kernels there are, and what they take of a GPU, from `ptxas --verbose`.
fn summary(generation: u32, said: &str) -> String {
    let before = |word: &str| -> Vec<u64> {
        let parts = said.split(word).collect::<Vec<_>>();
        let numbers = parts.iter().rev().skip(1).rev().filter_map(|part| part.rsplit(' ').next()?.parse().ok());
        numbers.collect()
    };
    let registers = before(" registers");
    let spilled: u64 = before(" bytes spill stores").iter().sum();
    format!(
        "sm_{generation}: {} kernels, at most {} registers a thread, {spilled} bytes spilled",
        registers.len(),
        registers.iter().max().unwrap_or(&0)
    )
}

/// A number for everything that this stage looks at.
fn state(root: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    let git = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"];
    let output = Command::new("git").args(git).args(LOOKED_AT).current_dir(root).output().context("git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        name.hash(&mut hasher);
        std::fs::read(root.join(name)).unwrap_or_default().hash(&mut hasher);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assemblers_words_are_added_up() {
        let said = "ptxas info    : Compiling entry function 'a' for 'sm_80'\n\
                    \x20   0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                    ptxas info    : Used 40 registers, used 1 barriers, 392 bytes cmem[0]\n\
                    \x20   8 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads\n\
                    ptxas info    : Used 164 registers, used 0 barriers\n";
        assert_eq!(summary(80, said), "sm_80: 2 kernels, at most 164 registers a thread, 12 bytes spilled");
    }
}
