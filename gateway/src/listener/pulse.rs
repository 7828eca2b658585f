//! What one connection is doing, and since when: the reason to leave it open, or to close it. A plain machine that is told
//! the time; [`super::watched`] and [`super::given`] feed it.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::given::Slot;
use crate::config::server::ConnectionSettings;

/// How long a connection without work may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
/// What HTTP/2 connections begin with; no method of HTTP/1 does.
const PREFACE: &[u8; 3] = b"PRI";

/// See the module.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The first bytes, until they tell the protocol.
    begin: Vec<u8>,
    is_http2: bool,
    /// Since when a head is being read, HTTP/1 only.
    head_since: Option<Instant>,
    /// What was read of the request under way, HTTP/1 only.
    request: Sizes,
    /// Since when no request is served.
    quiet_since: Instant,
    /// Whether anything was ever read.
    has_spoken: bool,
    /// Since when bytes wait that the client does not take.
    write_since: Option<Instant>,
    /// Requests served now.
    active: usize,
    /// Answers under way.
    answers: Vec<Weak<Slot>>,
    /// Since when the connection shall end.
    closing_since: Option<Instant>,
}

/// What to do about a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again then.
    Wait(Instant),
    /// It has been idle: let it end in order.
    Close,
    /// End it now; the word is for metrics.
    Cut(&'static str),
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Arc<Self> {
        Arc::new(Pulse(Mutex::new(State {
            begin: Vec::new(),
            is_http2: false,
            head_since: None,
            request: Sizes::default(),
            quiet_since: now,
            has_spoken: false,
            write_since: None,
            active: 0,
            answers: Vec::new(),
            closing_since: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete in itself, so what a panicking thread left is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    pub(super) fn read(&self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.state();
        state.has_spoken = true;
        if state.begin.len() < PREFACE.len() {
            let missing = PREFACE.len() - state.begin.len();
            state.begin.extend(bytes.iter().take(missing));
            state.is_http2 = state.begin == PREFACE;
        }
        if state.is_http2 {
            state.head_since = None;
            return;
        }
        if state.active == 0 && state.head_since.is_none() && state.request.is_coming() {
            // The rest of a body that was answered before its end is no head; it may take as long as an idle connection.
            state.request.read(bytes);
            if !state.request.is_more() {
                return;
            }
        }
        if state.active == 0 && state.head_since.is_none() {
            state.head_since = Some(now);
            state.request = Sizes { sends_ahead: state.request.sends_ahead, ..Sizes::default() };
        }
        state.request.read(bytes);
    }

    /// Bytes wait for the client, or wait no more.
    pub(super) fn write_waits(&self, waits: bool, now: Instant) {
        let mut state = self.state();
        match waits {
            true => _ = state.write_since.get_or_insert(now),
            false => state.write_since = None,
        }
    }

    /// A request's head is whole; `length` is its body's, where it says so. The guard lives until its answer is given or
    /// given up.
    pub(super) fn serve(self: &Arc<Self>, length: Option<u64>) -> Serving {
        let mut state = self.state();
        state.active += 1;
        state.head_since = None;
        state.request.length = length;
        Serving(Arc::clone(self))
    }

    /// An answer is under way.
    pub(super) fn answers(&self, slot: &Arc<Slot>) {
        let mut state = self.state();
        state.answers.retain(|answer| answer.strong_count() > 0);
        state.answers.push(Arc::downgrade(slot));
    }

    /// The connection shall end when its work is done.
    pub(super) fn closing(&self, now: Instant) {
        self.state().closing_since.get_or_insert(now);
    }

    /// What is to be done now.
    pub(super) fn judge(&self, limits: &ConnectionSettings, now: Instant) -> Verdict {
        let unread = self.unread(limits, now);
        // Dropped here, without the lock: it cancels work, which tells this pulse.
        drop(unread);
        let state = self.state();
        // Most answers are looked at often enough by half of the shortest limit.
        let shortest = limits.header_timeout.min(limits.write_timeout).min(limits.idle_timeout);
        let shortest = if state.closing_since.is_some() { shortest.min(FAREWELL) } else { shortest };
        let next = Cell::new(now + (shortest / 2).max(Duration::from_millis(1)));
        let over = |since: Instant, limit: Duration| {
            let end = since + limit;
            next.set(next.get().min(end.max(now + Duration::from_millis(1))));
            end <= now
        };
        if state.write_since.is_some_and(|since| over(since, limits.write_timeout)) {
            return Verdict::Cut("write_timeout");
        }
        if state.active > 0 {
            return Verdict::Wait(next.get());
        }
        if let Some(since) = state.closing_since {
            let since = since.max(state.quiet_since);
            return if over(since, FAREWELL) { Verdict::Cut("closing") } else { Verdict::Wait(next.get()) };
        }
        if state.head_since.is_some_and(|since| over(since, limits.header_timeout)) {
            return Verdict::Cut("header_timeout");
        }
        if !state.has_spoken && over(state.quiet_since, limits.header_timeout) {
            return Verdict::Cut("header_timeout");
        }
        // What it sent ahead may be half a head.
        let idle = if state.request.sends_ahead {
            limits.header_timeout.min(limits.idle_timeout)
        } else {
            limits.idle_timeout
        };
        if state.head_since.is_none() && over(state.quiet_since, idle) {
            return Verdict::Close;
        }
        Verdict::Wait(next.get())
    }

    /// Answers that HTTP/2 clients have left unread: one of them must not cost the others their connection.
    fn unread(&self, limits: &ConnectionSettings, now: Instant) -> Vec<super::given::Given> {
        let mut state = self.state();
        if !state.is_http2 {
            return Vec::new();
        }
        state.answers.retain(|answer| answer.strong_count() > 0);
        let answers: Vec<Arc<Slot>> = state.answers.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        answers.iter().filter_map(|slot| slot.take_unread(limits.write_timeout, now)).collect()
    }

    fn served(&self) {
        let mut state = self.state();
        state.active = state.active.saturating_sub(1);
        state.quiet_since = Instant::now();
        if !state.is_http2 {
            state.request.served();
        }
    }
}

/// How much came of a request, to tell whether its client sends the next one ahead.
#[derive(Debug, Default)]
struct Sizes {
    /// Whether the head's lines have begun, and whether the last byte that counts ended one.
    begun: bool,
    line_ended: bool,
    /// Bytes behind the head, once it has ended.
    behind: Option<u64>,
    /// Those of the body, where its head says so.
    length: Option<u64>,
    /// Whether more came than that.
    sends_ahead: bool,
}

impl Sizes {
    fn read(&mut self, bytes: &[u8]) {
        let mut rest = bytes.iter();
        while self.behind.is_none()
            && let Some(byte) = rest.next()
        {
            match byte {
                b'\r' => {}
                b'\n' if self.line_ended => self.behind = Some(0),
                b'\n' => self.line_ended = self.begun,
                _ => (self.begun, self.line_ended) = (true, false),
            }
        }
        if let Some(behind) = &mut self.behind {
            *behind = behind.saturating_add(rest.len() as u64);
        }
    }

    fn served(&mut self) {
        self.sends_ahead |= self.is_more();
    }

    /// Whether some of the body is still to come.
    fn is_coming(&self) -> bool {
        self.behind.zip(self.length).is_some_and(|(behind, length)| behind < length)
    }

    /// Whether more came than the body.
    fn is_more(&self) -> bool {
        self.behind.zip(self.length).is_some_and(|(behind, length)| behind > length)
    }
}

/// One request being served.
#[derive(Debug)]
pub(super) struct Serving(Arc<Pulse>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.served();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionSettings = ConnectionSettings {
        max: 1,
        header_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(90),
    };

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[track_caller]
    fn waits(pulse: &Pulse, now: Instant) {
        assert!(matches!(pulse.judge(&LIMITS, now), Verdict::Wait(next) if next > now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_must_come_in_time_whoever_trickles() {
        let start = Instant::now();
        let silent = Pulse::new(start);
        waits(&silent, at(start, 9));
        assert_eq!(silent.judge(&LIMITS, at(start, 10)), Verdict::Cut("header_timeout"));
        let slow = Pulse::new(start);
        for second in 0..10 {
            slow.read(b"P", at(start, 5 + second));
            waits(&slow, at(start, 5 + second));
        }
        assert_eq!(slow.judge(&LIMITS, at(start, 15)), Verdict::Cut("header_timeout"));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_there_is_more_time() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        pulse.read(b"GET /", start);
        let serving = pulse.serve(Some(0));
        waits(&pulse, at(start, 1000));
        drop(serving);
        waits(&pulse, at(start, 89));
        assert_eq!(pulse.judge(&LIMITS, at(start, 90)), Verdict::Close);
        pulse.closing(at(start, 90));
        waits(&pulse, at(start, 90));
        assert_eq!(pulse.judge(&LIMITS, at(start, 91)), Verdict::Cut("closing"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_ahead_is_not_held_as_long_as_an_idle_connection() {
        let start = Instant::now();
        let after = |pieces: &[&str], length| {
            let pulse = Pulse::new(start);
            pieces.iter().for_each(|piece| pulse.read(piece.as_bytes(), start));
            drop(pulse.serve(length));
            pulse.judge(&LIMITS, at(start, 10))
        };
        for (pieces, length) in [
            (&["GET / HTTP/1.1\r\n\r\nGET"] as &[&str], Some(0)),
            (&["\r\nPOST / HTTP/1.1\r\nx: y\r\n\r", "\nbody", "P"], Some(4)),
        ] {
            assert_eq!(after(pieces, length), Verdict::Close, "{pieces:?}");
        }
        for (pieces, length) in [
            (&["\r\nGET / HTTP/1.1\r\nx: y\r\n\r\n"] as &[&str], Some(0)),
            (&["POST / HTTP/1.1\r\n\r\nbo", "dy"], Some(4)),
            (&["POST / HTTP/1.1\r\n\r\n4\r\nbody\r\n0\r\n\r\n"], None),
        ] {
            assert!(matches!(after(pieces, length), Verdict::Wait(_)), "{pieces:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_was_refused_may_still_come_in_its_own_time() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        pulse.read(b"POST / HTTP/1.1\r\n\r\nbo", start);
        drop(pulse.serve(Some(1000)));
        for second in 1..80 {
            pulse.read(&[b'x'; 10], at(start, second));
            waits(&pulse, at(start, second));
        }
        // Its end, and then half a head.
        pulse.read(&[b'x'; 208], at(start, 70));
        waits(&pulse, at(start, 89));
        pulse.read(b"GET", at(start, 72));
        assert_eq!(pulse.judge(&LIMITS, at(start, 82)), Verdict::Cut("header_timeout"));
        // One that never ends is closed like any that is idle.
        let endless = Pulse::new(start);
        endless.read(b"POST / HTTP/1.1\r\n\r\nbo", start);
        drop(endless.serve(Some(1000)));
        endless.read(b"x", at(start, 89));
        assert_eq!(endless.judge(&LIMITS, at(start, 90)), Verdict::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_and_one_that_reads_is_not() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        pulse.read(b"GET /", start);
        let _serving = pulse.serve(Some(0));
        for second in [0, 29, 58] {
            pulse.write_waits(true, at(start, second));
            waits(&pulse, at(start, second + 29));
            pulse.write_waits(false, at(start, second + 29));
        }
        pulse.write_waits(true, at(start, 100));
        pulse.write_waits(true, at(start, 110));
        assert_eq!(pulse.judge(&LIMITS, at(start, 130)), Verdict::Cut("write_timeout"));
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_told_from_its_first_bytes_and_may_be_quiet() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        for byte in b"PRI * HTTP/2.0" {
            pulse.read(&[*byte], start);
        }
        waits(&pulse, at(start, 60));
        assert_eq!(pulse.judge(&LIMITS, at(start, 90)), Verdict::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_closing_waits_for_its_work() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        pulse.read(b"GET /", start);
        let serving = pulse.serve(Some(0));
        pulse.closing(start);
        waits(&pulse, at(start, 60));
        drop(serving);
        assert_eq!(pulse.judge(&LIMITS, at(start, 60)), Verdict::Cut("closing"));
    }
}
