//! What it costs to make log records of events and hand them over; the receiver takes everything and costs little.

#![expect(unsafe_code, reason = "counting allocations takes an allocator, whose trait is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{Attribution, Batch, Handler, How, Status};
use whalewatch_kit::testing::{Answer, Bench, Ran, Server, example, named};
use whalewatch_otlp::{Compression, Otlp, OtlpOptions, Protocol};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is done by the system's allocator, to whose contract callers keep as they would to its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Events of four containers that take turns.
fn batch(len: usize) -> Batch {
    let containers: Vec<_> = (0..4)
        .map(|i| named(&format!("{i}").repeat(64), &format!("web-{i}"), "nginx:1", Status::Running))
        .collect();
    let mut batch = Batch::new("procs".into(), vec![example(); len]);
    let mut turn = 0;
    batch.attribute(|_| {
        turn += 1;
        Attribution::container(Arc::clone(&containers[turn / 16 % 4]), How::Cgroup)
    });
    batch
}

/// Brings a batch, and what was answered meanwhile; waits while too much is on its way.
fn bring(bench: &mut Bench<Otlp>, batch: Batch) {
    bench.handle(batch).expect("no failure");
    let sent = |bench: &Bench<Otlp>| bench.count(|c| &c.input) - bench.count(|c| &c.output);
    while sent(bench) > 50_000 {
        bench.receive(std::time::Duration::from_secs(10)).expect("no failure");
    }
}

fn records(c: &mut Criterion) {
    let batch = batch(256);
    let mut group = c.benchmark_group("otlp");
    group.throughput(Throughput::Elements(batch.len() as u64));
    for (name, compression) in [("http", Compression::None), ("http_gzip", Compression::Gzip)] {
        let server = Server::start(|_| Answer::status(200));
        let options = OtlpOptions {
            protocol: Protocol::Http,
            endpoint: Some(server.url("/v1/logs")),
            compression,
            max_queued: 1_000_000,
            ..OtlpOptions::default()
        };
        assert!(Otlp::check(&options, &[]).is_empty());
        let mut bench = Bench::<Otlp>::new::<Ran>(&options).expect("good options");
        bring(&mut bench, batch.clone());
        let before = ALLOCATIONS.load(Relaxed);
        for _ in 0..400 {
            bring(&mut bench, batch.clone());
        }
        let allocations = ALLOCATIONS.load(Relaxed) - before;
        // Those of the server and of the copies of the batch are among them.
        println!("{name}: {:.3} allocations an event", allocations as f64 / (400.0 * 256.0));
        group.bench_function(name, |b| {
            b.iter_batched(
                || batch.clone(),
                |batch| bring(&mut bench, black_box(batch)),
                BatchSize::SmallInput,
            );
        });
        bench.end().expect("no failure");
        assert_eq!(bench.count(|c| &c.dropped), 0);
    }
    group.finish();
}

criterion_group!(benches, records);
criterion_main!(benches);
