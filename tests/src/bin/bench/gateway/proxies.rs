//! What stands between the callers and the upstream: nothing, haproxy, Weir. What each costs is read from `/proc`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use weir_tests::binary::Weir;
use weir_tests::wait::until;

/// One way to the upstream.
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    process: Process,
}

enum Process {
    None,
    Haproxy(Haproxy),
    Weir(Box<Weir>),
}

/// Ends with its handle.
struct Haproxy {
    child: Child,
    _folder: TempDir,
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Way {
    /// None at all.
    pub(super) fn direct(upstream: SocketAddr) -> Self {
        Way { name: "direct", address: upstream, process: Process::None }
    }

    /// Through Weir, without a model of its own; `backend` is what its backend's table says besides.
    pub(super) fn weir(name: &'static str, upstream: SocketAddr, backend: &str) -> Result<Self> {
        let weir = Weir::start(&format!(
            "[engine.diffusion]\nenabled = false\n[engine.ar]\nenabled = false\n\
             [[backend]]\nname = \"up\"\nbase_url = \"http://{upstream}/v1\"\nmodel = \"mock-7b\"\n{backend}"
        ))?;
        let address = weir.address().parse().context("its address")?;
        Ok(Way { name, address, process: Process::Weir(Box::new(weir)) })
    }

    /// Through haproxy; `None` where it is not installed.
    pub(super) async fn haproxy(upstream: SocketAddr) -> Result<Option<Self>> {
        let Some(program) =
            ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"].into_iter().find(|at| Path::new(at).exists())
        else {
            return Ok(None);
        };
        let address = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("haproxy.cfg");
        std::fs::write(
            &config,
            format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n http-reuse always\n option http-no-delay\n\
                 frontend in\n bind {address}\n default_backend out\nbackend out\n server up {upstream}\n"
            ),
        )?;
        let child = Command::new(program)
            .args(["-db", "-q", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("haproxy")?;
        let haproxy = Haproxy { child, _folder: folder };
        until("haproxy listens", || async { TcpStream::connect(address).await.ok() }).await?;
        Ok(Some(Way { name: "haproxy", address, process: Process::Haproxy(haproxy) }))
    }

    /// Ends it as an operator would: a `weir` that counts (`cargo xtask dist`) writes its counts then.
    pub(super) fn end(self) -> Result<()> {
        match self.process {
            Process::None | Process::Haproxy(_) => Ok(()),
            Process::Weir(weir) => weir.terminate().map(drop),
        }
    }

    fn id(&self) -> Option<u32> {
        match &self.process {
            Process::None => None,
            Process::Haproxy(haproxy) => Some(haproxy.child.id()),
            Process::Weir(weir) => Some(weir.id()),
        }
    }

    /// Seconds its threads have spent on a CPU.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        let Some(id) = self.id() else { return Ok(0.0) };
        let mut nanoseconds = 0.0;
        for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
            // A thread may end while they are counted.
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text.split(' ').next().and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0);
        }
        Ok(nanoseconds / 1e9)
    }

    /// Megabytes it holds in memory.
    pub(super) fn memory_mb(&self) -> Result<f64> {
        let Some(id) = self.id() else { return Ok(0.0) };
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS in kB")?;
        Ok(kilobytes / 1024.0)
    }
}
