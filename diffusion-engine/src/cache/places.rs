//! Where a forward's keys and values of one layer go, for threads that each write rows of their own at once: a page is
//! locked for as long as one of them writes to it. Must never reach a page that is shared with another request.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use half::bf16;
use weir_kernels::kv::Rounding;
use weir_kernels::{KvPanel, PANEL, Strided};

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
    /// And its scales, `[kv_heads, of keys then of values, 32 positions]`.
    Int8(&'a mut [i8], &'a mut [f32]),
}

/// The same to read.
#[derive(Clone, Copy)]
pub(super) enum Layer<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    Int8(&'a [i8], &'a [[[f32; PANEL]; 2]]),
}

impl<'a> Layer<'a> {
    pub(super) fn int8((quants, scales): (&'a [i8], &'a [f32])) -> Self {
        Layer::Int8(quants, scales.as_chunks().0.as_chunks().0)
    }

    /// The panel of each of its key/value heads.
    pub(super) fn heads(self, shape: &KvShape) -> impl Iterator<Item = KvPanel<'a>> {
        let (head, key_panel) = (shape.head(), shape.attention.key_panel());
        (0..shape.attention.kv_heads).filter_map(move |index| {
            let own = index * head..(index + 1) * head;
            Some(match self {
                Layer::F32(elements) => {
                    let (keys, values) = elements.get(own)?.split_at(key_panel);
                    KvPanel::F32 { keys, values }
                }
                Layer::Bf16(elements) => {
                    let (keys, values) = elements.get(own)?.split_at(key_panel);
                    KvPanel::Bf16 { keys, values }
                }
                Layer::Int8(quants, scales) => {
                    let (keys, values) = quants.get(own)?.split_at(key_panel);
                    KvPanel::Int8 { keys, values, scales: scales.get(index)? }
                }
            })
        })
    }
}

impl LayerMut<'_> {
    /// Writes rows of `[kv_heads, head_dim]` to these positions of the page.
    pub(super) fn put(&mut self, shape: &KvShape, lanes: Range<usize>, rows: [Strided<'_>; 2]) {
        match self {
            LayerMut::F32(elements) => put::<_, _, 1>(elements, shape, lanes, rows, |_, _| |element| element),
            LayerMut::Bf16(elements) => put::<_, _, 1>(elements, shape, lanes, rows, |_, _| bf16::from_f32),
            LayerMut::Int8(quants, scales) => put::<_, _, 2>(quants, shape, lanes, rows, |place, row| {
                let rounding = Rounding::of(row);
                if let Some(scale) = scales.get_mut(place) {
                    *scale = rounding.scale;
                }
                move |element| rounding.round(element)
            }),
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

/// `packing(i, row)` says how the i-th of `[kv_heads, keys then values, 32 positions]` is packed. As in a [`KvPanel`],
/// `TOGETHER` of what is multiplied together lie beside each other.
fn put<T: Copy, P: Fn(f32) -> T, const TOGETHER: usize>(
    layer: &mut [T],
    shape: &KvShape,
    lanes: Range<usize>,
    [keys, values]: [Strided<'_>; 2],
    mut packing: impl FnMut(usize, &[f32]) -> P,
) {
    let d = shape.attention.head_dim;
    for (index, head) in layer.chunks_exact_mut(shape.head()).enumerate() {
        let own = index * d..(index + 1) * d;
        let (key_panel, value_panel) = head.split_at_mut(shape.attention.key_panel());
        // Row by row: rows lie a power of two apart, where few of them fit into the cache at once.
        for (lane, row) in lanes.clone().zip(keys.elements.chunks(keys.stride)) {
            let row = row.get(own.clone()).unwrap_or_default();
            let pack = packing(2 * index * PANEL + lane, row);
            for (places, keys) in key_panel.chunks_exact_mut(TOGETHER * PANEL).zip(row.chunks(TOGETHER)) {
                for (place, key) in places.iter_mut().skip(lane * TOGETHER).zip(keys) {
                    *place = pack(*key);
                }
            }
        }
        for (lane, row) in lanes.clone().zip(values.elements.chunks(values.stride)) {
            let row = row.get(own.clone()).unwrap_or_default();
            let pack = packing((2 * index + 1) * PANEL + lane, row);
            let first = lane / TOGETHER * TOGETHER * PANEL + lane % TOGETHER;
            for (square, piece) in value_panel.chunks_exact_mut(PANEL * PANEL).zip(row.chunks(PANEL)) {
                for (place, value) in square.iter_mut().skip(first).step_by(TOGETHER).zip(piece) {
                    *place = pack(*value);
                }
            }
        }
    }
}
