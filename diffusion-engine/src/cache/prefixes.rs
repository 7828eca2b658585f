//! Who gets which pages: a request that joins takes what the tree has of its prompt and a lease on the rest, for which
//! the longest unused pages are thrown out; what it commits goes into the tree at once, for others. Must never throw
//! out at any other time: a request that was admitted has all it needs.

use std::sync::Arc;

use weir_kernels::PANEL;

use super::kv::KvCache;
use super::pages_for;
use super::pool::Pool;
use super::tree::{Sharing, Tree};

/// What a request needs of the cache.
#[derive(Debug, Clone)]
pub(crate) struct Need<'a> {
    /// Tokens whose K/V it could take from others. At least one token must be left to feed.
    pub(crate) prefix: &'a [u32],
    /// Positions it will have at most.
    pub(crate) positions: usize,
    /// `None`: with nobody.
    pub(crate) sharing: Option<&'a Sharing>,
}

/// Where the pages are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pages {
    pub(crate) free: usize,
    /// In the tree, used or not.
    pub(crate) shared: usize,
    /// Thrown out of it so far.
    pub(crate) evicted: u64,
}

/// All K/V of an engine.
pub(crate) struct PrefixCache {
    pool: Arc<Pool>,
    tree: Tree,
}

impl PrefixCache {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        PrefixCache { pool, tree: Tree::default() }
    }

    /// The cache of a request, with room for all it will ever need. `None`: not now, since others hold the pages; a
    /// request that needs no more than [`Pool::total`] fits once they are gone.
    pub(crate) fn admit(&mut self, need: &Need<'_>) -> Option<KvCache> {
        let (mut at, mut pages) = (None, Vec::new());
        if let Some(sharing) = need.sharing {
            for tokens in need.prefix.as_chunks::<PANEL>().0 {
                let Some((node, page)) = self.tree.step(at, sharing, tokens) else { break };
                at = Some(node);
                pages.push(page);
            }
        }
        // The pages taken above are in use from here on, so they cannot be thrown out for the others.
        let own = pages_for(need.positions).saturating_sub(pages.len());
        // Nothing is thrown out for a request that would have to wait all the same.
        let missing = own.saturating_sub(self.pool.free());
        if missing > 0 && self.tree.idle() < missing {
            return None;
        }
        let lease = loop {
            match self.pool.lease(own) {
                Some(lease) => break lease,
                None if self.tree.evict() => {}
                None => return None,
            }
        };
        let tokens = need.prefix.get(..pages.len() * PANEL).unwrap_or_default();
        Some(KvCache::new(lease, need.sharing.cloned(), at, pages, tokens))
    }

    /// Shares the pages of `cache` that are final as a whole, up to position `end`: behind it tokens may change again.
    pub(crate) fn publish(&mut self, cache: &mut KvCache, end: usize) {
        let Some(sharing) = cache.sharing.clone() else { return };
        let end = end.min(cache.committed());
        while (cache.published + 1) * PANEL <= end {
            let at = cache.published;
            let Some(tokens) = cache.tokens().as_chunks::<PANEL>().0.get(at).copied() else { return };
            let Some(lease) = cache.lease.split(1) else { return };
            let Some(page) = cache.pages.get_mut(at) else { return };
            let node = match self.tree.step(cache.shared, &sharing, &tokens) {
                Some((node, theirs)) => {
                    // Somebody was faster; the same tokens gave the same K/V, to the bit.
                    *page = theirs;
                    node
                }
                None => self.tree.add(cache.shared, &sharing, &tokens, (Arc::clone(page), lease)),
            };
            cache.shared = Some(node);
            cache.published += 1;
        }
    }

    /// Where the pages are now.
    pub(crate) fn pages(&self) -> Pages {
        Pages { free: self.pool.free(), shared: self.tree.len(), evicted: self.tree.evicted }
    }

    /// Whether every page is accounted for when these are all requests there are: free, theirs, or in the tree.
    pub(crate) fn adds_up<'a>(&self, requests: impl Iterator<Item = &'a KvCache>) -> bool {
        let mut held = 0;
        for request in requests {
            held += request.lease.pages();
            let own = request.pages.len() - request.published;
            let alone = request.pages.iter().skip(request.published).all(|page| Arc::strong_count(page) == 1);
            let rooted = request.shared.is_none_or(|node| self.tree.holds(node));
            if own > request.lease.pages() || !alone || !rooted || request.shared.is_some() != (request.published > 0) {
                return false;
            }
        }
        self.pool.free() + held + self.tree.leased() == self.pool.total()
    }
}
