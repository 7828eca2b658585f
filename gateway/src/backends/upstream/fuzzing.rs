//! An upstream's answer without an upstream, for `fuzz/`. Must never be part of another build.

use weir_protocol::{ChatRequest, EngineError, Event};

use super::pieces::Come;
use super::reading::Reading;
use crate::backends::wire;
use crate::config::BackendSettings;

/// The events of an answer that comes in pieces of `size` bytes; `passes`: with the upstream's own words; `whole`: for a
/// caller who gets it at once.
pub(crate) fn read(
    settings: &BackendSettings,
    (passes, whole): (bool, bool),
    bytes: &[u8],
    size: usize,
) -> (Vec<Event>, Option<EngineError>) {
    let wire = wire(settings);
    let mut reading = Reading::new(200, wire.framing(), wire.decoder("asked", passes), passes, whole);
    let pieces = bytes.chunks(size.max(1)).map(|piece| Ok(Some(Come { bytes: piece.to_vec(), is_broken: false })));
    let mut events = Vec::new();
    for piece in pieces.chain([Ok(None)]) {
        let fault = reading.take(piece, &mut events).err();
        if fault.is_some() || reading.has_ended() {
            return (events, fault);
        }
    }
    unreachable!("an answer without an end");
}

/// What would be sent.
pub(crate) fn sent(settings: &BackendSettings, request: &ChatRequest) -> Result<Vec<u8>, EngineError> {
    wire(settings).body(request, "asked")
}
