//! The cost of counting an event and of writing the page. Prints the allocations for each event
//! first.
//!
//! `cargo bench -p whalewatch-prometheus`

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{Attribution, Batch, ChainId, Evidence, Hosted, Mailbox, Status};
use whalewatch_prometheus::{Kind, LabelOption, MetricOptions, Prometheus, PrometheusOptions};
use whalewatch_testing::{Bench, CountingAllocator, example, named, print_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const BATCH: usize = 256;

/// A batch whose events come from `containers` containers in turn.
fn batch(containers: usize) -> Batch {
    let containers: Vec<_> = (0..containers)
        .map(|n| named(&format!("{n:064x}"), &format!("web-{n}"), "nginx", Status::Running))
        .collect();
    let inside = |container| Attribution::container(container, Evidence::Cgroup);
    let batch = Batch::new("procs".into(), vec![example(); BATCH]);
    batch.with_attributions(containers.into_iter().map(inside).cycle())
}

fn field(name: &str) -> LabelOption {
    LabelOption::Field(name.into())
}

fn histogram() -> MetricOptions {
    MetricOptions {
        name: "pids".into(),
        kind: Kind::Histogram,
        labels: vec![field("container.name")],
        value: Some("process.pid".into()),
        buckets: (0..12).map(|power| f64::from(1 << power)).collect(),
        ..MetricOptions::default()
    }
}

fn options(metrics: Vec<MetricOptions>) -> PrometheusOptions {
    PrometheusOptions {
        listen: "127.0.0.1:0".into(),
        expire: whalewatch_core::HumanDuration(Duration::from_hours(1)),
        metrics,
        ..PrometheusOptions::default()
    }
}

fn built(options: &PrometheusOptions) -> Hosted<Prometheus> {
    let setup = Bench::<Prometheus>::setup(Mailbox::new(drop));
    Hosted::build(options, &setup, Arc::default()).expect("valid options")
}

fn counting(c: &mut Criterion) {
    let counter = PrometheusOptions::default().metrics.remove(0);
    let with_args = MetricOptions {
        labels: vec![field("process.command_args"), field("process.user.id")],
        ..counter.clone()
    };
    let condition = MetricOptions { when: Some("process.user.id == 0".into()), ..counter.clone() };
    let mut group = c.benchmark_group("count");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, metrics, containers) in [
        ("counter, one container", vec![counter.clone()], 1),
        ("counter, 200 containers in turn", vec![counter.clone()], 200),
        ("counter with a condition", vec![condition], 1),
        ("counter by arguments and user", vec![with_args], 1),
        ("histogram of 12 buckets", vec![histogram()], 1),
        ("counter and histogram, 200 containers", vec![counter, histogram()], 200),
    ] {
        let batch = batch(containers);
        let mut hosted = built(&options(metrics));
        let mut call = |batch: Batch| {
            hosted.handle(ChainId::new(0), batch).expect("handles");
            hosted.timers.clear();
            hosted.outgoing.pop()
        };
        call(batch.clone());
        let again = batch.clone();
        print_allocations(&format!("count/{name}"), BATCH as u64, || drop(call(again)));
        group.bench_function(name, |b| {
            b.iter_batched(|| batch.clone(), &mut call, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn page(c: &mut Criterion) {
    let mut metric = histogram();
    metric.labels.insert(0, field("kind"));
    let counter = PrometheusOptions::default().metrics.remove(0);
    let mut hosted = built(&options(vec![counter, metric]));
    for _ in 0..3 {
        hosted.handle(ChainId::new(0), batch(256)).expect("handles");
    }
    c.bench_function("page of 256 counters and 256 histograms", |b| {
        b.iter(|| hosted.handler().page());
    });
}

criterion_group!(benches, counting, page);
criterion_main!(benches);
