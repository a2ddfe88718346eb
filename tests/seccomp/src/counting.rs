//! An allocator that counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, with a count for each thread.
pub struct Counting;

// SAFETY: everything is done by the system's allocator, by the same contract; the count is a thread's own, without a
// destructor, and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set((COUNT.get().0 + 1, COUNT.get().1 + layout.size() as u64));
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How many allocations `work` makes in this thread, and their bytes, where [`Counting`] is the global allocator.
pub fn counted<T>(work: impl FnOnce() -> T) -> (T, u64, u64) {
    let before = COUNT.get();
    let result = work();
    let after = COUNT.get();
    (result, after.0 - before.0, after.1 - before.1)
}
