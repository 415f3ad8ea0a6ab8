//! The cost of evaluating all built-in rules on events of the real trackers.

use std::hint::black_box;
use std::iter::repeat;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{
    Attribution, Batch, ChainId, Container, Event, Evidence, Hosted, Mailbox, Process, ProcessKey,
    Runtime, Schema, Setup, Timestamp,
};
use whalewatch_rules::{Rules, RulesOptions};
use whalewatch_testing::{CountingAllocator, print_allocations};
use whalewatch_trackers::files::{FileEvent, FileWhat, Octal};
use whalewatch_trackers::network::{Endpoint, NetworkEvent, NetworkWhat};
use whalewatch_trackers::process::{Executed, What};
use whalewatch_trackers::{FilePath, ProcessEvent};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const BATCH: u64 = 256;
/// Nanoseconds between events.
const STEP: u64 = 10_000;

/// Returns the time of the next event.
static NOW: AtomicU64 = AtomicU64::new(1_795_441_580_000_000_000);

fn now() -> Timestamp {
    Timestamp(NOW.fetch_add(STEP, Relaxed))
}

fn process(i: u64, comm: &[u8]) -> Process {
    let mut padded = [0; 16];
    padded[..comm.len()].copy_from_slice(comm);
    let pid = 1000 + (i % 32) as u32;
    Process {
        pid,
        tid: pid,
        parent_pid: 1000,
        parent_start_time: 1000,
        start_time: pid.into(),
        namespaced_pid: 7,
        comm: padded,
        cgroup_id: 99,
        ..Process::default()
    }
}

fn attributed<E: Event>(make: impl Fn(u64) -> E, container: &Arc<Container>) -> Batch {
    let attribution = Attribution::container(Arc::clone(container), Evidence::Cgroup);
    let batch = Batch::new("t".into(), (0..BATCH).map(make).collect());
    batch.with_attributions(repeat(attribution))
}

fn opened(i: u64) -> FileEvent {
    let path =
        [&b"/usr/lib/x86_64-linux-gnu/libc.so.6"[..], b"/srv/app/a.html", b"/proc/self/stat"];
    FileEvent {
        time: now(),
        process: process(i, b"nginx"),
        path: FilePath { bytes: path[(i % 3) as usize].into(), resolved: true, truncated: false },
        inode: i,
        device: 1,
        deleted: false,
        result: 3,
        what: FileWhat::Opened { flags: 0o2_000_000, mode: Octal::new(0) },
    }
}

/// Files that are created: each starts a sequence.
fn written(i: u64) -> FileEvent {
    let path = format!("/srv/app/{}", i % 8).into_bytes();
    FileEvent {
        path: FilePath { bytes: path.into(), resolved: true, truncated: false },
        what: FileWhat::Opened { flags: 0o101, mode: Octal::new(0o644) },
        ..opened(i)
    }
}

fn executed(i: u64) -> ProcessEvent {
    let what = match i % 3 {
        0 => What::Forked { maker: ProcessKey { pid: 1000, start_time: 1000 } },
        1 => What::Executed(Executed {
            path: (&b"/usr/bin/convert"[..]).into(),
            args: (&b"convert\0a.png\0b.webp\0"[..]).into(),
            args_count: 3,
            args_total: 21,
            path_truncated: false,
            args_truncated: false,
        }),
        _ => What::Exited { status: 0 },
    };
    ProcessEvent { time: now(), process: process(i / 3, b"convert"), kernel_thread: false, what }
}

fn connected(i: u64) -> NetworkEvent {
    let peer = Endpoint { address: (&b"172.18.0.2"[..]).into(), port: 5432 };
    NetworkEvent {
        time: now(),
        process: Some(process(i, b"python3")),
        cgroup_id: 99,
        transport: "tcp",
        network: "ipv4",
        local: None,
        peer: Some(peer),
        namespace: 7,
        error: 0,
        what: NetworkWhat::Connected { latency: 100, abandoned: false },
    }
}

fn rules() -> Hosted<Rules> {
    let mut setup = Setup::new("detect", "node-1", Mailbox::new(drop));
    setup.chains = vec![ChainId::new(0)];
    let order = "10ms".parse().expect("valid duration");
    let options = RulesOptions { order, ..RulesOptions::default() };
    setup.input =
        vec![Schema::of::<ProcessEvent>(), Schema::of::<FileEvent>(), Schema::of::<NetworkEvent>()];
    Hosted::build(&options, &setup, Arc::default()).expect("built-in rules are valid")
}

/// Sends a batch through the rules. A batch of processes is also observed, as in a run.
fn evaluate(rules: &mut Hosted<Rules>, batch: Batch) -> usize {
    if batch.event_name() == "process" {
        rules.observe(&batch).expect("handler observes");
    }
    rules.handle(ChainId::new(0), batch).expect("handler takes it");
    rules.timers.clear();
    rules.outgoing.drain(..).count()
}

/// Prints the allocations for each event.
fn allocations(name: &str, make: impl Fn() -> Batch) {
    const BATCHES: u64 = 200;
    let mut rules = rules();
    let batches = || (0..BATCHES).map(|_| make()).collect::<Vec<_>>();
    let mut look_at = |batches: Vec<Batch>| {
        for batch in batches {
            evaluate(&mut rules, batch);
        }
    };
    look_at(batches());
    let measured = batches();
    print_allocations(&format!("rules/{name}"), BATCHES * BATCH, || look_at(measured));
}

fn pack(c: &mut Criterion) {
    let container = Arc::new(Container {
        name: Some("web-1".into()),
        image: Some("web:1".into()),
        ..Container::bare("e0d4".repeat(16), Runtime::Docker)
    });
    let make: [(&str, &dyn Fn() -> Batch); 4] = [
        ("opens", &|| attributed(opened, &container)),
        ("writes", &|| attributed(written, &container)),
        ("processes", &|| attributed(executed, &container)),
        ("connections", &|| attributed(connected, &container)),
    ];
    let mut group = c.benchmark_group("rules");
    group.throughput(Throughput::Elements(BATCH));
    for (name, make) in make {
        allocations(name, make);
        let mut rules = rules();
        group.bench_function(name, |b| {
            b.iter_batched(
                make,
                |batch| evaluate(&mut rules, black_box(batch)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, pack);
criterion_main!(benches);
