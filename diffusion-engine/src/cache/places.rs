//! Where a forward's keys and values of one layer go, for threads that each write rows of their own at once: a page is
//! locked for as long as one of them writes to it. Must never reach a page that is shared with another request.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use half::bf16;
use weir_kernels::{PANEL, Strided};

use super::{KvShape, pages_for};

/// A page's; `None` where it is shared.
pub(crate) type Place<'a> = Option<Mutex<LayerMut<'a>>>;

/// One request's.
pub(crate) struct Places<'p, 'a> {
    pub(crate) shape: KvShape,
    /// Of each of its pages.
    pub(crate) pages: &'p [Place<'a>],
}

/// A layer of a page, `[kv_heads, keys then values]`.
pub(crate) enum LayerMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
}

impl LayerMut<'_> {
    /// Writes rows of `[kv_heads, head_dim]` to these positions of the page.
    pub(super) fn put(&mut self, shape: &KvShape, lanes: Range<usize>, rows: [Strided<'_>; 2]) {
        match self {
            LayerMut::F32(elements) => put(elements, shape, lanes, rows, |element| element),
            LayerMut::Bf16(elements) => put(elements, shape, lanes, rows, bf16::from_f32),
        }
    }
}

impl Places<'_, '_> {
    /// Writes `keys` and `values`, a row of `[kv_heads, head_dim]` for each, of reserved positions behind the committed
    /// ones.
    pub(crate) fn write(&self, positions: Range<usize>, keys: Strided<'_>, values: Strided<'_>) {
        for (index, row, lanes) in pieces(positions) {
            let own = self.pages.get(index).and_then(Option::as_ref);
            debug_assert!(own.is_some(), "page {index} is shared or missing");
            if let Some(page) = own {
                // A panic in between leaves finite numbers, and the forward that failed commits none of them.
                let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
                page.put(&self.shape, lanes, [keys.skip(row), values.skip(row)]);
            }
        }
    }
}

/// What each page has of `positions`: its index, the first of their rows, and where in the page they lie.
pub(super) fn pieces(positions: Range<usize>) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
    let Range { start, end } = positions;
    (start / PANEL..pages_for(end)).map(move |page| {
        let (first, last) = (start.max(page * PANEL), end.min((page + 1) * PANEL));
        (page, first - start, first - page * PANEL..last - page * PANEL)
    })
}

fn put<T: Copy>(
    layer: &mut [T],
    shape: &KvShape,
    lanes: Range<usize>,
    [keys, values]: [Strided<'_>; 2],
    pack: impl Fn(f32) -> T,
) {
    let d = shape.attention.head_dim;
    for (index, head) in layer.chunks_exact_mut(shape.head()).enumerate() {
        let (key_panel, value_panel) = head.split_at_mut(shape.attention.key_panel());
        // Row by row: rows lie a power of two apart, where few of them fit into the cache at once.
        for (lane, row) in lanes.clone().zip(keys.elements.chunks(keys.stride)) {
            let own = row.iter().skip(index * d).take(d);
            for (place, key) in key_panel.iter_mut().skip(lane).step_by(PANEL).zip(own) {
                *place = pack(*key);
            }
        }
        for (piece, square) in value_panel.chunks_exact_mut(PANEL * PANEL).enumerate() {
            let rows = values.elements.chunks(values.stride);
            for (places, row) in square.chunks_exact_mut(PANEL).skip(lanes.start).take(lanes.len()).zip(rows) {
                let own = row.iter().take((index + 1) * d).skip(index * d + piece * PANEL);
                for (place, value) in places.iter_mut().zip(own) {
                    *place = pack(*value);
                }
            }
        }
    }
}
