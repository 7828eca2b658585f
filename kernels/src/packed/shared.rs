//! A place that several threads write, each its own part of it. Must never be used where two parts overlap.

use std::marker::PhantomData;

/// Elements that are handed out by index to threads which promise not to overlap.
pub(super) struct Shared<'a, T> {
    at: *mut T,
    length: usize,
    lives: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable slice whose users promise disjoint parts; sending those to other threads needs T: Send.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Shared { at: slice.as_mut_ptr(), length: slice.len(), lives: PhantomData }
    }

    /// Where element `index` lies, for loops that write with a stride; whoever uses it promises what [`Shared::part`] asks.
    pub(super) fn at(&self, index: usize) -> *mut T {
        debug_assert!(index < self.length, "element {index} of {}", self.length);
        self.at.wrapping_add(index)
    }

    /// `length` elements from `from` on; empty where they would not lie inside.
    ///
    /// # Safety
    /// No other part that overlaps with it is in use.
    #[expect(clippy::mut_from_ref, reason = "disjoint parts are the caller's promise")]
    pub(super) unsafe fn part(&self, from: usize, length: usize) -> &mut [T] {
        if from.checked_add(length).is_none_or(|end| end > self.length) {
            debug_assert!(false, "{length} elements from {from} of {}", self.length);
            return &mut [];
        }
        // SAFETY: inside the slice; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(from), length) }
    }
}
