//! A real Redis on a socket file of its own, stopped when dropped.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

pub(super) struct RedisServer {
    child: Child,
    url: String,
    folder: TempDir,
}

impl RedisServer {
    /// `None`, with a notice, where no `redis-server` is installed.
    pub(super) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("redis.sock");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("SKIPPED: no `redis-server` here (Debian: apt install redis-server)");
            return None;
        };
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains("eady to accept connections"));
        assert!(ready, "redis-server stopped before it was ready");
        Some(RedisServer { child, url: format!("redis+unix://{}", socket.display()), folder })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn socket(&self) -> (PathBuf, PathBuf) {
        (self.folder.path().join("redis.sock"), self.folder.path().join("hidden.sock"))
    }

    /// Cuts all connections, and takes none until it comes back.
    pub(super) async fn goes_away(&self) {
        let mut control = redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let (shown, hidden) = self.socket();
        std::fs::rename(shown, hidden).unwrap();
        let () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).query_async(&mut control).await.unwrap();
    }

    pub(super) fn comes_back(&self) {
        let (shown, hidden) = self.socket();
        std::fs::rename(hidden, shown).unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
