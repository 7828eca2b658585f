//! The body of a streamed answer: events in, frames out, keep-alives while nothing is ready. Dropping it drops the events
//! and so cancels the work. Must never end without either the answer's end or an error.

use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use weir_protocol::{EngineError, Event};

use super::stream::{Grammar, StreamWriter};
use crate::backends::EventStream;
use crate::route::{Answer, Refusal};

/// Frames written together, about.
const TOGETHER_MAX: usize = 64;

/// How silence is bridged.
pub(super) struct Silence {
    /// After this long a frame is sent.
    pub(super) after: Duration,
    /// This one.
    pub(super) frame: &'static [u8],
}

/// Frames of the answer.
pub(super) fn of<G: Grammar>(
    mut events: EventStream,
    mut writer: StreamWriter<G>,
    silence: Silence,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    async_stream::stream! {
        while !writer.has_ended() {
            let mut frames = match tokio::time::timeout(silence.after, events.next()).await {
                Ok(event) => told(&mut writer, event),
                Err(_) => vec![Bytes::from_static(silence.frame)],
            };
            // What is here already goes out in one write.
            while !writer.has_ended() && frames.len() < TOGETHER_MAX {
                let at_hand = poll_fn(|context| Poll::Ready(events.poll_next_unpin(context))).await;
                let Poll::Ready(event) = at_hand else { break };
                frames.extend(told(&mut writer, event));
            }
            match frames.len() {
                0 => {}
                1 => for frame in frames { yield Ok(frame) },
                _ => yield Ok(frames.concat().into()),
            }
        }
    }
}

/// The frames of what comes next.
fn told<G: Grammar>(writer: &mut StreamWriter<G>, next: Option<Result<Event, EngineError>>) -> Vec<Bytes> {
    match next {
        Some(Ok(event)) => writer.event(event),
        Some(Err(error)) => writer.error(&error),
        None => writer.no_more(),
    }
}

/// The events of an answer that is still being opened.
pub(super) fn later(opening: impl Future<Output = Result<Answer, Refusal>> + Send + 'static) -> EventStream {
    let opened = async {
        match opening.await {
            Ok(answer) => answer.events,
            Err(refusal) => Box::pin(futures::stream::iter([Err::<Event, EngineError>(refusal.error)])) as EventStream,
        }
    };
    Box::pin(futures::stream::once(opened).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use weir_protocol::FinishReason;

    /// One letter for each event.
    struct Letters;

    impl Grammar for Letters {
        fn event(&mut self, event: Event) -> Result<Vec<Bytes>, EngineError> {
            let letter: &[u8] = if matches!(event, Event::Finished { .. }) { b"F" } else { b"e" };
            Ok(vec![Bytes::from_static(letter)])
        }

        fn broken(&mut self, error: &EngineError) -> Vec<Bytes> {
            vec![Bytes::from(format!("!{}", error.kind()))]
        }

        fn verbatim(&mut self, _: &str) -> Vec<Bytes> {
            vec![Bytes::from_static(b"v")]
        }
    }

    fn writer() -> StreamWriter<Letters> {
        StreamWriter::new(Letters, false)
    }

    fn after(seconds: u64) -> Silence {
        Silence { after: Duration::from_secs(seconds), frame: b"." }
    }

    async fn read(body: impl Stream<Item = Result<Bytes, Infallible>>) -> String {
        let frames: Vec<Bytes> = body.map(|frame| frame.unwrap_or_else(|never| match never {})).collect().await;
        String::from_utf8(frames.concat()).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled() {
        let events = async_stream::stream! {
            tokio::time::sleep(Duration::from_secs(25)).await;
            yield Ok(Event::Started { model: "m".into() });
            yield Ok(Event::Finished { reason: FinishReason::Stop });
        };
        let text = read(of(Box::pin(events), writer(), after(10))).await;
        assert_eq!(text, "..eF");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_after_the_headers_is_an_error_event() {
        let opening = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Err(Refusal { report: None, error: EngineError::Overloaded { limit: 3, retry_after: None } })
        };
        let text = read(of(later(opening), writer(), after(60))).await;
        assert_eq!(text, "!overloaded");
    }

    #[tokio::test]
    async fn dropping_the_body_drops_the_events() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let events = async_stream::stream! {
            yield Ok(Event::TextDelta("a".into()));
            std::future::pending::<()>().await;
            drop(held);
        };
        let mut body = Box::pin(of(Box::pin(events), writer(), after(60)));
        assert!(body.next().await.is_some());
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(body);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
