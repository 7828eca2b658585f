//! An answer's bytes, taken from the HTTP client by a small task of their own: the client hands them over chunk by chunk, and
//! each hand-over would wake all that stands above this. What is at hand goes up together. Dropping [`Pieces`] drops the
//! connection, which is how the upstream learns that nobody listens. Must never read on while nobody takes what came.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use reqwest::Response;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Most time and bytes spent on what follows an answer's end, so that the connection can be used again.
const DRAIN_TIME: Duration = Duration::from_secs(1);
const DRAIN_LIMIT: usize = 64 * 1024;

/// Bytes taken together, about.
const TOGETHER_MAX: usize = 64 * 1024;

/// As the client gives it.
type Piece = Result<Bytes, reqwest::Error>;

/// What came together.
#[derive(Debug, Default)]
pub(super) struct Come {
    pub(super) bytes: Vec<u8>,
    /// Whether the connection broke behind them.
    pub(super) is_broken: bool,
}

/// See the module.
pub(super) struct Pieces {
    come: mpsc::Receiver<Come>,
    /// `None`: it ends by itself.
    reading: Option<JoinHandle<()>>,
}

impl Pieces {
    /// The bytes of `response`.
    pub(super) fn of(response: Response) -> Self {
        let (take, come) = mpsc::channel(1);
        Pieces { come, reading: Some(tokio::spawn(read(response.bytes_stream(), take))) }
    }

    /// What came since; `None`: there is no more.
    pub(super) async fn next(&mut self) -> Option<Come> {
        self.come.recv().await
    }

    /// The answer is over: what may follow is not awaited here.
    pub(super) fn over(mut self) {
        self.reading = None;
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.abort();
        }
    }
}

async fn read(body: impl Stream<Item = Piece>, take: mpsc::Sender<Come>) {
    let mut body = Box::pin(body);
    loop {
        let piece = tokio::select! {
            biased;
            piece = body.next() => piece,
            () = take.closed() => break,
        };
        let Some(piece) = piece else { return };
        let (mut come, mut is_all) = (Come::default(), false);
        come.put(piece);
        while come.bytes.len() < TOGETHER_MAX && !come.is_broken && !is_all {
            match at_hand(&mut body).await {
                Poll::Ready(Some(piece)) => come.put(piece),
                Poll::Ready(None) => is_all = true,
                Poll::Pending => break,
            }
        }
        if is_all {
            // The connection is free already.
            drop(body);
            _ = take.send(come).await;
            return;
        }
        if take.send(come).await.is_err() {
            break;
        }
    }
    // Late or endless: the connection is dropped.
    _ = tokio::time::timeout(DRAIN_TIME, drain(body)).await;
}

impl Come {
    fn put(&mut self, piece: Piece) {
        match piece {
            Ok(bytes) => self.bytes.extend_from_slice(&bytes),
            Err(_) => self.is_broken = true,
        }
    }
}

/// The next piece, if it is here, or comes without waiting for anybody but this thread's own tasks.
async fn at_hand<S: Stream + Unpin>(body: &mut S) -> Poll<Option<S::Item>> {
    let mut has_waited = false;
    poll_fn(|context| match body.poll_next_unpin(context) {
        Poll::Pending if !has_waited => {
            has_waited = true;
            // Behind the task that reads the connection, which was woken when the last piece was taken.
            context.waker().wake_by_ref();
            Poll::Pending
        }
        polled => Poll::Ready(polled),
    })
    .await
}

async fn drain(mut body: impl Stream<Item = Piece> + Unpin) {
    let mut seen = 0;
    while let Some(Ok(piece)) = body.next().await {
        seen += piece.len();
        if seen > DRAIN_LIMIT {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const PIECE: usize = 16 * 1024;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_ahead_and_what_is_over_is_let_go() {
        let given = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&given);
        let endless = futures::stream::repeat_with(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from_static(&[b'x'; PIECE]))
        });
        let (take, mut come) = mpsc::channel(1);
        let reading = tokio::spawn(read(endless, take));
        let together = come.recv().await.expect("pieces").bytes.len() / PIECE;
        assert_eq!(together, TOGETHER_MAX / PIECE);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let ahead = given.load(Ordering::Relaxed);
        assert_eq!(ahead, 3 * together, "those taken, those waiting, and those waiting for room");
        drop(come);
        reading.await.expect("an end");
        assert!(given.load(Ordering::Relaxed) <= ahead + DRAIN_LIMIT / PIECE + 1);
    }

    #[tokio::test]
    async fn all_comes_in_order_and_then_nothing() {
        let pieces = ["a", "b", "c"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        let (take, mut come) = mpsc::channel(1);
        tokio::spawn(read(futures::stream::iter(pieces), take));
        let together = come.recv().await.expect("pieces").bytes;
        assert_eq!((together.as_slice(), come.recv().await.is_none()), (b"abc".as_slice(), true));
    }
}
