//! The cost of writing an event to a file.

use std::hint::black_box;
use std::iter::repeat;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{Attribution, Batch, Evidence, HumanSize, Status};
use whalewatch_file::{FileOptions, JsonFile, Rotate};
use whalewatch_testing::{Bench, CountingAllocator, Ran, example, named, print_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn batch() -> Batch {
    let container = named(&"e0d4".repeat(16), "web-1", "nginx:1", Status::Running);
    let attribution = Attribution::container(container, Evidence::Cgroup);
    Batch::new("procs".into(), vec![example(); 256]).with_attributions(repeat(attribution))
}

/// A handler with a real file, rotated at 64 MiB.
fn file(dir: &Path, pad: bool) -> Bench<JsonFile> {
    let rotate = Rotate { size: Some(HumanSize(64 << 20)), age: None };
    let path = dir.join(format!("pad-{pad}"));
    let options = FileOptions { rotate, pad, keep: 1, ..FileOptions::new(path) };
    Bench::new::<Ran>(&options).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn write(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder");
    let batch = batch();
    let mut group = c.benchmark_group("file");
    group.throughput(Throughput::Elements(batch.len() as u64));
    for (name, pad) in [("padded", true), ("not padded", false)] {
        let mut file = file(dir.path(), pad);
        group.bench_function(name, |b| {
            b.iter_batched(
                || batch.clone(),
                |batch| file.handle(black_box(batch)).and_then(|()| file.flush()),
                BatchSize::SmallInput,
            );
        });
        let batches: Vec<Batch> = (0..1000).map(|_| batch.clone()).collect();
        print_allocations(&format!("file/{name}"), 256_000, || {
            for batch in batches {
                file.handle(batch).and_then(|()| file.flush()).expect("no failure");
            }
        });
    }
    group.finish();
}

criterion_group!(benches, write);
criterion_main!(benches);
