//! What it costs to make bodies of events and send them; the receiver takes everything and costs little.

#![expect(unsafe_code, reason = "counting allocations takes an allocator, whose trait is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::Batch;
use whalewatch_kit::testing::{Answer, Bench, Ran, Server, example};
use whalewatch_webhook::{Webhook, WebhookOptions};

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

/// Brings a batch and waits until all of it has been answered.
fn bring(bench: &mut Bench<Webhook>, batch: Batch) {
    bench.handle(batch).expect("no failure");
    while bench.count(|c| &c.input) > bench.count(|c| &c.output) {
        bench.receive(std::time::Duration::from_secs(10)).expect("no failure");
    }
}

fn requests(c: &mut Criterion) {
    let batch = Batch::new("procs".into(), vec![example(); 64]);
    let mut group = c.benchmark_group("webhook");
    group.throughput(Throughput::Elements(batch.len() as u64));
    let template = r#"{{"text":"{kind} by {process.comm}","pid":{process.pid|null}}}"#;
    for (name, body) in [("whole", None), ("template", Some(template.to_owned()))] {
        let server = Server::start(|_| Answer::status(200));
        let url = server.url("/");
        let options = WebhookOptions { body, max_per_second: 0, ..WebhookOptions::to(url) };
        let mut bench = Bench::<Webhook>::new::<Ran>(&options).expect("good options");
        bring(&mut bench, batch.clone());
        let before = ALLOCATIONS.load(Relaxed);
        for _ in 0..20 {
            bring(&mut bench, batch.clone());
        }
        let allocations = ALLOCATIONS.load(Relaxed) - before;
        // Those of the server are among them.
        println!("{name}: {:.1} allocations an event", allocations as f64 / (20.0 * 64.0));
        group.bench_function(name, |b| {
            b.iter_batched(
                || batch.clone(),
                |batch| bring(&mut bench, black_box(batch)),
                BatchSize::SmallInput,
            );
        });
    }
    // What a full queue costs: the receiver hangs.
    let server = Server::start(|_| Answer::Hang);
    let options = WebhookOptions { max_queued: 1, ..WebhookOptions::to(server.url("/")) };
    let mut bench = Bench::<Webhook>::new::<Ran>(&options).expect("good options");
    group.bench_function("no_room", |b| {
        b.iter_batched(
            || batch.clone(),
            |batch| bench.handle(black_box(batch)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
