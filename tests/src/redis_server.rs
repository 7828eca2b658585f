//! A real Redis on a loopback port, stopped when dropped.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// A running server.
pub struct RedisServer {
    child: Child,
    port: u16,
    scheme: &'static str,
}

impl RedisServer {
    /// On a port that was free a moment ago; `None`, with a notice, where no `redis-server` is installed.
    ///
    /// # Errors
    /// It ended before it was ready.
    pub fn start() -> Result<Option<Self>> {
        Self::start_at(free_port()?)
    }

    /// On this port.
    ///
    /// # Errors
    /// It ended before it was ready.
    pub fn start_at(port: u16) -> Result<Option<Self>> {
        Self::spawn(Command::new("redis-server").arg("--port").arg(port.to_string()), port, "redis")
    }

    /// Over TLS only, with the `cert.pem` and `key.pem` of this folder.
    ///
    /// # Errors
    /// It ended before it was ready.
    pub fn start_tls(folder: &Path) -> Result<Option<Self>> {
        let (port, cert) = (free_port()?, folder.join("cert.pem"));
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--tls-port"]).arg(port.to_string()).args(["--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(&cert).arg("--tls-ca-cert-file").arg(&cert);
        Self::spawn(command.arg("--tls-key-file").arg(folder.join("key.pem")), port, "rediss")
    }

    fn spawn(command: &mut Command, port: u16, scheme: &'static str) -> Result<Option<Self>> {
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let Ok(mut child) = command.stdout(Stdio::piped()).spawn() else {
            eprintln!("SKIPPED: no `redis-server` here (Debian: apt install redis-server)");
            return Ok(None);
        };
        let lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains("eady to accept connections"));
        ensure!(ready, "redis-server ended before it was ready");
        Ok(Some(RedisServer { child, port, scheme }))
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers nobody for so long.
    ///
    /// # Errors
    /// It cannot be told so.
    pub fn stands_still_for(&self, time: Duration) -> Result<()> {
        let said = self.told(&format!("CLIENT PAUSE {} ALL", time.as_millis()))?;
        ensure!(said == "+OK", "redis-server does not pause: {said}");
        Ok(())
    }

    /// Closes every connection, as it does with those that were idle for its `timeout`.
    ///
    /// # Errors
    /// It cannot be told so, or there was none.
    pub fn hangs_up(&self) -> Result<()> {
        let said = self.told("CLIENT KILL TYPE normal")?;
        ensure!(said.strip_prefix(':').is_some_and(|count| count != "0"), "redis-server hangs up on nobody: {said}");
        Ok(())
    }

    /// The first line of what it says to a command.
    fn told(&self, command: &str) -> Result<String> {
        let mut control = TcpStream::connect(("127.0.0.1", self.port)).context("no connection to redis-server")?;
        control.write_all(format!("{command}\r\n").as_bytes())?;
        let mut said = String::new();
        BufReader::new(control).read_line(&mut said)?;
        Ok(said.trim_end().to_owned())
    }

    /// `redis://127.0.0.1:PORT/0`, or `rediss://…`.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}/0", self.scheme, self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("a loopback port")?;
    Ok(listener.local_addr().context("its address")?.port())
}
