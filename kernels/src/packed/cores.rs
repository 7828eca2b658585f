//! Keeping threads on cores. Must never take a core that the process was not given: containers and `taskset` decide.

use std::io;

/// Why threads are not kept on cores.
#[derive(Debug, thiserror::Error)]
pub enum NotPinned {
    /// There is no way to ask for it.
    #[error("only Linux lets a program choose its cores")]
    System,
    /// A share of some cores' time, as a container's quota gives it, is not a core.
    #[error("{threads} threads may use {cores} cores, and which of them are free changes")]
    Cores {
        /// Threads that compute.
        threads: usize,
        /// Cores that the process may use.
        cores: usize,
    },
    /// The system has it, and does not let us.
    #[error("the system refused: {0}")]
    Refused(#[from] io::Error),
    /// Somebody computed before.
    #[error("the threads were started before it was asked for")]
    Late,
}

/// A core for each of `threads` threads.
///
/// # Errors
/// They cannot have one each.
pub fn for_each_of(threads: usize) -> Result<Vec<usize>, NotPinned> {
    chosen(threads, system::allowed()?)
}

fn chosen(threads: usize, allowed: Vec<usize>) -> Result<Vec<usize>, NotPinned> {
    match allowed.len() == threads {
        true => Ok(allowed),
        false => Err(NotPinned::Cores { threads, cores: allowed.len() }),
    }
}

/// Keeps the calling thread on a core.
pub(super) fn stay_on(core: usize) -> Result<(), NotPinned> {
    system::stay_on(core)
}

#[cfg(target_os = "linux")]
mod system {
    use std::io;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::NotPinned;

    /// Cores that the calling thread may use, ascending.
    pub(super) fn allowed() -> Result<Vec<usize>, NotPinned> {
        let set = sched_getaffinity(None).map_err(io::Error::from)?;
        Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
    }

    pub(super) fn stay_on(core: usize) -> Result<(), NotPinned> {
        let mut set = CpuSet::new();
        set.set(core);
        Ok(sched_setaffinity(None, &set).map_err(io::Error::from)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::NotPinned;

    pub(super) fn allowed() -> Result<Vec<usize>, NotPinned> {
        Err(NotPinned::System)
    }

    pub(super) fn stay_on(_: usize) -> Result<(), NotPinned> {
        Err(NotPinned::System)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_a_core_of_its_own_or_none() {
        assert_eq!(chosen(2, vec![3, 5]).unwrap(), [3, 5]);
        for (threads, allowed) in [(2, vec![1]), (2, vec![0, 1, 2, 3])] {
            let why = chosen(threads, allowed).unwrap_err().to_string();
            assert!(why.contains("2 threads"), "{why}");
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn a_thread_stays_where_it_was_put_and_leaves_the_others_alone() {
        let before = system::allowed().unwrap();
        let last = *before.last().unwrap();
        let inside = std::thread::spawn(move || {
            stay_on(last).unwrap();
            system::allowed().unwrap()
        });
        assert_eq!((inside.join().unwrap(), system::allowed().unwrap()), (vec![last], before));
        // None of ours.
        assert!(std::thread::spawn(|| matches!(stay_on(1023), Err(NotPinned::Refused(_)))).join().unwrap());
    }
}
