//! The cost of writing bodies and sending them to a fast receiver that accepts everything.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::Batch;
use whalewatch_testing::{
    Answer, Bench, CountingAllocator, Ran, Server, example, print_allocations,
};
use whalewatch_webhook::{Webhook, WebhookOptions};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Handles a batch and waits until all its requests have been answered.
fn send(bench: &mut Bench<Webhook>, batch: Batch) {
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
        let mut bench = Bench::<Webhook>::new::<Ran>(&options).expect("valid options");
        send(&mut bench, batch.clone());
        // These include the server's allocations.
        print_allocations(&format!("webhook/{name}"), 20 * 64, || {
            (0..20).for_each(|_| send(&mut bench, batch.clone()));
        });
        group.bench_function(name, |b| {
            b.iter_batched(
                || batch.clone(),
                |batch| send(&mut bench, black_box(batch)),
                BatchSize::SmallInput,
            );
        });
    }
    // The cost of a full queue: the receiver hangs.
    let server = Server::start(|_| Answer::Hang);
    let options = WebhookOptions { max_queued: 1, ..WebhookOptions::to(server.url("/")) };
    let mut bench = Bench::<Webhook>::new::<Ran>(&options).expect("valid options");
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
