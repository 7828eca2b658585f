//! 32 positions of all layers in one piece of memory, in the panels the attention loop reads. Must never be read
//! where it was not written: a page that is not filled at once is zero, because attention multiplies what it does not see
//! by zero, and zero times NaN is NaN.

use std::sync::Arc;

use half::bf16;

use super::KvShape;
use super::places::{Layer, LayerMut};
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

    /// Layer `read`, if asked for, and the later layer `write` to write to.
    pub(super) fn layers(&mut self, read: Option<usize>, write: usize) -> (Option<Layer<'_>>, Option<LayerMut<'_>>) {
        let shape = *self.pool.shape();
        let (length, scales) = (shape.layer(), shape.layer_scales());
        match &mut self.storage {
            Storage::F32(elements) => {
                let (before, from) = elements.split_at_mut(write * length);
                let read = read.and_then(|layer| of_layer(before, layer, length));
                (read.map(Layer::F32), from.get_mut(..length).map(LayerMut::F32))
            }
            Storage::Bf16(elements) => {
                let (before, from) = elements.split_at_mut(write * length);
                let read = read.and_then(|layer| of_layer(before, layer, length));
                (read.map(Layer::Bf16), from.get_mut(..length).map(LayerMut::Bf16))
            }
            Storage::Int8(quants, steps) => {
                let (before, from) = quants.split_at_mut(write * length);
                let (steps_before, steps) = steps.split_at_mut(write * scales);
                let read =
                    read.and_then(|layer| of_layer(before, layer, length).zip(of_layer(steps_before, layer, scales)));
                let write = from.get_mut(..length).zip(steps.get_mut(..scales));
                (read.map(Layer::int8), write.map(|(quants, scales)| LayerMut::Int8(quants, scales)))
            }
            #[cfg(any(test, feature = "cuda"))]
            Storage::Device(_) => (None, None),
        }
    }

    /// One layer.
    pub(super) fn layer(&self, layer: usize) -> Option<Layer<'_>> {
        let shape = self.pool.shape();
        let (length, scales) = (shape.layer(), shape.layer_scales());
        match &self.storage {
            Storage::F32(elements) => of_layer(elements, layer, length).map(Layer::F32),
            Storage::Bf16(elements) => of_layer(elements, layer, length).map(Layer::Bf16),
            Storage::Int8(quants, steps) => {
                of_layer(quants, layer, length).zip(of_layer(steps, layer, scales)).map(Layer::int8)
            }
            #[cfg(any(test, feature = "cuda"))]
            Storage::Device(_) => None,
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
}

impl Drop for Page {
    fn drop(&mut self) {
        let empty = Storage::F32(Box::default());
        self.pool.take_back(std::mem::replace(&mut self.storage, empty));
    }
}

/// A layer's numbers, `length` of them.
fn of_layer<T>(numbers: &[T], layer: usize, length: usize) -> Option<&[T]> {
    numbers.get(layer * length..(layer + 1) * length)
}
