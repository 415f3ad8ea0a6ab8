//! What an event costs before the network: made into a record, and brought through the spool.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]
#![expect(clippy::print_stdout, reason = "allocations are printed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{Attribution, Batch, Container, How, Runtime};
use whalewatch_kit::testing::example;
use whalewatch_nats::measure::Path;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const EVENTS: usize = 256;

fn batch() -> Batch {
    let container = Arc::new(Container {
        name: Some("web-1".into()),
        ..Container::bare("e0d4".repeat(16), Runtime::Docker)
    });
    let mut batch = Batch::new("procs".into(), vec![example(); EVENTS]);
    batch.attribute(|_| Attribution::container(Arc::clone(&container), How::Cgroup));
    batch
}

fn nats(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut path = Path::new(dir.path(), "whalewatch.{host.name}.{container.name|-}.{kind}");
    let batch = batch();
    let mut group = c.benchmark_group("nats");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("encode", |b| b.iter(|| path.encode(black_box(&batch))));
    group.bench_function("encode_and_spool", |b| b.iter(|| path.pass(black_box(&batch))));
    group.finish();

    let rounds = 100;
    let allocations = |work: &mut dyn FnMut() -> u64| {
        let before = ALLOCATIONS.load(Relaxed);
        (0..rounds).for_each(|_| {
            black_box(work());
        });
        (ALLOCATIONS.load(Relaxed) - before) as f64 / (rounds * EVENTS) as f64
    };
    let encode = allocations(&mut || path.encode(&batch) as u64);
    println!("nats/encode: {encode:.3} allocations an event");
    let pass = allocations(&mut || path.pass(&batch));
    println!("nats/encode_and_spool: {pass:.3} allocations an event");
}

criterion_group!(benches, nats);
criterion_main!(benches);
