//! The body of a streamed answer: events in, frames out, comments while nothing is ready. Dropping it drops the events
//! and so cancels the work. Must never end without either the answer's end or an error.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use weir_protocol::{EngineError, Event};

use super::encode::KEEP_ALIVE;
use super::stream::StreamWriter;
use crate::backends::EventStream;
use crate::route::{Answer, Refusal};

/// Frames of the answer.
pub(super) fn of(
    mut events: EventStream,
    mut writer: StreamWriter,
    keep_alive: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    async_stream::stream! {
        while !writer.has_ended() {
            let frames = match tokio::time::timeout(keep_alive, events.next()).await {
                Ok(Some(Ok(event))) => writer.event(event),
                Ok(Some(Err(error))) => writer.error(&error),
                Ok(None) => writer.no_more(),
                Err(_) => vec![Bytes::from_static(KEEP_ALIVE)],
            };
            for frame in frames {
                yield Ok(frame);
            }
        }
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
    use crate::api::openai_chat::stream::Identity;
    use std::sync::Arc;
    use weir_protocol::FinishReason;

    fn writer() -> StreamWriter {
        StreamWriter::new(Identity { id: "c".into(), created: 9 }, false, false)
    }

    async fn read(body: impl Stream<Item = Result<Bytes, Infallible>>) -> String {
        let frames: Vec<Bytes> = body.map(|frame| frame.unwrap_or_else(|never| match never {})).collect().await;
        String::from_utf8(frames.concat()).expect("text")
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let events = async_stream::stream! {
            tokio::time::sleep(Duration::from_secs(25)).await;
            yield Ok(Event::Started { model: "m".into() });
            yield Ok(Event::Finished { reason: FinishReason::Stop });
        };
        let text = read(of(Box::pin(events), writer(), Duration::from_secs(10))).await;
        assert!(text.starts_with(": keep-alive\n\n: keep-alive\n\ndata: {"), "{text}");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_after_the_headers_is_an_error_event() {
        let opening = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Err(Refusal { report: None, error: EngineError::Overloaded { limit: 3, retry_after: None } })
        };
        let text = read(of(later(opening), writer(), Duration::from_secs(60))).await;
        assert!(
            text.starts_with("data: {\"error\"") && text.contains("overloaded") && !text.contains("DONE"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn dropping_the_body_drops_the_events() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let events = async_stream::stream! {
            yield Ok(Event::Started { model: "m".into() });
            std::future::pending::<()>().await;
            drop(held);
        };
        let mut body = Box::pin(of(Box::pin(events), writer(), Duration::from_secs(60)));
        assert!(body.next().await.is_some());
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(body);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
