//! How many files, sockets included, this process may have open. A shell's usual 1024 are fewer than the connections that the
//! config allows, and beyond them backends look as if they were away; but who runs it may have more, up to a second limit.
//! Must never keep the process from starting.

/// As many as whoever runs it may have.
pub(crate) fn raise() {
    #[cfg(unix)]
    if let Some(mut limit) = limit() {
        limit.rlim_cur = limit.rlim_max;
        // Refused (a service's filter of calls, a system's own limit): what it was holds on.
        // SAFETY: the struct is whole and outlives the call.
        let _ = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// How many a gateway may have, which takes what it may, if that is limited.
pub(crate) fn most() -> Option<u64> {
    #[cfg(unix)]
    let most = limit().map(|limit| limit.rlim_max).filter(|most| *most != libc::RLIM_INFINITY);
    #[cfg(not(unix))]
    let most = None;
    most
}

#[cfg(unix)]
fn limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one such struct there.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit)
}
