//! What the process says of itself: lines on standard error, written by a thread of its own. Whoever reads them may be slow,
//! stand still or be gone (a log service that restarts, a parent that died): that costs lines, which are counted, and never a
//! request. Must never wait for the reader, nor fail for want of one.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use tracing::Level;

use crate::record::rfc3339;

/// Most lines that wait.
const QUEUE_MAX: usize = 8192;
/// Lines that come within this time are written together, up to about so many bytes.
const TOGETHER: Duration = Duration::from_millis(10);
const TOGETHER_BYTES: usize = 64 * 1024;
/// Longest wait for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<SyncSender<Said>> = OnceLock::new();
/// Whether each line is an object of its own, as the log's are then.
static JSON: AtomicBool = AtomicBool::new(false);
static LOST: AtomicUsize = AtomicUsize::new(0);

enum Said {
    Line(Vec<u8>),
    /// Answered once all before it is written.
    Flush(SyncSender<()>),
}

/// While it lives lines are written; when it is dropped, those that wait are.
pub(crate) struct Saying(());

/// Starts the thread. Without it, where none can be had, lines are written by whoever says them.
pub(crate) fn start() -> Saying {
    let (queue, said) = sync_channel(QUEUE_MAX);
    let writes = std::thread::Builder::new().name("log".into()).spawn(move || write(&said, &LOST, io::stderr()));
    if writes.is_ok() {
        // A second start in one process keeps the first.
        let _ = QUEUE.set(queue);
    }
    Saying(())
}

impl Drop for Saying {
    fn drop(&mut self) {
        flush();
    }
}

/// Waits until what was said is written, but not for long.
pub(crate) fn flush() {
    let (done, written) = sync_channel(1);
    let asked = QUEUE.get().is_some_and(|queue| queue.try_send(Said::Flush(done)).is_ok());
    if asked {
        // Late or never: nobody reads.
        let _: Result<(), RecvTimeoutError> = written.recv_timeout(LAST_LINES);
    }
}

/// From now on each line is an object.
pub(crate) fn in_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Says one line, whatever the log leaves out.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    take(shown(Level::INFO, &line.to_string()));
}

/// Says what went wrong, likewise.
pub(crate) fn complain(line: fmt::Arguments<'_>) {
    take(shown(Level::ERROR, &line.to_string()));
}

fn shown(level: Level, line: &str) -> Vec<u8> {
    match JSON.load(Ordering::Relaxed) {
        true => as_object(level, line),
        false => format!("{line}\n").into_bytes(),
    }
}

/// In the shape of the log's lines.
fn as_object(level: Level, line: &str) -> Vec<u8> {
    let fields = serde_json::json!({ "message": line.trim() });
    let time = rfc3339(SystemTime::now());
    let line = serde_json::json!({ "timestamp": time, "level": level.as_str(), "fields": fields, "target": "weir" });
    format!("{line}\n").into_bytes()
}

fn take(line: Vec<u8>) {
    match QUEUE.get() {
        Some(queue) => {
            if queue.try_send(Said::Line(line)).is_err() {
                LOST.fetch_add(1, Ordering::Relaxed);
            }
        }
        None => _ = io::stderr().write_all(&line),
    }
}

/// Where `tracing` writes: a whole line at a time.
pub(crate) struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        take(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(said: &Receiver<Said>, lost: &AtomicUsize, mut out: impl Write) {
    while let Ok(first) = said.recv() {
        if matches!(first, Said::Line(_)) {
            std::thread::sleep(TOGETHER);
        }
        let (mut bytes, mut next) = (Vec::new(), Some(first));
        let mut asked = None;
        while let Some(said_next) = next {
            match said_next {
                Said::Line(line) => bytes.extend(line),
                Said::Flush(done) => asked = Some(done),
            }
            let goes_on = asked.is_none() && bytes.len() < TOGETHER_BYTES;
            next = if goes_on { said.try_recv().ok() } else { None };
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            bytes.extend(shown(Level::WARN, &format!("weir: {missing} lines are lost here")));
        }
        // With nobody there it is lost; the next may find somebody.
        let _ = out.write_all(&bytes);
        if let Some(done) = asked {
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Fails so often, then keeps what it gets.
    #[derive(Clone, Default)]
    struct Reader(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut held = self.0.lock().unwrap();
            if held.0 > 0 {
                held.0 -= 1;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            held.1.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
        let reader = Reader::default();
        reader.0.lock().unwrap().0 = 1;
        let (queue, said) = sync_channel(10);
        let out = reader.clone();
        let writing = std::thread::spawn(move || write(&said, &AtomicUsize::new(3), out));
        let flushed = || {
            let (done, written) = sync_channel(1);
            queue.send(Said::Flush(done)).unwrap();
            written.recv().unwrap();
        };
        queue.send(Said::Line(b"nobody hears it\n".to_vec())).unwrap();
        flushed();
        queue.send(Said::Line(b"one\n".to_vec())).unwrap();
        queue.send(Said::Line(b"two\n".to_vec())).unwrap();
        flushed();
        drop(queue);
        writing.join().unwrap();
        assert_eq!(reader.0.lock().unwrap().1, b"one\ntwo\n");
    }

    #[test]
    fn in_json_a_line_is_an_object_as_the_logs_are() {
        let line = String::from_utf8(as_object(Level::INFO, "  policy  \"own\"")).unwrap();
        assert!(line.ends_with("}\n"), "{line}");
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&object["level"], &object["target"]), (&"INFO".into(), &"weir".into()));
        assert_eq!(object["fields"]["message"], "policy  \"own\"");
        assert!(object["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    }

    #[test]
    fn what_found_no_room_is_counted() {
        let (reader, (queue, said)) = (Reader::default(), sync_channel(10));
        queue.send(Said::Line(b"one\n".to_vec())).unwrap();
        drop(queue);
        write(&said, &AtomicUsize::new(3), reader.clone());
        assert_eq!(reader.0.lock().unwrap().1, b"one\nweir: 3 lines are lost here\n");
    }
}
