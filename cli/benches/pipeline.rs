//! The throughput of a whole chain on one thread: from a source in memory through the container
//! manager and a filter to a null handler.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{
    Drain, Namespaces, Process, ProcessKey, Source, SourceCounts, SourceError, Timestamp,
};
use whalewatch_engine::{Registry, System, config};
use whalewatch_trackers::CgroupEvent;
use whalewatch_trackers::process::{Executed, ProcessEvent, What};

/// Events per run.
const EVENTS: u64 = 2_000_000;

/// Repeats forks, execs and exits of processes in one cgroup of the host.
struct Endless {
    events: Vec<ProcessEvent>,
    sent: u64,
}

impl Endless {
    fn new() -> Self {
        let kinds = [
            |maker| What::Forked { maker },
            |_| {
                What::Executed(Executed {
                    path: b"/bin/true"[..].into(),
                    args: b"/bin/true\0"[..].into(),
                    args_count: 1,
                    args_total: 10,
                    path_truncated: false,
                    args_truncated: false,
                })
            },
            |_| What::Exited { status: 0 },
        ];
        let events = (0..768).map(|i: u32| {
            let process = process(1000 + i / 3);
            ProcessEvent {
                time: Timestamp(u64::from(i)),
                kernel_thread: false,
                what: kinds[i as usize % 3](ProcessKey { pid: 1, start_time: 1 }),
                process,
            }
        });
        Self { events: events.collect(), sent: 0 }
    }
}

fn process(pid: u32) -> Process {
    Process {
        pid,
        tid: pid,
        parent_pid: 1,
        namespaced_pid: pid,
        start_time: u64::from(pid) * 1000,
        parent_start_time: 1,
        uid: pid % 2,
        comm: *b"true\0\0\0\0\0\0\0\0\0\0\0\0",
        namespaces: Namespaces { user: 1, pid: 2, mnt: 3, net: 4 },
        cgroup_id: 1,
        ..Process::default()
    }
}

impl Source<ProcessEvent> for Endless {
    fn drain(&mut self, out: &mut Vec<ProcessEvent>, max: usize) -> Result<Drain, SourceError> {
        let start = (self.sent % 768) as usize;
        let count = max.min(768 - start).min((EVENTS - self.sent) as usize);
        out.extend_from_slice(&self.events[start..start + count]);
        self.sent += count as u64;
        Ok(if self.sent == EVENTS { Drain::Ended } else { Drain::More })
    }

    fn counts(&self) -> SourceCounts {
        SourceCounts { generated: self.sent, ..SourceCounts::default() }
    }
}

/// Replaces the kernel's source of cgroup events and yields none, so that the bench needs no root.
struct Silent;

impl Source<CgroupEvent> for Silent {
    fn drain(&mut self, _: &mut Vec<CgroupEvent>, _: usize) -> Result<Drain, SourceError> {
        Ok(Drain::Ended)
    }

    fn counts(&self) -> SourceCounts {
        SourceCounts::default()
    }
}

const CHAINS: [(&str, &str); 2] = [
    ("null", "[[chains]]\nfrom = ['process']\nthrough = ['null']"),
    (
        "container, filter, null",
        "[container]
        runtime = 'none'
        [handlers.root]
        type = 'filter'
        when = 'process.user.id == 0'
        [[chains]]
        from = ['process']
        through = ['container', 'root', 'null']",
    ),
];

fn pipeline(criterion: &mut Criterion) {
    let mut registry = Registry::new();
    registry
        .source("process", || -> Box<dyn Source<ProcessEvent>> { Box::new(Endless::new()) })
        .and_then(|r| r.source("cgroup", || -> Box<dyn Source<CgroupEvent>> { Box::new(Silent) }))
        .and_then(|r| r.handler::<whalewatch_container::ContainerManager>("container"))
        .and_then(|r| r.handler::<whalewatch_filter::Filter>("filter"))
        .and_then(|r| r.handler::<whalewatch_null::Null>("null"))
        .expect("the names differ");
    let mut group = criterion.benchmark_group("pipeline");
    group.sample_size(10).throughput(Throughput::Elements(EVENTS));
    for (name, text) in CHAINS {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let plan = config::validate(&registry, "bench", text);
                let plan = plan.unwrap_or_else(|mistakes| panic!("{mistakes}"));
                let (_, totals) = System::new("bench").run(plan, || {}).expect("it runs");
                assert_eq!(totals.handlers["null"].input, totals.handlers["null"].output);
                black_box(totals)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
