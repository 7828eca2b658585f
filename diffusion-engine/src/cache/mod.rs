//! Keys and values of all requests of an engine, in pages of 32 positions: [`page`] (how one lies in memory), [`places`]
//! (one layer of them, to be written by several threads), [`pool`] (how many there may be, and who holds them),
//! [`kv`] (one request's pages), [`tree`] (pages that requests share), [`prefixes`] (who gets which, and what is
//! thrown out for it).
//!
//! ```text
//! positions   0 ........... published ........ committed ............ reserved
//! pages       in the tree, shared  | own, final    | own, scratch of the last forward, or not yet used
//! ```
//! Commit rule: K/V of a token is committed only from a forward whose input was that token's final value and the
//! final values of all tokens it sees. The lane says so; the cache only counts. Must never hand out more than it has,
//! write to a page that another request may read, or share anything on less than equal tokens from position 0.

mod kv;
mod page;
mod places;
mod pool;
mod prefixes;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use kv::KvCache;
pub(crate) use places::{Place, Places};
pub(crate) use pool::Pool;
pub(crate) use prefixes::{Need, Pages, PrefixCache};
pub(crate) use tree::Sharing;

use half::bf16;
use weir_kernels::{AttentionShape, PANEL};

use crate::options::KvType;

/// What every cache of a model has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvShape {
    pub(crate) layers: usize,
    pub(crate) attention: AttentionShape,
}

impl KvShape {
    /// Elements of one head's keys and values in a page.
    fn head(&self) -> usize {
        self.attention.key_panel() + self.attention.value_panel()
    }

    /// Elements of one layer in a page.
    fn layer(&self) -> usize {
        self.head() * self.attention.kv_heads
    }

    /// Elements of a page.
    fn page(&self) -> usize {
        self.layer() * self.layers
    }

    /// Scales of one layer of a page in 8 bits: of each head those of 32 positions' keys and of their values.
    fn layer_scales(&self) -> usize {
        self.attention.kv_heads * 2 * PANEL
    }

    /// Scales of a page in 8 bits.
    fn scales(&self) -> usize {
        self.layer_scales() * self.layers
    }

    /// Bytes of a page.
    pub(crate) fn page_bytes(&self, kind: KvType) -> usize {
        match kind {
            KvType::F32 => self.page() * size_of::<f32>(),
            KvType::Bf16 => self.page() * size_of::<bf16>(),
            KvType::Int8 => self.page() + self.scales() * size_of::<f32>(),
        }
    }
}

/// Pages that hold `positions` positions.
pub(crate) fn pages_for(positions: usize) -> usize {
    positions.div_ceil(PANEL)
}
