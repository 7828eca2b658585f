//! The tests of `tests/clients`: real SDKs, of Node and of Python, against the real binary. Their packages lie in the
//! user's cache, one folder for each lock file, so that a fresh clone does not install them again. Must never write into
//! the lock file.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::counts::{self, Counts};
use crate::{metadata, stage};

const FILES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

/// Installs what is missing and runs the tests.
pub(crate) fn run(root: &Path) -> Result<Counts> {
    let folder = root.join("tests/clients");
    link(&folder, &installed(&folder)?)?;
    let release = metadata::release_dir()?;
    let mut tests: Vec<PathBuf> = std::fs::read_dir(&folder)
        .context("tests/clients")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    tests.sort();
    let ran = stage::run_reading(
        Command::new("node")
            .args(["--test", "--test-reporter=tap"])
            .args(&tests)
            .current_dir(&folder)
            .env("WEIR_BIN", release.join("weir"))
            .env("WEIR_FAULT_UPSTREAM_BIN", release.join("weir-fault-upstream")),
    )
    .context("Node 20 is needed for the client tests")?;
    let mut counts = counts::of_node(&ran.text).of_run("node", ran.success)?;
    counts += python(&folder, "sdks_test.py", &release)?;
    // Other people's suites, with packages of their own.
    counts += python(&root.join("tests/conformance"), "conformance_test.py", &release)?;
    Ok(counts)
}

/// The tests of deploy/: the chart by Helm's own engine, the unit by systemd's.
pub(crate) fn deployment(root: &Path) -> Result<Counts> {
    python(&root.join("tests/deploy"), "chart_test.py", &metadata::release_dir()?)
}

/// Tests in Python. Where what they need cannot be installed (no Python, no registry) they count as skipped, and that
/// is said.
fn python(folder: &Path, script: &str, release: &Path) -> Result<Counts> {
    let interpreter = match python_installed(folder) {
        Ok(interpreter) => interpreter,
        Err(error) => {
            println!("what {script} needs cannot be installed, so its tests are skipped: {error:#}");
            return Ok(Counts { skipped: 1, ..Counts::default() });
        }
    };
    let mut tests = Command::new(interpreter);
    tests.arg(script).current_dir(folder).env("WEIR_BIN", release.join("weir"));
    let ran = stage::run_reading(&mut tests)?;
    let mut counts = counts::of_node(&ran.text);
    if counts == Counts::default() || (!ran.success && counts.failed == 0) {
        counts.failed += 1;
    }
    Ok(counts)
}

/// A Python that has what `requirements.txt` of a folder asks for.
pub(crate) fn python_installed(folder: &Path) -> Result<PathBuf> {
    let wanted = folder.join("requirements.txt");
    let mut hasher = DefaultHasher::new();
    std::fs::read(&wanted).with_context(|| format!("{}", wanted.display()))?.hash(&mut hasher);
    let place = cache()?.join("clients-python").join(format!("{:016x}", hasher.finish()));
    let (interpreter, complete) = (place.join("bin/python"), place.join("complete"));
    if complete.exists() {
        return Ok(interpreter);
    }
    stage::run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "-r"];
    stage::run(Command::new(&interpreter).args(pip).arg(&wanted))?;
    std::fs::write(&complete, "").context("marking the install as complete")?;
    Ok(interpreter)
}

/// The folder that holds `node_modules` for this lock file.
fn installed(folder: &Path) -> Result<PathBuf> {
    let place = cache()?.join("clients").join(key(folder)?);
    let complete = place.join("complete");
    if complete.exists() {
        return Ok(place);
    }
    std::fs::create_dir_all(&place).with_context(|| format!("{}", place.display()))?;
    for file in FILES {
        std::fs::copy(folder.join(file), place.join(file)).with_context(|| format!("tests/clients/{file}"))?;
    }
    // No package of ours needs its install script, and none gets to run one.
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    stage::run(Command::new("npm").args(npm).current_dir(&place)).context("npm comes with Node 20")?;
    std::fs::write(&complete, "").context("marking the install as complete")?;
    Ok(place)
}

/// Node resolves a link to where it leads, so the packages find each other there.
fn link(folder: &Path, place: &Path) -> Result<()> {
    let (from, to) = (folder.join("node_modules"), place.join("node_modules"));
    if std::fs::read_link(&from).is_ok_and(|target| target == to) {
        return Ok(());
    }
    match std::fs::symlink_metadata(&from) {
        Ok(found) if found.is_dir() => return Ok(()), // somebody's own `npm install`: leave it
        Ok(_) => std::fs::remove_file(&from).context("an old link")?,
        Err(_) => {}
    }
    std::os::unix::fs::symlink(&to, &from).with_context(|| format!("linking {}", from.display()))
}

fn key(folder: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in FILES {
        std::fs::read(folder.join(file)).with_context(|| format!("tests/clients/{file}"))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Where fetched programs are kept between clones.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("weir"))
}
