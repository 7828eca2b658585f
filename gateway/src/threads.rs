//! The threads that serve connections, each with a runtime of its own: what is done for a connection stays on one of them,
//! upstream's side included, because a hand-over between threads costs more than most of the work of a small request.
//! Must never be blocked: what computes or reads files goes to `spawn_blocking` or to an engine's own threads.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Most of them: a gateway that needs more has slower things behind it.
const MOST: usize = 8;
/// Values of [`place`].
pub(crate) const PLACES: usize = MOST + 1;
/// Longest wait at their end for work that cannot be dropped.
const FAREWELL: Duration = Duration::from_secs(1);

thread_local! {
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

/// Which of them the caller is on, from 1; 0 for any other thread.
pub(crate) fn place() -> usize {
    PLACE.get()
}

/// As many as the machine has cores for, within bounds. Dropping them drops what they serve.
pub struct Threads(Vec<One>);

struct One {
    handle: Handle,
    /// Connections it has.
    taken: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A connection's seat on one of them; dropping it frees it.
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// The system has no thread or no runtime left.
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        (1..=count).map(One::start).collect::<io::Result<_>>().map(Threads)
    }

    /// Where the next connection is served: on the one that has the fewest.
    pub fn seat(&self) -> Option<(&Handle, Seat)> {
        let one = self.0.iter().min_by_key(|one| one.taken.load(Ordering::Relaxed))?;
        one.taken.fetch_add(1, Ordering::Relaxed);
        Some((&one.handle, Seat(Arc::clone(&one.taken))))
    }
}

impl One {
    fn start(place: usize) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        // The runtime is made on its thread: whoever starts it may be within another, where none may be dropped, as it would
        // be if there were no thread for it.
        let thread = std::thread::Builder::new().name(format!("serve-{place}")).spawn(move || {
            PLACE.set(place);
            // Somebody hears it: both ends of the channel are here.
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error))),
            };
            let _ = tell.send(Ok(runtime.handle().clone()));
            // An error means the sender is gone: that is a stop, too.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(FAREWELL);
        })?;
        let handle = told.recv().map_err(io::Error::other)??;
        Ok(One { handle, taken: Arc::default(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|one| drop(one.stop.take()));
        for thread in self.0.iter_mut().filter_map(|one| one.thread.take()) {
            // A panic was logged where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_and_dropped_with_their_threads() {
        let threads = Threads::start().unwrap();
        let count = threads.0.len();
        let seats: Vec<(&Handle, Seat)> = (0..2 * count).map(|_| threads.seat().unwrap()).collect();
        assert!(threads.0.iter().all(|one| one.taken.load(Ordering::Relaxed) == 2));
        let (told, seen) = std::sync::mpsc::channel();
        let held = Arc::new(());
        for (handle, _) in &seats {
            let (told, held) = (told.clone(), Arc::clone(&held));
            handle.spawn(async move {
                told.send(place()).unwrap();
                std::future::pending::<()>().await;
                drop(held);
            });
        }
        let mut places: Vec<usize> = seen.iter().take(2 * count).collect();
        places.sort_unstable();
        assert_eq!(places, (1..=count).flat_map(|place| [place; 2]).collect::<Vec<_>>());
        drop(seats);
        assert!(threads.0.iter().all(|one| one.taken.load(Ordering::Relaxed) == 0));
        drop(threads);
        assert_eq!((Arc::strong_count(&held), place()), (1, 0));
    }
}
