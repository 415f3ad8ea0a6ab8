//! The cost of testing an event.

use std::hint::black_box;
use std::iter::repeat;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{Attribution, Batch, ChainId, Container, Evidence, Hosted, Process, Runtime};
use whalewatch_filter::{Filter, FilterOptions};
use whalewatch_testing::{CountingAllocator, Ran, example, print_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn batch() -> Batch {
    let container = Arc::new(Container {
        name: Some("web-1".into()),
        ..Container::bare("e0d4".repeat(16), Runtime::Docker)
    });
    let event = |i: u32| Ran {
        process: Process { pid: 1000 + i, uid: i % 2, ..Process::default() },
        path: Some("/usr/bin/true"),
        ..example()
    };
    let attribution = Attribution::container(container, Evidence::Cgroup);
    let batch = Batch::new("procs".into(), (0..256).map(event).collect());
    batch.with_attributions(repeat(attribution))
}

fn conditions(c: &mut Criterion) {
    let batch = batch();
    let mut group = c.benchmark_group("filter");
    group.throughput(Throughput::Elements(batch.len() as u64));
    for (name, when) in [
        ("equal", "process.user.id == 0"),
        ("in", "process.user.id in [0, 33, 1000]"),
        ("text", "container.name == 'web-1'"),
        ("starts_with", "process.executable.path.startsWith('/usr/')"),
        ("contains", "process.executable.path.contains('bin/')"),
        (
            "joined",
            "kind == 'process.exec' && (process.user.id != 0 || container.name in ['a', 'web-1'])",
        ),
    ] {
        let options = FilterOptions { when: Some(when.to_owned()), ..FilterOptions::default() };
        let filter = Filter::new(&options).expect("a valid condition");
        let mut hosted = Hosted::new(filter, Arc::default());
        let chain = ChainId::new(0);
        // The condition is compiled for the schema of the first batch.
        hosted.handle(chain, batch.clone()).expect("no failure");
        let copy = batch.clone();
        print_allocations(&format!("filter/{name}"), batch.len() as u64, || {
            hosted.handle(chain, copy).expect("no failure");
        });
        group.bench_function(name, |b| {
            b.iter_batched(
                || batch.clone(),
                |batch| {
                    hosted.outgoing.clear();
                    hosted.handle(chain, black_box(batch))
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, conditions);
criterion_main!(benches);
