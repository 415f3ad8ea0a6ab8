//! The cost of attribution: batches of 256 events through the manager's `handle`. Prints the
//! allocations per event before each measurement.
//!
//! `cargo bench -p whalewatch-container`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_container::{ContainerManager, ContainerOptions, Message, RuntimeChoice};
use whalewatch_core::{
    Batch, ChainId, Change, Context, Directory, Event, Field, Handler, HandlerCounters, Mailbox,
    Namespaces, Process, Setup, Timestamp,
};
use whalewatch_kit::testing::{CountingAllocator, print_allocations};

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

fn manager() -> ContainerManager {
    let options = ContainerOptions { runtime: RuntimeChoice::None, ..ContainerOptions::default() };
    let setup = Setup {
        name: "container".into(),
        host_name: "bench".into(),
        mailbox: Mailbox::<Message>::new(drop),
        directory: Directory::default(),
        health: whalewatch_core::Health::default(),
        outside: whalewatch_core::Outside::default(),
        ahead: whalewatch_core::Ahead::default(),
        chains: vec![ChainId(0)],
    };
    ContainerManager::build(&options, &setup).expect("it builds without a runtime")
}

fn call(run: impl FnOnce(&mut Context<'_, Message>)) -> Vec<(ChainId, Batch)> {
    let (counters, mut outgoing, mut timers) = (HandlerCounters::default(), Vec::new(), Vec::new());
    run(&mut Context::new(ChainId(0), &counters, &mut outgoing, &mut timers));
    outgoing
}

fn observe(manager: &mut ContainerManager, events: Vec<Scripted>) {
    let batch = Batch::new("bench".into(), events);
    call(|cx| manager.observe(&batch, cx).expect("observes"));
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

fn measure(c: &mut Criterion, name: &str, manager: &mut ContainerManager, batch: &Batch) {
    let (counters, mut outgoing, mut timers) =
        (HandlerCounters::default(), Vec::with_capacity(2), Vec::new());
    let mut cx = Context::new(ChainId(0), &counters, &mut outgoing, &mut timers);
    // The first batch announces the containers.
    manager.handle(batch.clone(), &mut cx).expect("handles");
    let copy = batch.clone();
    print_allocations(&format!("attribute/{name}"), BATCH as u64, || {
        manager.handle(copy, &mut cx).expect("handles");
    });
    let mut group = c.benchmark_group("attribute");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(name, |b| {
        b.iter_batched(
            || batch.clone(),
            |batch| call(|cx| manager.handle(batch, cx).expect("handles")),
            BatchSize::SmallInput,
        );
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
