//! Writes lines on a thread of its own, from a bounded queue: a slow disk fills the queue and then loses lines, which are
//! counted and told, but never slows a request. A thread and not a task: what is dropped while the runtime goes down
//! still gets its line.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::closed::Closed;
use super::content::Said;
use super::file::Place;
use super::line;
use super::redact::Redactor;
use super::waiting::wait_for;
use crate::config::telemetry::RequestLogSettings;
use crate::metrics::Metrics;

/// Most requests whose lines wait.
const QUEUE_MAX: usize = 8192;
/// Most memory, about, that they may take: with `content` a request may be large.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Lines are written together up to about this size.
const BATCH_BYTES: usize = 64 * 1024;
/// A quiet writer looks so often whether its file was moved.
const PAUSE: Duration = Duration::from_secs(1);
/// Shortest time between two complaints in the log.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// What a line is made from.
type Unwritten = (Arc<Closed>, Option<Said>);

/// The request log.
pub(super) struct RequestLog {
    /// `None` only wakes the writer.
    queue: SyncSender<Option<Unwritten>>,
    shared: Arc<Shared>,
    keeps_content: bool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    bytes: AtomicUsize,
    stopping: AtomicBool,
    /// Lines that found no room, not yet told.
    lost: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl RequestLog {
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(place: Place, settings: &RequestLogSettings, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE_MAX);
        let (bytes, stopping, lost) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
        let shared = Arc::new(Shared { bytes, stopping, lost, metrics });
        let redactor = settings.content.clone();
        let keeps_content = redactor.is_some();
        let shared_too = Arc::clone(&shared);
        let (complained, unwritten, has_no_file, why) = (None, 0, false, None);
        let writer = Writer { place, redactor, shared: shared_too, complained, unwritten, has_no_file, why };
        let thread = std::thread::Builder::new().name("request-log".into()).spawn(move || writer.run(&waiting))?;
        Ok(RequestLog { queue, shared, keeps_content, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn keeps_content(&self) -> bool {
        self.keeps_content
    }

    /// Takes a line to be written, if there is room for it.
    pub(super) fn take(&self, closed: Arc<Closed>, said: Option<Said>) {
        let weight = line::weight(&closed, said.as_ref());
        let held = self.shared.bytes.fetch_add(weight, Ordering::Relaxed);
        let refused = match held.saturating_add(weight) > QUEUE_BYTES_MAX && held > 0 {
            true => true,
            false => {
                matches!(
                    self.queue.try_send(Some((closed, said))),
                    Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
                )
            }
        };
        if refused {
            self.shared.bytes.fetch_sub(weight, Ordering::Relaxed);
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            self.shared.metrics.line_dropped("queue");
        }
    }

    /// The writer, for whoever waits for it: it ends by itself when the log is dropped and all is written.
    pub(super) fn thread(&self) -> Option<JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Writes what waits, then ends; waits no longer than `most`.
    pub(super) fn stop(&self, most: Duration) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread() else { return };
        // A full queue needs no waking.
        let _ = self.queue.try_send(None);
        wait_for(std::slice::from_ref(&thread), Instant::now() + most);
        if thread.is_finished() {
            // A panic of the writer was logged where it happened.
            let _ = thread.join();
        }
    }
}

struct Writer {
    place: Place,
    redactor: Option<Redactor>,
    shared: Arc<Shared>,
    complained: Option<Instant>,
    /// Lines that could not be written, not yet told.
    unwritten: usize,
    /// Whether the file was moved and no new one can be opened.
    has_no_file: bool,
    /// What last kept a line from being written, not yet told.
    why: Option<std::io::Error>,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Option<Unwritten>>) {
        loop {
            match waiting.recv_timeout(if self.stopping() { Duration::ZERO } else { PAUSE }) {
                Ok(Some(first)) => self.batch(first, waiting),
                Ok(None) => {}
                Err(RecvTimeoutError::Timeout) if !self.stopping() => self.follow(),
                Err(_) => break,
            }
            self.complain();
        }
    }

    fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    /// Writes this one, and what else waits, together.
    fn batch(&mut self, first: Unwritten, waiting: &Receiver<Option<Unwritten>>) {
        let (mut bytes, mut lines) = (Vec::new(), 0_usize);
        let mut next = Some(first);
        while let Some((closed, said)) = next {
            let weight = line::weight(&closed, said.as_ref());
            bytes.extend(line::of(&closed, said.as_ref(), self.redactor.as_ref()));
            drop((closed, said));
            self.shared.bytes.fetch_sub(weight, Ordering::Relaxed);
            lines += 1;
            next = if bytes.len() < BATCH_BYTES { waiting.try_recv().ok().flatten() } else { None };
        }
        self.follow();
        let (written, result) = self.place.write(&bytes);
        self.shared.metrics.lines_written(written);
        if let Err(error) = result {
            self.why = Some(error);
            let lost = lines.saturating_sub(written);
            self.unwritten += lost;
            (0..lost).for_each(|_| self.shared.metrics.line_dropped("write"));
        }
    }

    fn follow(&mut self) {
        let followed = self.place.follow();
        self.has_no_file = followed.is_err();
        self.why = followed.err().or(self.why.take());
    }

    /// Says from time to time what was lost since it was last said.
    fn complain(&mut self) {
        let waits = self.complained.is_some_and(|when| when.elapsed() < COMPLAIN_EVERY);
        let lost = self.shared.lost.load(Ordering::Relaxed);
        if (lost == 0 && self.unwritten == 0 && !self.has_no_file) || waits {
            return;
        }
        let why = self.why.take().map_or_else(|| "it is too slow".to_owned(), |error| error.to_string());
        if self.has_no_file {
            tracing::warn!(why, "the request log's file was moved, and a new one cannot be opened at its path");
        }
        self.shared.lost.fetch_sub(lost, Ordering::Relaxed);
        let unwritten = std::mem::take(&mut self.unwritten);
        if lost + unwritten > 0 {
            tracing::warn!(no_room = lost, not_written = unwritten, why, "lines of the request log are lost");
        }
        self.complained = Some(Instant::now());
    }
}
