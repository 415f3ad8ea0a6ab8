//! Counts allocations, in benchmarks and in tests of code that must not allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with a count of the allocations of all threads.
///
/// A program that calls [`allocations`] must use it:
///
/// ```
/// use whalewatch_testing::{CountingAllocator, allocations};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator;
///
/// assert!(allocations(|| drop(Box::new(1))) <= 1);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CountingAllocator;

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: each call is passed unchanged to the system's allocator; counting touches no memory but
// the counter.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the same contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Returns the number of allocations and reallocations of all threads while `work` runs.
///
/// # Panics
/// If [`CountingAllocator`] is not the program's allocator: every count would be 0.
pub fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Relaxed);
    drop(black_box(Box::new(0_u8)));
    let before_work = ALLOCATIONS.load(Relaxed);
    assert_ne!(before, before_work, "`CountingAllocator` is not the `#[global_allocator]`");
    work();
    ALLOCATIONS.load(Relaxed) - before_work
}

/// Prints the number of allocations for each event, if `work` handles this many events.
///
/// # Panics
/// As [`allocations`].
pub fn print_allocations(name: &str, events: u64, work: impl FnOnce()) {
    let count = allocations(work) as f64 / events as f64;
    println!("{name}: {count:.5} allocations an event");
}
