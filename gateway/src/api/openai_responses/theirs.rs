//! What must be known of an upstream's own events, so that a stream which began in them can be ended in ours: clients hold the
//! answer and its items to the ids they began with. Must never refuse a piece: what cannot be read says nothing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::plain_json;

/// One event.
#[derive(Default, Deserialize)]
pub(super) struct Told<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    output_index: Option<&'a RawValue>,
    #[serde(borrow)]
    item_id: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

impl<'a> Told<'a> {
    pub(super) fn of(piece: &'a str) -> Self {
        serde_json::from_str(piece).unwrap_or_default()
    }

    /// The answer's id, where this is its beginning.
    pub(super) fn answer_id(&self) -> Option<String> {
        let begins = matches!(&*self.kind, "response.created" | "response.queued" | "response.in_progress");
        id(self.response.filter(|_| begins)?)
    }

    /// The place of the item it is about.
    pub(super) fn place(&self) -> Option<usize> {
        serde_json::from_str(self.output_index?.get()).ok()
    }

    /// The id of the item it is about.
    pub(super) fn item_id(&self) -> Option<String> {
        match self.item {
            Some(item) => id(item),
            None => serde_json::from_str(self.item_id?.get()).ok(),
        }
    }

    /// The item, where it is done; on one line, as events want it.
    pub(super) fn done(&self) -> Option<Box<RawValue>> {
        let item = self.item.filter(|_| self.kind == "response.output_item.done")?;
        if item.get().contains(['\n', '\r']) {
            return to_raw_value(&plain_json::parse(item.get()).ok()?).ok();
        }
        Some(item.to_owned())
    }

    /// What the item would be that was added here if nothing followed; `None` for calls, which nobody must take for whole.
    pub(super) fn left_open(&self) -> Option<Box<RawValue>> {
        let item = self.item.filter(|_| self.kind == "response.output_item.added")?;
        let mut item = plain_json::parse(item.get()).ok()?;
        if !matches!(item["type"].as_str()?, "message" | "reasoning") {
            return None;
        }
        item["status"] = "incomplete".into();
        to_raw_value(&item).ok()
    }
}

fn id(of: &RawValue) -> Option<String> {
    serde_json::from_str::<Named>(of.get()).ok().map(|named| named.id)
}
