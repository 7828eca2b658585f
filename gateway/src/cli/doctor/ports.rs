//! Whether the address can be listened on. The socket is closed again at once.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::super::serve::why_not;
use super::{Finding, Subject};
use crate::open_files;

pub(super) fn look(subject: &Subject) -> Vec<Finding> {
    match &subject.settings {
        Ok(settings) => {
            let server = listen(settings.server.listen, "`server.listen` or `--listen`");
            let admin = settings.admin.as_ref().map(|admin| listen(admin.listen, "`admin.listen`"));
            let files = open_files::most().map(|most| files(most, settings.server.connections.max as u64));
            std::iter::once(server).chain(admin).chain(files).collect()
        }
        Err(_) => vec![Finding::note("not looked at: the config comes first")],
    }
}

fn listen(address: SocketAddr, key: &str) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) if address.ip().is_loopback() => Finding::ok(format!("{address} is free, for this machine only")),
        Ok(_) => Finding::note(format!("{address} is free, and other machines can reach it")),
        Err(error) => {
            let why = why_not(error.kind(), address).unwrap_or_else(|| error.to_string());
            let other = if error.kind() == ErrorKind::AddrInUse { "another `weir serve` may run; else " } else { "" };
            Finding::problem(format!("{address}: {why}")).fix(format!("{other}set {key}"))
        }
    }
}

/// A connection needs a socket, and mostly another one to a backend.
fn files(most: u64, connections: u64) -> Finding {
    let text = format!("{most} files and sockets may be open, {connections} connections are allowed");
    if most / 2 < connections {
        return Finding::note(text)
            .fix("raise it (`ulimit -n`, systemd's `LimitNOFILE`), or lower `server.max_connections`");
    }
    Finding::ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_taken_port_is_a_problem_and_a_free_one_is_not() {
        let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let finding = listen(held.local_addr().expect("an address"), "x");
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.fix.is_some());
        assert_eq!((files(1024, 4096).level, files(8192, 4096).level), (Level::Note, Level::Ok));
        assert_eq!(listen("127.0.0.1:0".parse().expect("an address"), "x").level, Level::Ok);
    }
}
