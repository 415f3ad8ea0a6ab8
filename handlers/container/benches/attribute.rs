//! The cost of attribution: batches of 256 events through the manager's `handle`. Prints the
//! allocations per event before each measurement.
//!
//! `cargo bench -p whalewatch-container`

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_container::{ContainerManager, ContainerOptions, RuntimeChoice};
use whalewatch_core::{
    Batch, ChainId, Change, Event, Field, Hosted, Mailbox, Namespaces, Process, Setup, Timestamp,
};
use whalewatch_testing::{CountingAllocator, print_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const BATCH: usize = 256;

#[derive(Clone)]
enum Effect {
    None,
    Existing,
    Made(u64, String),
}

#[derive(Clone)]
struct Scripted(Process, Effect);

impl Event for Scripted {
    const NAME: &'static str = "scripted";
    const KINDS: &'static [&'static str] = &["scripted"];
    const FIELDS: &'static [Field<Self>] = &[];

    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn time(&self) -> Timestamp {
        Timestamp(0)
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.0)
    }

    fn change(&self) -> Option<Change<'_>> {
        match &self.1 {
            Effect::None => None,
            Effect::Existing => Some(Change::Existing),
            Effect::Made(id, path) => Some(Change::CgroupMade { id: *id, path: path.as_bytes() }),
        }
    }
}

const CHAIN: ChainId = ChainId::new(0);

fn manager() -> Hosted<ContainerManager> {
    let options = ContainerOptions { runtime: RuntimeChoice::None, ..ContainerOptions::default() };
    let mut setup = Setup::new("container", "bench", Mailbox::new(drop));
    setup.chains = vec![CHAIN];
    Hosted::build(&options, &setup, Arc::default()).expect("it builds without a runtime")
}

fn observe(manager: &mut Hosted<ContainerManager>, events: Vec<Scripted>) {
    let batch = Batch::new("bench".into(), events);
    manager.observe(&batch).expect("observes");
    manager.outgoing.clear();
    manager.timers.clear();
}

const CGROUP: u64 = 1 << 40; // far from any id on this host

fn process(n: usize, cgroup_id: u64) -> Process {
    let namespaces = Namespaces { user: 1, pid: 2, mnt: 3, net: 4 };
    Process {
        pid: n as u32 + (1 << 22),
        start_time: n as u64 + 1,
        cgroup_id,
        namespaces,
        ..Process::default()
    }
}

fn measure(c: &mut Criterion, name: &str, manager: &mut Hosted<ContainerManager>, batch: &Batch) {
    let mut handle = |batch: Batch| {
        manager.handle(CHAIN, batch).expect("handles");
        manager.timers.clear();
        manager.outgoing.pop()
    };
    // The first batch announces the containers.
    handle(batch.clone());
    let copy = batch.clone();
    print_allocations(&format!("attribute/{name}"), BATCH as u64, || drop(handle(copy)));
    let mut group = c.benchmark_group("attribute");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(name, |b| {
        b.iter_batched(|| batch.clone(), &mut handle, BatchSize::SmallInput);
    });
    group.finish();
}

fn batch(event: impl Fn(usize) -> Process) -> Batch {
    let events = (0..BATCH).map(|n| Scripted(event(n), Effect::None)).collect();
    Batch::new("bench".into(), events)
}

fn by_cgroup(c: &mut Criterion) {
    let mut manager = manager();
    let made = |n: u64| {
        let effect = Effect::Made(CGROUP + n, format!("/docker/{n:064x}"));
        Scripted(process(0, 0), effect)
    };
    observe(&mut manager, (0..10_000).map(made).collect());
    let same = batch(|n| process(n, CGROUP + 7));
    measure(c, "cgroup, one container", &mut manager, &same);
    let spread = batch(|n| process(n, CGROUP + (n * 7919 % 10_000) as u64));
    measure(c, "cgroup, 10,000 containers", &mut manager, &spread);
    let host = Scripted(process(0, 0), Effect::Made(CGROUP * 2, "/system.slice".into()));
    observe(&mut manager, vec![host]);
    measure(c, "cgroup, host", &mut manager, &batch(|n| process(n, CGROUP * 2)));
}

fn by_pid(c: &mut Criterion) {
    let mut manager = manager();
    let made = Effect::Made(CGROUP, format!("/docker/{:064x}", 7));
    observe(&mut manager, vec![Scripted(process(0, 0), made)]);
    let all: Vec<_> =
        (0..1_000_000).map(|n| Scripted(process(n, CGROUP), Effect::Existing)).collect();
    observe(&mut manager, all);
    let spread = batch(|n| process(n * 1_000_003 % 1_000_000, 0));
    measure(c, "pid, of 1,000,000", &mut manager, &spread);
}

criterion_group!(benches, by_cgroup, by_pid);
criterion_main!(benches);
