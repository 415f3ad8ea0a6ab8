//! The cost of keeping events, and of finding them among a million.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{
    Attribution, Batch, Container, Event, Evidence, Field, FieldInfo, HandlerCounters,
    HumanDuration, HumanSize, Process, Status, Texts, Timestamp, Type, Value,
};
use whalewatch_sqlite::{Group, History, HistoryError, Query, Sqlite, SqliteOptions};
use whalewatch_testing::{Bench, CountingAllocator, named, print_allocations};

/// Allocations inside `SQLite` are not counted.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[derive(Clone)]
struct Did {
    kind: &'static str,
    time: u64,
    process: Process,
    path: String,
}

const fn field(name: &'static str, ty: Type, get: fn(&Did) -> Value<'_>) -> Field<Did> {
    Field { info: FieldInfo { name, ty, doc: "" }, get }
}

fn when<'a>(event: &'a Did, kind: &str, value: Value<'a>) -> Value<'a> {
    if event.kind == kind { value } else { Value::Null }
}

impl Event for Did {
    const NAME: &'static str = "did";
    const KINDS: &'static [&'static str] =
        &["process.exec", "process.exit", "file.open", "network.connect"];
    const FIELDS: &'static [Field<Self>] = &[
        field("process.executable.path", Type::Text, |e| {
            when(e, "process.exec", Value::Text(e.path.as_bytes()))
        }),
        field("process.command_args", Type::Texts, |e| {
            when(e, "process.exec", Value::Texts(Texts(b"/usr/bin/python3\0-m\0server\0")))
        }),
        field("file.path", Type::Text, |e| when(e, "file.open", Value::Text(e.path.as_bytes()))),
        field("network.peer.address", Type::Text, |e| {
            when(e, "network.connect", Value::Text(b"10.11.12.13"))
        }),
        field("network.peer.port", Type::Uint, |e| when(e, "network.connect", Value::Uint(443))),
        field("process.exit.code", Type::Int, |e| when(e, "process.exit", Value::Int(0))),
    ];

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn time(&self) -> Timestamp {
        Timestamp(self.time)
    }

    fn process(&self) -> Option<&Process> {
        Some(&self.process)
    }
}

const BATCH: u64 = 256;
const CONTAINERS: usize = 50;
const MILLION: u64 = 1_000_000;
const DAY: u64 = 86_400_000_000_000;
/// The million events are from the ten days before this time.
const END: u64 = 1_795_392_000_000_000_000;

fn containers() -> Vec<Arc<Container>> {
    let container = |i: usize| {
        let (id, name) = (format!("{i:064x}"), format!("web-{i}"));
        named(&id, &name, "nginx:1", Status::Running)
    };
    (0..CONTAINERS).map(container).collect()
}

/// A batch with all kinds of events, from all containers, at these times.
fn batch(containers: &[Arc<Container>], start: u64, step: u64) -> Batch {
    let event = |i: u64| Did {
        // One event in a hundred is a connection, one in ten the start or end of a process.
        kind: match i % 100 {
            0 => "network.connect",
            1..=10 => "process.exec",
            11..=20 => "process.exit",
            _ => "file.open",
        },
        time: start + i * step,
        process: Process {
            pid: 1000 + (start / step.max(1) + i) as u32 % 30_000,
            comm: *b"python3\0\0\0\0\0\0\0\0\0",
            ..Process::default()
        },
        path: format!("/usr/lib/python3/dist-packages/module_{}/file.py", (start / 7 + i) % 5000),
    };
    let inside = |turn: usize| {
        Attribution::container(Arc::clone(&containers[turn / 7 % CONTAINERS]), Evidence::Cgroup)
    };
    let batch = Batch::new("did".into(), (0..BATCH).map(event).collect());
    batch.with_attributions(((start / 3) as usize + 1..).map(inside))
}

fn handler(path: &Path, max_size: u64) -> Bench<Sqlite> {
    let options = SqliteOptions {
        path: path.to_owned(),
        keep: HumanDuration(Duration::ZERO),
        max_size: HumanSize(max_size),
        ..SqliteOptions::default()
    };
    Bench::new::<Did>(&options).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn write(c: &mut Criterion) {
    let containers = containers();
    let mut group = c.benchmark_group("sqlite");
    // As many as are committed together.
    let count = 8 * BATCH;
    group.throughput(Throughput::Elements(count)).sample_size(20);
    for (name, max_size) in [("write", 0), ("write_and_delete", 256 << 20)] {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut bench = handler(&dir.path().join("history.db"), max_size);
        let mut time = END;
        // The times of the events advance, as in a run.
        let mut batches = || -> Vec<Batch> {
            let next = |_| {
                time += BATCH * 1000;
                batch(&containers, time, 1000)
            };
            (0..8).map(next).collect()
        };
        let mut take = |batches: Vec<Batch>| {
            for batch in batches {
                bench.handle(batch).expect("handler takes it");
            }
        };
        // Until the limit is reached.
        (0..if max_size == 0 { 4 } else { 200 }).for_each(|_| take(batches()));
        let measured: Vec<Vec<Batch>> = (0..20).map(|_| batches()).collect();
        print_allocations(&format!("sqlite/{name}"), 20 * count, || {
            measured.into_iter().for_each(&mut take);
        });
        group.bench_function(name, |b| {
            b.iter_batched(&mut batches, &mut take, BatchSize::PerIteration);
        });
        bench.end().expect("handler ends");
        assert_eq!(bench.count(|c: &HandlerCounters| &c.dropped), 0);
    }
    group.finish();
}

fn ask(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("history.db");
    let mut bench = handler(&path, 0);
    let (containers, step) = (containers(), 10 * DAY / MILLION);
    for at in 0..MILLION.div_ceil(BATCH) {
        bench
            .handle(batch(&containers, END - 10 * DAY + at * BATCH * step, step))
            .expect("handler takes it");
    }
    bench.end().expect("handler ends");
    let size = std::fs::metadata(&path).expect("database exists").len();
    println!("sqlite: {} bytes an event in the database", size / MILLION);

    let history = History::open(&path).expect("history opens");
    let web = Query { containers: vec!["web-7".into()], ..Query::default() };
    let day = Query {
        since: Some(Timestamp(END - 2 * DAY)),
        until: Some(Timestamp(END - DAY)),
        ..web.clone()
    };
    let kinds = |kinds: &[&str], query: &Query| Query {
        kinds: kinds.iter().map(ToString::to_string).collect(),
        ..query.clone()
    };
    let mut group = c.benchmark_group("sqlite_million");
    group.sample_size(10);
    for (name, query) in [
        ("container_yesterday", day.clone()),
        ("container_yesterday_ran_or_connected", kinds(&["process.exec", "network"], &day)),
        ("container_last_100", Query { limit: Some(100), ..web }),
        ("pid", Query { pid: Some(4711), ..Query::default() }),
        ("path_without_an_index", Query { path: Some("*/module_17/*".into()), ..Query::default() }),
        ("last_100000", Query { limit: Some(100_000), ..Query::default() }),
    ] {
        let ask = || history.each::<HistoryError>(&query, |_| Ok(())).expect("query succeeds");
        println!("sqlite_million/{name}: {} events", ask());
        group.bench_function(name, |b| b.iter(ask));
    }
    let by: Vec<Group> =
        ["container.name", "kind"].iter().map(|name| name.parse().expect("valid field")).collect();
    group.bench_function("count_by_container_and_kind", |b| {
        b.iter(|| history.count(&Query::default(), &by).expect("query succeeds"));
    });
    group.finish();
}

criterion_group!(benches, write, ask);
criterion_main!(benches);
