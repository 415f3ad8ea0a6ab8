//! Allocations are counted. This is a single test because the count covers all threads.

use std::hint::black_box;
use std::thread;

use whalewatch_testing::{CountingAllocator, allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn allocations_of_every_kind_and_thread_are_counted() {
    // The test harness may allocate meanwhile, so counts have some tolerance.
    let mut grown: Vec<u64> = Vec::with_capacity(1);
    for (name, least, work) in [
        ("one", 1, (&mut || drop(black_box(Box::new(1)))) as &mut dyn FnMut()),
        ("zeroed", 1, &mut || drop(black_box(vec![0_u8; 4096]))),
        ("grown", 1, &mut || black_box(&mut grown).reserve(1_000)),
        ("a thousand", 1_000, &mut || (0..1_000).for_each(|i| drop(black_box(Box::new(i))))),
        ("another thread's", 1_000, &mut || {
            let work = || (0..1_000).for_each(|i| drop(black_box(Box::new(i))));
            thread::scope(|scope| drop(scope.spawn(work).join()));
        }),
    ] {
        let count = allocations(work);
        assert!((least..least + 100).contains(&count), "{name}: {count}");
    }
    let none = (0..10).map(|_| allocations(|| _ = black_box(1))).min();
    assert_eq!(none, Some(0));
}
