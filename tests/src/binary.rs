//! Starts the real `weir` and talks to nothing but its socket, its exit code and its standard error. A started gateway
//! has a folder and a port of its own and dies with its handle, so tests run side by side.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::wait::DEADLINE;

/// The program under test: `WEIR_BIN` if set, else a release build of this checkout.
///
/// # Errors
/// It cannot be built or found.
pub fn program() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(path) = std::env::var_os("WEIR_BIN") {
        return Ok(path.into());
    }
    BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "weir-gateway", "--bin", "weir"])
        .current_dir(repository())
        .stdin(Stdio::null())
        .status()
        .context("cargo build")?;
    if !status.success() {
        bail!("weir does not build");
    }
    // A test program lies in `release/deps`, other programs in `release`.
    let own = std::env::current_exe().context("where am I?")?;
    let places = own.ancestors().map(|folder| folder.join("weir"));
    places.into_iter().find(|path| path.is_file()).context("weir was built, but not beside this program")
}

/// A running gateway.
pub struct Weir {
    child: Child,
    base: String,
    log: Arc<Mutex<String>>,
    folder: TempDir,
}

impl Weir {
    /// Starts `weir serve` with this config on a free port and waits until it says that it listens.
    ///
    /// # Errors
    /// It ended or said nothing; the error holds its standard error.
    pub fn start(config: &str) -> Result<Weir> {
        Self::start_with(config, &[])
    }

    /// [`Weir::start`] with further environment variables.
    ///
    /// # Errors
    /// As [`Weir::start`].
    pub fn start_with(config: &str, variables: &[(&str, &str)]) -> Result<Weir> {
        Self::start_in(tempfile::tempdir().context("a folder for the config")?, config, variables)
    }

    /// [`Weir::start_with`] in a folder that holds what the config names.
    ///
    /// # Errors
    /// As [`Weir::start`].
    pub fn start_in(folder: TempDir, config: &str, variables: &[(&str, &str)]) -> Result<Weir> {
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, config).context("writing the config")?;
        let mut command = quiet(folder.path())?;
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&file);
        let mut child = command
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting weir")?;
        let errors = child.stderr.take().context("its standard error")?;
        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        let kept = Arc::clone(&log);
        // Ends with the child: its standard error closes.
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if let Some((_, base)) = line.split_once("listens on ") {
                    // Nobody waits any more when a test has already failed.
                    let _ = found.send(base.trim().to_owned());
                }
                let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut weir = Weir { child, base: String::new(), log, folder };
        match address.recv_timeout(DEADLINE) {
            Ok(base) => weir.base = base,
            Err(_) => bail!("weir does not listen: {}", weir.log()),
        }
        Ok(weir)
    }

    /// `http://127.0.0.1:PORT` and this path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.base.split_once("://").map_or(self.base.as_str(), |(_, address)| address)
    }

    /// `http://127.0.0.1:PORT` of the admin API, and this path.
    ///
    /// # Errors
    /// It does not say where that is.
    pub async fn admin_url(&self, path: &str) -> Result<String> {
        let said = || async {
            let log = self.log();
            let line = log.lines().find_map(|line| line.trim_start().strip_prefix("admin "))?;
            Some(line.trim().to_owned())
        };
        Ok(format!("{}{path}", crate::wait::until("the admin API listens", said).await?))
    }

    /// Puts another config in the place of the old one, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, config: &str) -> Result<()> {
        self.put("weir.toml", config)
    }

    /// Puts a file into its folder, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, name: &str, text: &str) -> Result<()> {
        let new = self.folder().join("new");
        std::fs::write(&new, text).context("writing a file")?;
        std::fs::rename(&new, self.folder().join(name)).context("putting it in place")
    }

    /// Asks it to read its config again.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn hangup(&self) -> Result<()> {
        self.signal("-HUP")
    }

    /// Asks it to stop, and does not wait.
    ///
    /// # Errors
    /// It cannot be signalled.
    pub fn ask_to_stop(&self) -> Result<()> {
        self.signal("-TERM")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").args([signal, &self.id().to_string()]).status().context("kill")?;
        if !sent.success() {
            bail!("kill: {sent}");
        }
        Ok(())
    }

    /// Its standard error so far, which a line just written may not have reached yet; see [`Weir::said`].
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its standard error, once that holds these words.
    ///
    /// # Errors
    /// It never did.
    pub async fn said(&self, words: &str) -> Result<String> {
        let log = || async { Some(self.log()).filter(|log| log.contains(words)) };
        crate::wait::until(words, log).await.with_context(|| self.log())
    }

    /// Its working folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop as an operator would, and waits for its exit code.
    ///
    /// # Errors
    /// It cannot be signalled or waited for.
    pub fn terminate(self) -> Result<Option<i32>> {
        self.terminate_with_log().map(|(code, _)| code)
    }

    /// [`Weir::terminate`], and its standard error.
    ///
    /// # Errors
    /// It cannot be signalled or waited for.
    pub fn terminate_with_log(mut self) -> Result<(Option<i32>, String)> {
        self.signal("-TERM")?;
        let code = self.child.wait().context("waiting for weir")?.code();
        Ok((code, self.log()))
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `weir` to its end in `folder`; for `check`, and for starts that must fail.
///
/// # Errors
/// It cannot be run.
pub fn run(folder: &Path, arguments: &[&str]) -> Result<Output> {
    run_with(folder, arguments, &[])
}

/// [`run`] with further environment variables.
///
/// # Errors
/// It cannot be run.
pub fn run_with(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    quiet(folder)?.args(arguments).envs(variables.iter().copied()).output().context("running weir")
}

/// Runs `weir` to its end in `folder` with `input` on its standard input.
///
/// # Errors
/// It cannot be run.
pub fn run_fed(folder: &Path, arguments: &[&str], input: &[u8]) -> Result<Output> {
    let file = tempfile::NamedTempFile::new().context("a file for the input")?;
    std::fs::write(file.path(), input).context("writing the input")?;
    let input = std::fs::File::open(file.path()).context("the input")?;
    quiet(folder)?.args(arguments).stdin(input).output().context("running weir")
}

/// Without the caller's own `WEIR_…` settings and proxies.
fn quiet(folder: &Path) -> Result<Command> {
    let mut command = Command::new(program()?);
    command.current_dir(folder).stdin(Stdio::null());
    let foreign = |name: &str| name.starts_with("WEIR_") || name.to_ascii_lowercase().ends_with("_proxy");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(foreign) || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    Ok(command)
}
