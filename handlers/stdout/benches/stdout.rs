//! The cost of writing an event.

use std::hint::black_box;
use std::io;
use std::iter::repeat;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{
    Attribution, Batch, Container, Context, Event, Evidence, Field, FieldInfo, HandlerCounters,
    Namespaces, Never, Process, Runtime, Status, Texts, Timestamp, Type, Value,
};
use whalewatch_stdout::{Format, Output};
use whalewatch_testing::{CountingAllocator, print_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// An event with the fields of the process tracker's.
#[derive(Clone)]
struct Exec {
    time: Timestamp,
    process: Process,
    path: Vec<u8>,
    args: Vec<u8>,
}

const fn field<E>(name: &'static str, ty: Type, get: fn(&E) -> Value<'_>) -> Field<E> {
    Field { info: FieldInfo { name, ty, doc: "" }, get }
}

impl Event for Exec {
    const NAME: &'static str = "process";
    const KINDS: &'static [&'static str] = &["process.exec"];
    const FIELDS: &'static [Field<Self>] = &[
        field("process.executable.path", Type::Text, |e| Value::Text(&e.path)),
        field("process.command_args", Type::Texts, |e| Value::Texts(Texts(&e.args))),
        field("process.exit.code", Type::Int, |_| Value::Null),
        field("process.exit.signal", Type::Int, |_| Value::Null),
    ];

    fn kind(&self) -> &'static str {
        "process.exec"
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }
}

fn batch(len: u32) -> Batch {
    let container = Arc::new(Container {
        name: Some("web-1".into()),
        image: Some("nginx:1".into()),
        status: Status::Running,
        ..Container::bare("e0d4".repeat(16), Runtime::Docker)
    });
    let event = |i: u32| Exec {
        time: Timestamp(1_795_441_580_171_234_567 + u64::from(i) * 20_000),
        process: Process {
            pid: 19_920 + i,
            tid: 19_920 + i,
            parent_pid: 19_901,
            namespaced_pid: 1,
            start_time: 940_973_514,
            comm: *b"true\0\0\0\0\0\0\0\0\0\0\0\0",
            namespaces: Namespaces {
                user: 4_026_531_837,
                pid: 4_026_532_183,
                mnt: 4_026_532_180,
                net: 4_026_532_185,
            },
            cgroup_id: 12_227,
            ..Process::default()
        },
        path: b"/usr/bin/true".to_vec(),
        args: b"/usr/bin/true\0--verbose\0".to_vec(),
    };
    let attribution = Attribution::container(container, Evidence::Cgroup);
    let batch = Batch::new("procs".into(), (0..len).map(event).collect());
    batch.with_attributions(repeat(attribution))
}

fn write(c: &mut Criterion) {
    let batch = batch(256);
    let counters = HandlerCounters::default();
    let (mut outgoing, mut timers) = (Vec::new(), Vec::new());
    let cx = Context::<Never>::new(&counters, &mut outgoing, &mut timers);
    let mut group = c.benchmark_group("stdout");
    group.throughput(Throughput::Elements(batch.len() as u64));
    for (name, format) in [("json", Format::Json), ("table", Format::Table)] {
        let mut output = Output::new(io::sink(), format, false, "node-1");
        let mut write =
            |batch: &Batch| output.take(black_box(batch), &cx).and_then(|()| output.flush(&cx));
        // The first batch allocates buffers that the others reuse.
        write(&batch).expect("no failure");
        print_allocations(&format!("stdout/{name}"), 100 * batch.len() as u64, || {
            (0..100).for_each(|_| write(&batch).expect("no failure"));
        });
        group.bench_function(name, |b| b.iter(|| write(&batch)));
    }
    group.finish();
}

criterion_group!(benches, write);
criterion_main!(benches);
