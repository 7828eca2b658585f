//! A real Redis on a loopback port, stopped when dropped.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A running server.
pub struct RedisServer {
    child: Child,
    port: u16,
}

impl RedisServer {
    /// On a port that was free a moment ago; `None`, with a notice, where no `redis-server` is installed.
    ///
    /// # Errors
    /// It ended before it was ready.
    pub fn start() -> Result<Option<Self>> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("a loopback port")?;
        let port = listener.local_addr().context("its address")?.port();
        drop(listener);
        Self::start_at(port)
    }

    /// On this port.
    ///
    /// # Errors
    /// It ended before it was ready.
    pub fn start_at(port: u16) -> Result<Option<Self>> {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(port.to_string())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("SKIPPED: no `redis-server` here (Debian: apt install redis-server)");
            return Ok(None);
        };
        let lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains("eady to accept connections"));
        ensure!(ready, "redis-server ended before it was ready");
        Ok(Some(RedisServer { child, port }))
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT/0`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
