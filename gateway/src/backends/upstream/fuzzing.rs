//! An upstream's answer without an upstream, for `fuzz/`. Must never be part of another build.

use bytes::Bytes;
use weir_protocol::{ChatRequest, EngineError, Event};

use super::reading::Reading;
use crate::backends::wire;
use crate::config::BackendSettings;

/// The events of an answer that comes in pieces of `size` bytes; `passes`: with the upstream's own words.
pub(crate) fn read(
    settings: &BackendSettings,
    passes: bool,
    bytes: &[u8],
    size: usize,
) -> (Vec<Event>, Option<EngineError>) {
    let wire = wire(settings);
    let mut reading = Reading::new(200, wire.framing(), wire.decoder("asked", passes), passes);
    let pieces = bytes.chunks(size.max(1)).map(|piece| Ok(Some(Ok(Bytes::copy_from_slice(piece)))));
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
