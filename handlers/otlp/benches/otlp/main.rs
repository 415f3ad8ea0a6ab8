//! The cost of converting events to log records and sending them. The receivers accept everything:
//! the one over HTTP without decoding it, the one over gRPC reads every record.

mod receiver;

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use whalewatch_core::{Attribution, Batch, Evidence, Handler, Status};
use whalewatch_otlp::{Compression, Otlp, OtlpOptions, Protocol};
use whalewatch_testing::{
    Answer, Bench, CountingAllocator, Ran, Server, example, named, print_allocations,
};

use receiver::Receiver;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Events of four containers that take turns.
fn batch(len: usize) -> Batch {
    let containers: Vec<_> = (0..4)
        .map(|i| named(&format!("{i}").repeat(64), &format!("web-{i}"), "nginx:1", Status::Running))
        .collect();
    let inside = |turn: usize| {
        Attribution::container(Arc::clone(&containers[turn / 16 % 4]), Evidence::Cgroup)
    };
    let batch = Batch::new("procs".into(), vec![example(); len]);
    batch.with_attributions((1..).map(inside))
}

/// Handles a batch, and receives answers while more than 50,000 events are in flight.
fn deliver(bench: &mut Bench<Otlp>, batch: Batch) {
    bench.handle(batch).expect("no failure");
    let sent = |bench: &Bench<Otlp>| bench.count(|c| &c.input) - bench.count(|c| &c.output);
    while sent(bench) > 50_000 {
        bench.receive(std::time::Duration::from_secs(10)).expect("no failure");
    }
}

/// Sends to a receiver, measures the time, and prints the allocations. Returns the number of events
/// sent.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    options: &OtlpOptions,
    batch: &Batch,
) -> u64 {
    assert!(Otlp::check(options, &[]).is_empty());
    let mut bench = Bench::<Otlp>::new::<Ran>(options).expect("good options");
    deliver(&mut bench, batch.clone());
    // They include those of the receiver and of the copies of the batch.
    print_allocations(&format!("otlp/{name}"), 400 * 256, || {
        (0..400).for_each(|_| deliver(&mut bench, batch.clone()));
    });
    group.bench_function(name, |b| {
        b.iter_batched(
            || batch.clone(),
            |batch| deliver(&mut bench, black_box(batch)),
            BatchSize::SmallInput,
        );
    });
    bench.end().expect("no failure");
    assert_eq!(bench.count(|c| &c.dropped), 0);
    bench.count(|c| &c.output)
}

fn records(c: &mut Criterion) {
    let batch = batch(256);
    let mut group = c.benchmark_group("otlp");
    group.throughput(Throughput::Elements(batch.len() as u64));
    let options = |protocol, endpoint: String, compression| OtlpOptions {
        protocol,
        endpoint: Some(endpoint),
        compression,
        max_queued: 1_000_000,
        ..OtlpOptions::default()
    };
    let compressions = [(Compression::None, ""), (Compression::Gzip, "_gzip")];
    for (compression, suffix) in compressions {
        let server = Server::start(|_| Answer::status(200));
        let options = options(Protocol::Http, server.url("/v1/logs"), compression);
        measure(&mut group, &format!("http{suffix}"), &options, &batch);
    }
    for (compression, suffix) in compressions {
        let receiver = Receiver::start();
        let options = options(Protocol::Grpc, receiver.endpoint(), compression);
        let sent = measure(&mut group, &format!("grpc{suffix}"), &options, &batch);
        assert_eq!(receiver.records(), sent);
    }
    group.finish();
}

criterion_group!(benches, records);
criterion_main!(benches);
