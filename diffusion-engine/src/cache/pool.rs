//! How many pages an engine may have, and the leases that divide them up: every page is free, held by a request, or in
//! the tree, because each belongs to exactly one lease or to none. Memory is taken when a page is first used and kept
//! for the next. Must never give back by hand: dropping a lease or a page does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::KvShape;
use super::page::{Page, Storage};
use crate::options::KvType;

/// All pages of an engine.
pub(crate) struct Pool {
    shape: KvShape,
    kind: KvType,
    total: usize,
    /// Whether the pages lie in a GPU's memory; here they are numbers then.
    #[cfg(any(test, feature = "cuda"))]
    on_device: bool,
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// Memory of pages that were used and are free now.
    spare: Vec<Storage>,
    /// Pages that were made so far.
    #[cfg(any(test, feature = "cuda"))]
    made: u32,
}

impl State {
    fn new(free: usize) -> Mutex<Self> {
        Mutex::new(State {
            free,
            spare: Vec::new(),
            #[cfg(any(test, feature = "cuda"))]
            made: 0,
        })
    }
}

impl Pool {
    pub(crate) fn new(shape: KvShape, kind: KvType, total: usize) -> Arc<Self> {
        Arc::new(Pool {
            shape,
            kind,
            total,
            #[cfg(any(test, feature = "cuda"))]
            on_device: false,
            state: State::new(total),
        })
    }

    /// A pool whose pages are numbers below `total`, for a GPU that has the memory.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn on_device(shape: KvShape, kind: KvType, total: usize) -> Arc<Self> {
        Arc::new(Pool { shape, kind, total, on_device: true, state: State::new(total) })
    }

    /// A pool of `pages` pages and the lease on all of them.
    pub(super) fn leased(shape: KvShape, kind: KvType, pages: usize) -> Lease {
        let pool = Pool::new(shape, kind, pages);
        pool.state().free = 0;
        Lease { pool, pages }
    }

    pub(super) fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Pages there may be.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Pages that nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.state().free
    }

    /// The right to `pages` pages, if so many are free.
    pub(super) fn lease(self: &Arc<Self>, pages: usize) -> Option<Lease> {
        let mut state = self.state();
        state.free = state.free.checked_sub(pages)?;
        Some(Lease { pool: Arc::clone(self), pages })
    }

    pub(super) fn take_back(&self, storage: Storage) {
        self.state().spare.push(storage);
    }

    fn fresh(&self) -> Storage {
        #[cfg(any(test, feature = "cuda"))]
        if self.on_device {
            let mut state = self.state();
            state.made += 1;
            return Storage::Device(state.made - 1);
        }
        Storage::zeros(&self.shape, self.kind)
    }

    /// A panic elsewhere cannot leave the state half changed: every change is one assignment or push.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to a number of pages, given back when dropped.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    pages: usize,
}

impl Lease {
    /// How many.
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// A part of the lease as one of its own.
    pub(super) fn split(&mut self, pages: usize) -> Option<Lease> {
        self.pages = self.pages.checked_sub(pages)?;
        Some(Lease { pool: Arc::clone(&self.pool), pages })
    }

    /// A page to fill: an empty one, unless all of it will be `written` before any of it is read. The holder must not
    /// have more of them than [`Lease::pages`].
    pub(super) fn page(&self, written: bool) -> Page {
        let spare = self.pool.state().spare.pop();
        let storage = match spare {
            Some(mut storage) => {
                if !written {
                    storage.clear();
                }
                storage
            }
            None => self.pool.fresh(),
        };
        Page::new(storage, Arc::clone(&self.pool))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.state().free += self.pages;
    }
}
