//! A real balancer (haproxy) in front of several gateways, stopped when dropped: requests in turn, whoever answers
//! `/readyz`. Knows nothing of what it passes on.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::binary::Weir;
use crate::wait::until;

const PLACES: [&str; 2] = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];

/// A running one.
pub struct Balancer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Balancer {
    /// On a port that was free a moment ago; `None`, with a notice, where haproxy is not installed.
    ///
    /// # Errors
    /// It does not listen in time.
    pub async fn start(replicas: &[&Weir]) -> Result<Option<Self>> {
        let Some(program) = PLACES.into_iter().find(|place| Path::new(place).exists()) else {
            eprintln!("SKIPPED: no `haproxy` here (Debian: apt install haproxy)");
            return Ok(None);
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("a loopback port")?;
        let port = listener.local_addr().context("its address")?.port();
        drop(listener);
        let folder = tempfile::tempdir().context("a folder")?;
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config(port, replicas)).context("its config")?;
        let child = Command::new(program)
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .context("haproxy")?;
        let balancer = Balancer { child, port, _folder: folder };
        until("haproxy listens", || async { TcpStream::connect(("127.0.0.1", port)).await.ok() }).await?;
        Ok(Some(balancer))
    }

    /// `http://127.0.0.1:PORT` and this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(port: u16, replicas: &[&Weir]) -> String {
    let limit = Duration::from_secs(60).as_millis();
    let mut text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client {limit}\n  timeout server {limit}\n  \
         retries 3\n  option redispatch 1\nfrontend all\n  bind 127.0.0.1:{port}\n  default_backend weir\n\
         backend weir\n  balance roundrobin\n  option httpchk GET /readyz\n"
    );
    for (at, weir) in replicas.iter().enumerate() {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  server replica-{at} {} check inter 100", weir.address());
    }
    text
}
