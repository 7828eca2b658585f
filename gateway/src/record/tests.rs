//! That a record closes once, with the right word, and that nobody waits for its line.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use weir_protocol::{ChatRequest, Dialect, EngineError};

use super::redact::Redactor;
use super::{Landing, Outcome, Record, Recorder};
use crate::caller::ClientKind;
use crate::config::telemetry::{LogTarget, RequestLogSettings, TelemetrySettings};
use crate::metrics::{Metrics, Scrape};

fn counting() -> (Arc<Metrics>, Arc<Recorder>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    (Arc::clone(&metrics), Arc::new(Recorder::counting(metrics)))
}

fn logging(file: &Path) -> (Arc<Metrics>, Arc<Recorder>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let settings =
        RequestLogSettings { target: LogTarget::File(file.to_owned()), content: Some(Redactor::new(&[]).unwrap()) };
    let settings = TelemetrySettings { request_log: Some(settings), otlp: None };
    let recorder = Recorder::start(&settings, Arc::clone(&metrics)).unwrap();
    (metrics, Arc::new(recorder))
}

fn open(recorder: &Arc<Recorder>) -> Record {
    Record::open(recorder, "req-1", Dialect::OpenAiChat, None)
}

/// The samples of requests, without those of other families.
fn counted(metrics: &Metrics) -> Vec<String> {
    let page = metrics.render(&Scrape::default()).unwrap();
    page.lines().filter(|line| line.starts_with("weir_requests_total{")).map(str::to_owned).collect()
}

/// Lines for which there was no room in the queue.
fn more_dropped_than(least: u64, metrics: &Metrics) {
    let page = metrics.render(&Scrape::default()).unwrap();
    let dropped = page.lines().find_map(|line| line.strip_prefix(r#"weir_request_log_dropped_total{cause="queue"} "#));
    assert!(dropped.is_some_and(|count| count.parse::<u64>().unwrap() > least), "{page}");
}

#[test]
fn the_last_clone_closes_it_and_only_once() {
    let (metrics, recorder) = counting();
    let record = open(&recorder);
    let other = record.clone();
    record.responded(StatusCode::BAD_REQUEST, Some(Outcome("invalid_request")));
    drop(record);
    assert!(counted(&metrics).is_empty());
    drop(other);
    assert_eq!(counted(&metrics), [r#"weir_requests_total{backend="none",outcome="invalid_request",route="none"} 1"#]);
}

#[test]
fn who_leaves_is_cancelled_and_a_panic_is_ours() {
    let (metrics, recorder) = counting();
    drop(open(&recorder));
    assert_eq!(counted(&metrics), [r#"weir_requests_total{backend="none",outcome="cancelled",route="none"} 1"#]);
    let (metrics, recorder) = counting();
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _record = open(&recorder);
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(counted(&metrics), [r#"weir_requests_total{backend="none",outcome="internal",route="none"} 1"#]);
}

#[test]
fn an_answer_that_could_not_be_said_did_not_finish() {
    let (metrics, recorder) = counting();
    let record = open(&recorder);
    record.landed(Landing { outcome: "finished", route: Some("auto".into()), ..Landing::default() });
    record.responded(StatusCode::INTERNAL_SERVER_ERROR, Some(Outcome("internal")));
    drop(record);
    assert_eq!(counted(&metrics), [r#"weir_requests_total{backend="none",outcome="internal",route="auto"} 1"#]);
}

#[tokio::test(start_paused = true)]
async fn overhead_is_what_is_neither_the_backends_nor_the_callers_time() {
    let (metrics, recorder) = counting();
    let pass = |ms| tokio::time::advance(Duration::from_millis(ms));
    let record = open(&recorder);
    pass(5000).await; // the caller sends its body
    record.body_read(0);
    pass(20).await; // ours
    let (first, beside) = (record.waiting(), record.waiting());
    pass(300).await;
    drop(first);
    pass(300).await;
    drop(beside);
    pass(10).await; // ours
    let streaming = record.waiting();
    pass(100).await;
    record.responded(StatusCode::OK, None);
    pass(9000).await; // the backend says more, the caller reads
    drop(streaming);
    record.body_ended(Duration::from_millis(3));
    drop(record);
    let page = metrics.render(&Scrape::default()).unwrap();
    assert!(page.contains("weir_overhead_seconds_sum 0.033"), "{page}");
}

#[test]
fn who_was_not_let_in_asked_for_a_model_of_ours_or_for_one_that_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requests.jsonl");
    let request_log = Some(RequestLogSettings { target: LogTarget::File(file.clone()), content: None });
    let settings = TelemetrySettings { request_log, otlp: None };
    let recorder = Arc::new(Recorder::start(&settings, Arc::new(Metrics::new().unwrap())).unwrap());
    for is_ours in [true, false] {
        let record = open(&recorder);
        let request = ChatRequest { model: "m".into(), ..ChatRequest::default() };
        record.asked(&Arc::new(request), ClientKind::Other);
        record.because(&EngineError::EmptyAnswer, is_ours);
    }
    recorder.stop(Duration::from_secs(60));
    let text = std::fs::read_to_string(&file).unwrap();
    let models = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["model"].clone());
    assert_eq!(models.collect::<Vec<_>>(), [serde_json::json!("m"), serde_json::Value::Null]);
}

#[test]
fn what_waits_is_written_before_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requests.jsonl");
    let (metrics, recorder) = logging(&file);
    for _ in 0..1000 {
        drop(open(&recorder));
    }
    recorder.stop(Duration::from_secs(60));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 1000);
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&line["v"], &line["id"], &line["outcome"]), (&1.into(), &"req-1".into(), &"cancelled".into()));
    assert!(metrics.render(&Scrape::default()).unwrap().contains("weir_request_log_lines_total 1000"));
    // Whoever comes later finds no writer, and does not wait for one.
    drop(open(&recorder));
}

/// A pipe that is open, and not read from: once its buffer is full the writer stands still.
#[cfg(unix)]
fn pipe(folder: &Path) -> (std::path::PathBuf, std::fs::File) {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::OpenOptionsExt;

    let pipe = folder.join("pipe");
    let name = CString::new(pipe.as_os_str().as_bytes()).unwrap();
    // SAFETY: a terminated name; the call has no other demands.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let reader = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).unwrap();
    (pipe, reader)
}

#[cfg(unix)]
#[test]
fn what_waits_at_a_recorder_that_a_reload_replaced_is_written_before_the_end() {
    use std::io::Read;

    let folder = tempfile::tempdir().unwrap();
    let (pipe, mut reader) = pipe(folder.path());
    let (metrics, old) = logging(&pipe);
    let (_, new) = counting();
    for _ in 0..2000 {
        drop(open(&old));
    }
    new.succeeds(&old);
    drop(old);
    let reading = std::thread::spawn(move || {
        let (mut text, mut piece) = (Vec::new(), [0; 65536]);
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return text.iter().filter(|byte| **byte == b'\n').count(),
                Ok(read) => text.extend_from_slice(&piece[..read]),
                Err(_) => std::thread::yield_now(),
            }
        }
    });
    new.stop(Duration::from_secs(60));
    let page = metrics.render(&Scrape::default()).unwrap();
    assert!(page.contains("weir_request_log_lines_total 2000"), "{page}");
    assert_eq!(reading.join().unwrap(), 2000);
}

#[cfg(unix)]
#[test]
fn a_disk_that_stands_still_costs_lines_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, reader) = pipe(folder.path());
    let (metrics, recorder) = logging(&pipe);
    for _ in 0..20_000 {
        drop(open(&recorder));
    }
    more_dropped_than(5000, &metrics);
    assert_eq!(counted(&metrics), [r#"weir_requests_total{backend="none",outcome="cancelled",route="none"} 20000"#]);
    drop(reader);
    recorder.stop(Duration::from_secs(60));
}

#[cfg(unix)]
#[test]
fn what_waits_with_its_prompts_takes_so_much_memory_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, reader) = pipe(folder.path());
    let (metrics, recorder) = logging(&pipe);
    // No plan says how large it is: most of it is images, or it is not let in.
    let request = Arc::new(ChatRequest::default());
    for _ in 0..3000 {
        let record = open(&recorder);
        record.body_read(1 << 20);
        record.asked(&request, ClientKind::Other);
    }
    more_dropped_than(1000, &metrics);
    drop(reader);
    recorder.stop(Duration::from_secs(60));
}
