//! The heap of a command that lives for a few milliseconds and then makes way (docs/decisions/heap.md).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

/// The sizes of blocks, and their alignment, are multiples of it.
const STEP: usize = 16;
/// What is longer, or wants a higher alignment, is the C library's.
const LONGEST: usize = 1024;
/// What is asked of the C library at once, to be cut into blocks.
const CHUNK: usize = 64 << 10;

/// An allocator that gives each thread lists of free blocks by their size, without a lock, and cuts new ones from a chunk of the C
/// library's. A block that is freed is used again for its size, by the thread that has freed it; chunks are never given back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

/// What a chunk is; aligned as blocks are.
#[repr(align(16))]
#[allow(dead_code, reason = "only its layout is used")]
struct Chunk([u8; CHUNK]);

/// A free block, which holds the address of the next one of its size.
struct Free(*mut Free);

struct Pool {
    /// By their sizes: those of `STEP` bytes first.
    free: [Cell<*mut Free>; LONGEST / STEP],
    /// What is left of the chunk: as long as `left` says, from `next` on.
    next: Cell<*mut u8>,
    left: Cell<usize>,
}

thread_local! {
    // Nothing is to be dropped, so that it can be used as long as the thread runs, from its first allocation to its last.
    static POOL: Pool = const {
        Pool { free: [const { Cell::new(null_mut()) }; LONGEST / STEP], next: Cell::new(null_mut()), left: Cell::new(0) }
    };
}

impl Pool {
    /// A block of `length` bytes, a multiple of `STEP`; null where there is no memory.
    fn take(&self, length: usize) -> *mut u8 {
        let list = &self.free[length / STEP - 1];
        let block = list.get();
        if block.is_null() {
            return self.cut(length);
        }
        // SAFETY: what is in the list was freed by `give`, which has written the next one's address to it, and is nobody's.
        list.set(unsafe { (*block).0 });
        block.cast()
    }

    /// Takes a block of `length` bytes back.
    ///
    /// # Safety
    /// It is one of `take`'s of that length, and nobody's any more.
    unsafe fn give(&self, block: *mut u8, length: usize) {
        let list = &self.free[length / STEP - 1];
        let block: *mut Free = block.cast();
        // SAFETY: the block is nobody's else, at least `STEP` bytes long, and aligned to it.
        unsafe { block.write(Free(list.get())) };
        list.set(block);
    }

    fn cut(&self, length: usize) -> *mut u8 {
        if self.left.get() < length {
            // SAFETY: the layout is not empty.
            let chunk = unsafe { System.alloc(Layout::new::<Chunk>()) };
            if chunk.is_null() {
                return chunk;
            }
            self.next.set(chunk);
            self.left.set(CHUNK);
        }
        let block = self.next.get();
        self.next.set(block.wrapping_add(length));
        self.left.set(self.left.get() - length);
        block
    }

    /// Makes the block that was cut last longer, where it is that one and there is room.
    fn stretch(&self, block: *mut u8, from: usize, to: usize) -> bool {
        let last = block.wrapping_add(from) == self.next.get() && to > from && to - from <= self.left.get();
        if last {
            self.next.set(block.wrapping_add(to));
            self.left.set(self.left.get() - (to - from));
        }
        last
    }
}

/// How long the block for a layout is; none where it is the C library's.
fn length(layout: Layout) -> Option<usize> {
    (layout.size() <= LONGEST && layout.align() <= STEP).then(|| layout.size().next_multiple_of(STEP))
}

// SAFETY: a block is `STEP`-aligned as the chunk and each length are, as long as the layout asks or longer, and nobody else's: it
// was cut from a chunk once, and comes back by `dealloc` alone. Which of the two heaps it is from follows from the layout, which the
// caller has to repeat. Lists are of one thread; a block that another one frees goes to that one's. Nothing here panics or allocates
// by itself: the indices of lists are below `LONGEST / STEP`, as no layout is empty.
unsafe impl GlobalAlloc for Heap {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match length(layout) {
            Some(length) => POOL.with(|pool| pool.take(length)),
            // SAFETY: as the caller's.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match length(layout) {
            // SAFETY: the caller's block is one of `alloc` for the same layout.
            Some(length) => POOL.with(|pool| unsafe { pool.give(block, length) }),
            // SAFETY: as the caller's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(length) = length(layout) else {
            // SAFETY: as the caller's.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let block = POOL.with(|pool| pool.take(length));
        if !block.is_null() {
            // SAFETY: the block has that length.
            unsafe { block.write_bytes(0, length) };
        }
        block
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller says that `size`, rounded up to the alignment, is no overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let (from, to) = (length(layout), length(wanted));
        match (from, to) {
            // SAFETY: as the caller's: both are the C library's.
            (None, None) => return unsafe { System.realloc(block, layout, size) },
            (Some(from), Some(to)) if from == to || POOL.with(|pool| pool.stretch(block, from, to)) => return block,
            _ => {}
        }
        // SAFETY: the new block is another one, as long as `size`; the old one is the caller's, and comes back as he got it.
        unsafe {
            let new = self.alloc(wanted);
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a layout")
    }

    /// A block with `byte` in it all over.
    fn filled(layout: Layout, byte: u8) -> *mut u8 {
        // SAFETY: no layout of the tests is empty; the block is as long as its layout.
        unsafe {
            let block = Heap.alloc(layout);
            assert!(!block.is_null() && block.addr().is_multiple_of(layout.align()), "{layout:?}: {block:?}");
            block.write_bytes(byte, layout.size());
            block
        }
    }

    fn holds(block: *mut u8, length: usize, byte: u8) -> bool {
        // SAFETY: the caller's block has that many bytes, and is written.
        unsafe { std::slice::from_raw_parts(block, length) }.iter().all(|found| *found == byte)
    }

    #[test]
    fn no_two_blocks_share_a_byte_and_each_is_aligned() {
        let sizes = [1, 8, 15, 16, 17, 64, 1000, 1023, 1024, 1025, 5000, 100_000];
        let layouts: Vec<Layout> =
            [1, 8, 16, 32, 4096].iter().flat_map(|align| sizes.map(|size| layout(size, *align))).collect();
        for round in 0..3 {
            let number = |index: usize| (index * 3 + round) as u8;
            let blocks: Vec<_> = (0..).zip(&layouts).map(|(index, layout)| filled(*layout, number(index))).collect();
            for ((index, layout), block) in (0..).zip(&layouts).zip(blocks) {
                assert!(holds(block, layout.size(), number(index)), "{layout:?}");
                // SAFETY: it was allocated with this layout.
                unsafe { Heap.dealloc(block, *layout) };
            }
        }
    }

    #[test]
    fn a_block_that_is_freed_is_used_again_for_its_size() {
        let (first, other) = (filled(layout(40, 8), 1), filled(layout(40, 8), 2));
        // SAFETY: it was allocated with this layout.
        unsafe { Heap.dealloc(first, layout(40, 8)) };
        assert_eq!(filled(layout(33, 1), 3), first);
        assert!(holds(other, 40, 2));
    }

    #[test]
    fn a_block_keeps_its_content_as_it_grows_and_shrinks() {
        let sizes = [10, 16, 17, 200, 40, 1024, 1025, 70_000, 1024, 3];
        let mut block = filled(layout(sizes[0], 8), 7);
        let between = filled(layout(24, 8), 9);
        for pair in sizes.windows(2) {
            // SAFETY: its layout is that of the last size.
            block = unsafe { Heap.realloc(block, layout(pair[0], 8), pair[1]) };
            assert!(holds(block, pair[0].min(pair[1]), 7), "{pair:?}");
            // SAFETY: the block is as long as the new size.
            unsafe { block.write_bytes(7, pair[1]) };
        }
        assert!(holds(between, 24, 9));
    }

    #[test]
    fn the_last_block_grows_where_it_is_and_no_other_does() {
        // In a thread whose lists are empty.
        let alone = || {
            let (first, last) = (filled(layout(128, 8), 1), filled(layout(128, 8), 2));
            // SAFETY: both have the layout that is named.
            let grow = |block| unsafe { Heap.realloc(block, layout(128, 8), 256) };
            let (grown, moved) = (grow(last), grow(first));
            assert_eq!(grown, last);
            assert_ne!(moved, first);
            assert!(holds(moved, 128, 1) && holds(grown, 128, 2));
        };
        std::thread::scope(|scope| scope.spawn(alone).join()).expect("it ends");
    }

    #[test]
    fn memory_that_was_used_is_zero_when_that_is_asked_for() {
        let used = filled(layout(300, 8), 0xff);
        // SAFETY: it was allocated with this layout; the new one is as long.
        let zeroed = unsafe {
            Heap.dealloc(used, layout(300, 8));
            Heap.alloc_zeroed(layout(300, 8))
        };
        assert_eq!(zeroed, used);
        assert!(holds(zeroed, 300, 0));
    }

    #[test]
    fn a_block_of_another_thread_is_freed_here() {
        let address = std::thread::spawn(|| filled(layout(96, 8), 5).expose_provenance()).join().expect("it ends");
        let block = std::ptr::with_exposed_provenance_mut(address);
        assert!(holds(block, 96, 5));
        // SAFETY: it was allocated with this layout, and the thread that had it is gone.
        unsafe { Heap.dealloc(block, layout(96, 8)) };
        assert_eq!(filled(layout(96, 8), 6), block);
    }
}
