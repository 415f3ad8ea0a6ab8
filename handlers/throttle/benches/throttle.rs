//! The cost of passing or suppressing an event.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{Attribution, Batch, ChainId, Evidence, Handler, Hosted, Mailbox, Status};
use whalewatch_testing::{Bench, CountingAllocator, Did, named, print_allocations};
use whalewatch_throttle::{Throttle, ThrottleOptions};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Events in a batch.
const EVENTS: usize = 256;

/// Returns batches whose events are 10 µs apart, each from the next of `keys` containers in turn.
fn batches(count: usize, keys: usize) -> Vec<Batch> {
    let containers: Vec<_> = (0..keys)
        .map(|i| named(&format!("{i:064x}"), &format!("web-{i}"), "nginx", Status::Running))
        .collect();
    let mut time = 1_795_441_580_000_000_000;
    let inside = |container| Attribution::container(Arc::clone(container), Evidence::Cgroup);
    let mut turns = containers.iter().map(inside).cycle();
    let mut batch = || {
        let event = |_| {
            time += 10_000;
            Did::new(time, ["/etc/passwd", "/usr/lib/libc.so.6"][time as usize / 10_000 % 2], 7)
        };
        let batch = Batch::new("t".into(), (0..EVENTS).map(event).collect());
        batch.with_attributions(turns.by_ref())
    };
    (0..count).map(|_| batch()).collect()
}

/// Measures a handler's time for each batch, and prints its allocations per event, without those
/// for the batches.
fn measure<H: Handler>(
    c: &mut Criterion,
    group: &str,
    name: &str,
    options: &H::Options,
    keys: usize,
) {
    let batches = batches(4_000, keys);
    let setup = Bench::<H>::setup(Mailbox::new(drop));
    let build = || {
        let built = Hosted::<H>::build(options, &setup, Arc::default());
        built.expect("valid options")
    };
    let handle = |hosted: &mut Hosted<H>, batch: Batch| {
        hosted.handle(ChainId::new(0), black_box(batch)).expect("no failure");
        hosted.outgoing.clear();
        hosted.timers.clear();
    };

    let mut handler = build();
    let copies = batches.clone();
    print_allocations(&format!("{group}/{name}"), 4_000 * EVENTS as u64, || {
        for batch in copies {
            handle(&mut handler, batch);
        }
    });

    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function(name, |b| {
        let (mut handler, mut next) = (build(), 0);
        b.iter_batched(
            || {
                next = (next + 1) % batches.len();
                (next == 0, batches[next].clone())
            },
            |(restart, batch)| {
                // The events' time starts again, which needs a new handler.
                if restart {
                    handler = build();
                }
                handle(&mut handler, batch);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn throttle(c: &mut Criterion) {
    // There are 100,000 events in a second.
    for (name, events, keys) in
        [("all_pass", 1_000_000, 16), ("most_suppressed", 100, 16), ("5000_keys", 5, 5_000)]
    {
        let options = ThrottleOptions { events, ..ThrottleOptions::default() };
        measure::<Throttle>(c, "throttle", name, &options, keys);
    }
}

criterion_group!(benches, throttle);
criterion_main!(benches);
