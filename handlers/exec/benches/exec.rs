//! The cost of writing an event to a program.

use std::hint::black_box;
use std::iter::repeat;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{Attribution, Batch, Evidence, Status};
use whalewatch_exec::{Exec, ExecOptions, ProgramOutput};
use whalewatch_testing::{Bench, CountingAllocator, Ran, example, named, print_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn batch() -> Batch {
    let container = named(&"e0d4".repeat(16), "web-1", "nginx:1", Status::Running);
    let attribution = Attribution::container(container, Evidence::Cgroup);
    Batch::new("procs".into(), vec![example(); 256]).with_attributions(repeat(attribution))
}

fn write(c: &mut Criterion) {
    let batch = batch();
    // This reads and discards its input as fast as possible.
    let options = ExecOptions {
        stdout: ProgramOutput::Discard,
        ..ExecOptions::new(["dd", "of=/dev/null", "bs=64k", "status=none"])
    };
    let mut exec =
        Bench::<Exec>::new::<Ran>(&options).unwrap_or_else(|problems| panic!("{problems:?}"));
    let mut group = c.benchmark_group("exec");
    group.throughput(Throughput::Elements(batch.len() as u64));
    group.bench_function("dd", |b| {
        b.iter_batched(
            || batch.clone(),
            |batch| exec.handle(black_box(batch)).and_then(|()| exec.flush()),
            BatchSize::SmallInput,
        );
    });
    let batches: Vec<Batch> = (0..1000).map(|_| batch.clone()).collect();
    print_allocations("exec/dd", 256_000, || {
        for batch in batches {
            exec.handle(batch).and_then(|()| exec.flush()).expect("no failure");
        }
    });
    group.finish();
    exec.end().expect("no failure");
    assert!(exec.adds_up(), "every event is accounted for");
    assert_eq!(exec.count(|c| &c.dropped), 0);
}

criterion_group!(benches, write);
criterion_main!(benches);
