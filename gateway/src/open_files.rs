//! How many files, sockets included, this process may have open. A shell's usual 1024 are fewer than the connections that the
//! config allows, and beyond them backends look as if they were away; but who runs it may have more, up to a second limit.
//! Must never keep the process from starting.

/// As many as whoever runs it may have.
pub(crate) fn raise() {
    #[cfg(unix)]
    {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one such struct there.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
            limit.rlim_cur = limit.rlim_max;
            // Refused (a service's filter of calls, a system's own limit): what it was holds on.
            // SAFETY: the struct is whole and outlives the call.
            let _ = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        }
    }
}
