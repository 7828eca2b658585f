//! What a failure of Redis means, for the operator. Must never quote what Redis or its client says: it may hold the
//! address with its password.

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

pub(super) const TOO_SLOW: &str = "it does not answer in time";

/// What Redis says when something is wrong with the one account that was asked for: another type at its key, or no number.
const ACCOUNT_CODES: [&str; 2] = ["WRONGTYPE", "ERR"];

/// In words; `is_asked`: the connection was there.
pub(super) fn in_words(error: &RedisError, is_asked: bool) -> &'static str {
    match error.kind() {
        _ if wants_a_password(error) => "it wants a password",
        _ if is_forbidden(error) => {
            "its user may not run what the scripts do (HGET, HMGET, HSET, EXPIRE, TIME, and those of sorted sets)"
        }
        ErrorKind::AuthenticationFailed => "it refuses the user or the password",
        ErrorKind::Io => unreached(error),
        ErrorKind::Parse if !is_asked => "what listens there is no Redis",
        ErrorKind::Server(ServerErrorKind::ResponseError) if !is_asked => "it has no database of this number",
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            "its user may not run what is asked (EVALSHA, SCRIPT, HMGET, ZCOUNT)"
        }
        ErrorKind::Server(ServerErrorKind::ReadOnly) => "it is a replica, which takes no changes",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "it still loads its data",
        _ if error.code() == Some("OOM") => "its memory is full (`maxmemory`), and it may throw nothing away",
        _ if error.code() == Some("MISCONF") => "it cannot save to its disk, and takes no changes until it can",
        _ => "it does not answer as it should",
    }
}

fn unreached(error: &RedisError) -> &'static str {
    match (error.is_connection_refusal(), error.is_connection_dropped()) {
        (true, _) => "nobody listens at its address",
        (_, true) => "it hangs up",
        _ => "its address is not found or not reached, or its certificate (rediss://) is not trusted here",
    }
}

/// Redis tells it of what a script runs as any other error: 7.0 in the first words, later ones in the others.
fn is_forbidden(error: &RedisError) -> bool {
    const WORDS: [&str; 2] = ["The user executing the script can't", "ACL failure in script"];
    any(error, |said| WORDS.iter().any(|words| begins(said, words)))
}

fn any(error: &RedisError, is: impl Fn(&ServerError) -> bool) -> bool {
    error.clone().into_server_errors().is_some_and(|all| all.iter().any(|(_, said)| is(said)))
}

fn begins(said: &ServerError, with: &str) -> bool {
    said.details().is_some_and(|text| text.starts_with(with))
}

/// A long command without a password is one that breaks the protocol.
fn wants_a_password(error: &RedisError) -> bool {
    any(error, |said| said.code() == "NOAUTH" || begins(said, "Protocol error: unauthenticated"))
}

/// Whether it says nothing about the accounts of others.
pub(super) fn is_of_one_account(error: RedisError) -> bool {
    // What was kept is read, and is no number.
    let is_odd = matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType);
    if wants_a_password(&error) || is_forbidden(&error) {
        return false;
    }
    let said = error.into_server_errors();
    is_odd || said.is_some_and(|all| all.iter().all(|(_, said)| ACCOUNT_CODES.contains(&said.code())))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn said(line: &str) -> RedisError {
        let value = ::redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn an_operator_is_told_what_to_look_at() {
        let check = |error: RedisError, is_asked, expect: &str| assert_eq!(in_words(&error, is_asked), expect);
        check(io::Error::from(io::ErrorKind::ConnectionRefused).into(), false, "nobody listens at its address");
        check(io::Error::from(io::ErrorKind::ConnectionReset).into(), true, "it hangs up");
        check((ErrorKind::AuthenticationFailed, "x").into(), false, "it refuses the user or the password");
        for line in [
            "ERR The user executing the script can't run this command or subcommand script: 08be, on @user_script:1.",
            "ERR ACL failure in script: User reader has no permissions to run the 'hset' command",
        ] {
            let forbidden = said(line);
            assert!(in_words(&forbidden, true).starts_with("its user may not run what the scripts do"), "{line}");
            assert!(!is_of_one_account(forbidden), "{line}");
        }
        check(said("NOAUTH Authentication required."), true, "it wants a password");
        check(said("ERR Protocol error: unauthenticated multibulk length"), true, "it wants a password");
        check(said("ERR DB index is out of range"), false, "it has no database of this number");
        check(said("ERR DB index is out of range"), true, "it does not answer as it should");
        check(said("READONLY You can't write"), true, "it is a replica, which takes no changes");
        check((ErrorKind::Parse, "x").into(), false, "what listens there is no Redis");
        let full = "its memory is full (`maxmemory`), and it may throw nothing away";
        check(said("OOM command not allowed when used memory > 'maxmemory'."), true, full);
        let disk = "it cannot save to its disk, and takes no changes until it can";
        check(said("MISCONF Redis is configured to save RDB snapshots"), true, disk);
    }

    #[test]
    fn a_missing_password_concerns_every_account() {
        assert!(is_of_one_account(said("ERR value is not an integer")));
        assert!(is_of_one_account(said("WRONGTYPE Operation against a key")));
        assert!(!is_of_one_account(said("ERR Protocol error: unauthenticated multibulk length")));
        assert!(!is_of_one_account(said("OOM command not allowed")));
    }
}
