//! The events of a stream as they stand on the wire, numbered from 0.

use bytes::Bytes;
use serde::Serialize;

use super::encode::{ContentPart, ItemBody, ResponseBody};
use crate::api::answering::frames::{named, named_as_written};
use crate::api::answering::stats::DraftBody;
use crate::api::openai_chat::encode::LogprobBody;

/// What an event says besides its name and number.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Payload<'a> {
    Response {
        response: ResponseBody<'a>,
    },
    Item {
        output_index: usize,
        item: &'a ItemBody,
    },
    Part {
        #[serde(flatten)]
        place: Place<'a>,
        part: &'a ContentPart,
    },
    Delta {
        #[serde(flatten)]
        place: Place<'a>,
        delta: &'a str,
        /// Of output text only.
        #[serde(skip_serializing_if = "Option::is_none")]
        logprobs: Option<Vec<LogprobBody>>,
    },
    TextDone {
        #[serde(flatten)]
        place: Place<'a>,
        text: &'a str,
        /// Of output text only.
        #[serde(skip_serializing_if = "Option::is_none")]
        logprobs: Option<&'a [LogprobBody]>,
    },
    RefusalDone {
        #[serde(flatten)]
        place: Place<'a>,
        refusal: &'a str,
    },
    InputDone {
        #[serde(flatten)]
        place: Place<'a>,
        input: &'a str,
    },
    ArgumentsDone {
        #[serde(flatten)]
        place: Place<'a>,
        name: &'a str,
        arguments: &'a str,
    },
    Error {
        code: &'a str,
        message: &'a str,
        param: Option<&'a str>,
    },
    /// What only Weir has; clients that do not know it skip it.
    Draft {
        draft: DraftBody,
    },
}

/// Which part of the answer an event is about.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Place<'a> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    /// Items of this gateway have one part at most; calls have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_index: Option<usize>,
}

#[derive(Serialize)]
struct Numbered<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    payload: Payload<'a>,
}

/// Puts events together.
#[derive(Debug, Default)]
pub(super) struct Events {
    next: u64,
    frames: Vec<Bytes>,
    /// Whether the upstream's own events are sent instead.
    passing: bool,
}

impl Events {
    /// The next event.
    pub(super) fn push(&mut self, kind: &'static str, payload: Payload<'_>) {
        if self.passing {
            return;
        }
        self.frames.push(named(kind, &Numbered { kind, sequence_number: self.next, payload }));
        self.next += 1;
    }

    /// The next event as the upstream wrote it, numbered from 0 too. Until [`Events::go_on`] there are no others.
    pub(super) fn pass(&mut self, kind: &str, piece: &str) {
        if !std::mem::replace(&mut self.passing, true) {
            (self.next, self.frames) = (0, Vec::new());
        }
        self.next += 1;
        self.frames.push(named_as_written(kind, piece));
    }

    /// Events are written here again, numbered on from the upstream's.
    pub(super) fn go_on(&mut self) {
        self.passing = false;
    }

    /// What was put together since the last time.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.frames)
    }
}
