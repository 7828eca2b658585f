//! One request's pages: those it shares come first, its own follow, up to the positions it may ever need. Must never
//! write to a page that is shared, nor use more pages of its own than its lease has.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use weir_kernels::{KernelError, KvPanel, PANEL, Strided};

use super::page::Page;
use super::places::{Layer, Place, pieces};
use super::pool::{Lease, Pool};
use super::tree::{NodeId, Sharing};
use super::{KvShape, pages_for};
use crate::options::KvType;

/// One request's keys and values. Dropping it gives its own pages back and lets go of the shared ones.
pub(crate) struct KvCache {
    /// The first `published` are in the tree; each of the others is held here alone.
    pub(super) pages: Vec<Arc<Page>>,
    /// Last of the shared pages in the tree; `None` where nothing is shared yet.
    pub(super) shared: Option<NodeId>,
    pub(super) published: usize,
    /// Pages of its own, used or not yet.
    pub(super) lease: Lease,
    /// The tokens at the committed positions.
    tokens: Vec<u32>,
    /// Positions that were committed when the request came.
    cached: usize,
    /// `None`: takes nothing from the tree and gives nothing to it.
    pub(super) sharing: Option<Sharing>,
}

impl KvCache {
    /// A cache that starts with `pages` and their `tokens` out of the tree, the last of them at `shared`.
    pub(super) fn new(
        lease: Lease,
        sharing: Option<Sharing>,
        shared: Option<NodeId>,
        pages: Vec<Arc<Page>>,
        tokens: &[u32],
    ) -> Self {
        let published = pages.len();
        KvCache { pages, shared, published, lease, tokens: tokens.to_vec(), cached: tokens.len(), sharing }
    }

    /// Caches of `pages` pages each, out of one pool of a GPU.
    #[cfg(test)]
    pub(crate) fn on_device<const N: usize>(shape: KvShape, pages: [usize; N]) -> [Self; N] {
        let pool = Pool::on_device(shape, KvType::F32, pages.iter().sum());
        pages.map(|pages| KvCache::new(pool.lease(pages).expect("counted"), None, None, Vec::new(), &[]))
    }

    /// A cache of its own for `positions` positions, for whoever runs one request and no engine.
    pub(crate) fn alone(shape: KvShape, kind: KvType, positions: usize) -> Self {
        let lease = Pool::leased(shape, kind, pages_for(positions));
        KvCache::new(lease, None, None, Vec::new(), &[])
    }

    /// Positions that are final.
    pub(crate) fn committed(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens there.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many positions were final before the request's first forward.
    pub(crate) fn cached(&self) -> usize {
        self.cached
    }

    /// Makes the positions of the next `tokens` final.
    pub(crate) fn commit(&mut self, tokens: &[u32]) {
        let room = (self.pages.len() * PANEL).saturating_sub(self.tokens.len());
        debug_assert!(tokens.len() <= room, "{} tokens committed, {room} were fed", tokens.len());
        self.tokens.extend(tokens.iter().take(room));
    }

    /// Takes back what lies from position `end` on: the tokens there are open to edits again. What others share stays.
    pub(crate) fn rewind(&mut self, end: usize) {
        debug_assert!(end >= self.published * PANEL, "position {end} is shared");
        self.tokens.truncate(end.max(self.published * PANEL));
    }

    /// Makes room for positions below `end`, of which the uncommitted are all written, layer by layer, before that layer
    /// of them is read.
    ///
    /// # Errors
    /// When the request was promised less.
    pub(crate) fn reserve(&mut self, end: usize) -> Result<(), KernelError> {
        let promised = self.published + self.lease.pages();
        if pages_for(end) > promised {
            return Err(KernelError { what: "pages", expected: promised, got: pages_for(end) });
        }
        while self.pages.len() * PANEL < end {
            let written = (self.pages.len() + 1) * PANEL <= end;
            self.pages.push(Arc::new(self.lease.page(written)));
        }
        Ok(())
    }

    /// Writes `keys` and `values`, a row of `[kv_heads, head_dim]` for each, of reserved positions behind the committed ones.
    pub(crate) fn write(&mut self, layer: usize, positions: Range<usize>, keys: Strided<'_>, values: Strided<'_>) {
        debug_assert!(positions.start >= self.tokens.len(), "position {} is final", positions.start);
        let shape = *self.lease.pool().shape();
        for (index, row, lanes) in pieces(positions) {
            let page = self.pages.get_mut(index).filter(|_| index >= self.published).and_then(Arc::get_mut);
            let place = page.and_then(|page| page.layers(None, layer).1);
            debug_assert!(place.is_some(), "page {index} is shared or missing");
            if let Some(mut place) = place {
                place.put(&shape, lanes, [keys.skip(row), values.skip(row)]);
            }
        }
    }

    /// Adds to `panels` those of layer `read`, if asked for, as [`KvCache::panels`] does, and to `places` those of a later
    /// layer, to write to meanwhile.
    pub(crate) fn layers<'a>(
        &'a mut self,
        read: Option<usize>,
        write: usize,
        end: usize,
        (panels, places): (&mut Vec<KvPanel<'a>>, &mut Vec<Place<'a>>),
    ) {
        let shape = *self.lease.pool().shape();
        let count = pages_for(end).min(self.pages.len());
        let mut panels = read.map(|_| Panels::new(shape, count, panels));
        for (index, page) in self.pages.iter_mut().take(count).enumerate() {
            // One that others may hold, too, is read only.
            let (layer, place) = if index < self.published {
                (read.and_then(|layer| page.layer(layer)), None)
            } else {
                Arc::get_mut(page).map_or((None, None), |page| page.layers(read, write))
            };
            places.push(place.map(Mutex::new));
            if let Some(panels) = &mut panels {
                panels.put(index, layer);
            }
        }
    }

    /// The numbers of the pages that hold positions below `end`, where they lie in a GPU's memory.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn page_numbers(&self, end: usize) -> Vec<u32> {
        self.pages.iter().take(pages_for(end)).filter_map(|page| page.number()).collect()
    }

    /// Adds to `panels` those of one layer that hold positions below `end`, `[kv_heads, n]`.
    pub(crate) fn panels<'a>(&'a self, layer: usize, end: usize, panels: &mut Vec<KvPanel<'a>>) {
        let shape = *self.lease.pool().shape();
        let used = self.pages.get(..pages_for(end)).unwrap_or(&self.pages);
        let mut panels = Panels::new(shape, used.len(), panels);
        for (index, page) in used.iter().enumerate() {
            panels.put(index, page.layer(layer));
        }
    }
}

/// The end of a list of panels: one lane's, `[kv_heads, count]`.
struct Panels<'l, 'a> {
    shape: KvShape,
    count: usize,
    own: &'l mut [KvPanel<'a>],
}

impl<'l, 'a> Panels<'l, 'a> {
    fn new(shape: KvShape, count: usize, panels: &'l mut Vec<KvPanel<'a>>) -> Self {
        let first = panels.len();
        panels.resize(first + shape.attention.kv_heads * count, KvPanel::F32 { keys: &[], values: &[] });
        Panels { shape, count, own: panels.get_mut(first..).unwrap_or_default() }
    }

    /// Puts in page number `index`.
    fn put(&mut self, index: usize, layer: Option<Layer<'a>>) {
        let own = self.own.iter_mut().skip(index).step_by(self.count);
        let heads = layer.into_iter().flat_map(|layer| layer.heads(&self.shape));
        own.zip(heads).for_each(|(panel, head)| *panel = head);
    }
}
