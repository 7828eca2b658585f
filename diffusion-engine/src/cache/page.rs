//! 32 positions of all layers in one piece of memory, in the panels the attention loop reads. Must never be read
//! where it was not written: a page that is not filled at once is zero, because attention multiplies what it does not see
//! by zero, and zero times NaN is NaN.

use std::sync::Arc;

use half::bf16;
use half::slice::HalfFloatSliceExt;
use weir_kernels::{PANEL, registry};

use super::KvShape;
use super::places::LayerMut;
use super::pool::Pool;
use crate::options::KvType;

/// A page. Its memory goes back to the pool when it is dropped.
pub(crate) struct Page {
    storage: Storage,
    pool: Arc<Pool>,
}

/// `[layers, kv_heads, keys then values]`.
pub(super) enum Storage {
    F32(Box<[f32]>),
    /// Rounded when written, so that a block sees its own K/V as later blocks and other requests will.
    Bf16(Box<[bf16]>),
    /// The same in whole numbers, with a scale for each position's keys and values of each head.
    Int8(Box<[i8]>, Box<[f32]>),
    /// The page of this number in a GPU's memory: only its kernels read and write it.
    #[cfg(any(test, feature = "cuda"))]
    Device(u32),
}

impl Storage {
    pub(super) fn zeros(shape: &KvShape, kind: KvType) -> Self {
        match kind {
            KvType::F32 => Storage::F32(vec![0.0; shape.page()].into_boxed_slice()),
            KvType::Bf16 => Storage::Bf16(vec![bf16::ZERO; shape.page()].into_boxed_slice()),
            KvType::Int8 => {
                Storage::Int8(vec![0; shape.page()].into_boxed_slice(), vec![0.0; shape.scales()].into_boxed_slice())
            }
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Storage::F32(elements) => elements.fill(0.0),
            Storage::Bf16(elements) => elements.fill(bf16::ZERO),
            Storage::Int8(quants, scales) => {
                quants.fill(0);
                scales.fill(0.0);
            }
            // Finite numbers of whoever had it, and nobody looks behind what is visible.
            #[cfg(any(test, feature = "cuda"))]
            Storage::Device(_) => {}
        }
    }
}

impl Page {
    pub(super) fn new(storage: Storage, pool: Arc<Pool>) -> Self {
        Page { storage, pool }
    }

    /// Layer `read`, if asked for, as [`Page::layer`] gives it, and the later layer `write` to write to.
    pub(super) fn layers<'a>(
        &'a mut self,
        read: Option<usize>,
        write: usize,
        scratch: &'a mut [f32],
    ) -> (&'a [f32], Option<LayerMut<'a>>) {
        let shape = *self.pool.shape();
        let length = shape.layer();
        let range = |layer: usize| layer * length..(layer + 1) * length;
        match &mut self.storage {
            Storage::F32(elements) => {
                let (before, from) = elements.split_at_mut(write * length);
                let read = read.and_then(|layer| before.get(range(layer)));
                (read.unwrap_or_default(), from.get_mut(..length).map(LayerMut::F32))
            }
            Storage::Bf16(elements) => {
                let (before, from) = elements.split_at_mut(write * length);
                let read = read.and_then(|layer| before.get(range(layer)));
                if let Some(packed) = read.filter(|packed| packed.len() == scratch.len()) {
                    packed.convert_to_f32_slice(scratch);
                }
                (scratch, from.get_mut(..length).map(LayerMut::Bf16))
            }
            Storage::Int8(quants, scales) => {
                let each = shape.layer_scales();
                let ((before, from), (scales, own)) =
                    (quants.split_at_mut(write * length), scales.split_at_mut(write * each));
                if let Some(read) = read {
                    let scales = scales.get(read * each..(read + 1) * each);
                    widen(&shape, before.get(range(read)).unwrap_or_default(), scales.unwrap_or_default(), scratch);
                }
                let both = from.get_mut(..length).zip(own.get_mut(..each));
                (scratch, both.map(|(quants, scales)| LayerMut::Int8(quants, scales)))
            }
            #[cfg(any(test, feature = "cuda"))]
            Storage::Device(_) => (scratch, None),
        }
    }

    /// Its number in a GPU's memory, if it lies there.
    #[cfg(any(test, feature = "cuda"))]
    pub(super) fn number(&self) -> Option<u32> {
        match self.storage {
            Storage::Device(number) => Some(number),
            Storage::F32(_) | Storage::Bf16(_) | Storage::Int8(..) => None,
        }
    }

    /// One layer as f32, `[kv_heads, keys then values]`; unpacked into `scratch`, of the same size, where it is stored
    /// in another type.
    pub(super) fn layer<'a>(&'a self, layer: usize, scratch: &'a mut [f32]) -> &'a [f32] {
        let shape = self.pool.shape();
        let length = shape.layer();
        let range = layer * length..(layer + 1) * length;
        match &self.storage {
            Storage::F32(elements) => elements.get(range).unwrap_or_default(),
            Storage::Bf16(elements) => {
                if let Some(packed) = elements.get(range).filter(|packed| packed.len() == scratch.len()) {
                    packed.convert_to_f32_slice(scratch);
                }
                scratch
            }
            Storage::Int8(quants, scales) => {
                let each = shape.layer_scales();
                let scales = scales.get(layer * each..(layer + 1) * each);
                widen(shape, quants.get(range).unwrap_or_default(), scales.unwrap_or_default(), scratch);
                scratch
            }
            #[cfg(any(test, feature = "cuda"))]
            Storage::Device(_) => scratch,
        }
    }

    /// Whether [`Page::layer`] needs its scratch.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.storage, Storage::Bf16(_) | Storage::Int8(..))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let empty = Storage::F32(Box::default());
        self.pool.take_back(std::mem::replace(&mut self.storage, empty));
    }
}

/// A layer's panels as f32.
fn widen(shape: &KvShape, quants: &[i8], scales: &[f32], out: &mut [f32]) {
    let kernels = registry::best();
    let heads = out.chunks_exact_mut(shape.head()).zip(quants.chunks_exact(shape.head()));
    for ((out, quants), scales) in heads.zip(scales.as_chunks::<PANEL>().0.as_chunks::<2>().0) {
        let widened = kernels.widen(shape.attention, quants, scales, out);
        debug_assert!(widened.is_ok(), "a head's panels have its length");
    }
}
