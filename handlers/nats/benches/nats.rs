//! The cost of an event: without the network, as a record and through the spool, and with a real
//! server.
//!
//! The latter requires `WHALEWATCH_E2E_SERVERS`, the folder with `nats-server`, and is left out
//! without it.

use std::env;
use std::fs;
use std::hint::black_box;
use std::iter::repeat;
use std::net::{TcpListener, TcpStream};
use std::path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use whalewatch_core::{Attribution, Batch, Container, Evidence, Runtime};
use whalewatch_nats::measure::Path;
use whalewatch_nats::{Nats, NatsOptions};
use whalewatch_testing::{Bench, CountingAllocator, Ran, example, print_allocations};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const EVENTS: usize = 256;
const SUBJECT: &str = "whalewatch.{host.name}.{container.name|-}.{kind}";

fn batch() -> Batch {
    let container = Arc::new(Container {
        name: Some("web-1".into()),
        ..Container::bare("e0d4".repeat(16), Runtime::Docker)
    });
    let attribution = Attribution::container(container, Evidence::Cgroup);
    Batch::new("procs".into(), vec![example(); EVENTS]).with_attributions(repeat(attribution))
}

fn records(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut path = Path::new(dir.path(), SUBJECT);
    let batch = batch();
    let mut group = c.benchmark_group("nats");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("encode", |b| b.iter(|| path.encode(black_box(&batch))));
    group.bench_function("encode_and_spool", |b| b.iter(|| path.pass(black_box(&batch))));
    group.finish();

    let (rounds, events) = (100, 100 * EVENTS as u64);
    print_allocations("nats/encode", events, || {
        (0..rounds).for_each(|_| _ = black_box(path.encode(&batch)));
    });
    print_allocations("nats/encode_and_spool", events, || {
        (0..rounds).for_each(|_| _ = black_box(path.pass(&batch)));
    });
}

/// A server with `JetStream`, which runs until it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(program: &path::Path, dir: &path::Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let mut command = Command::new(program);
        command.args(["-js", "-a", "127.0.0.1", "-p", &address.port().to_string(), "-sd"]).arg(dir);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
        let server = Self { child, address: format!("nats://{address}") };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "nats-server does not listen");
            thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("a child process");
    }
}

/// Handles a batch, and receives acknowledgements while more than `most` events are in flight.
fn deliver(bench: &mut Bench<Nats>, batch: Batch, most: u64) {
    bench.handle(batch).expect("no failure");
    let sent = |bench: &Bench<Nats>| bench.count(|c| &c.input) - bench.count(|c| &c.output);
    while sent(bench) > most {
        assert_eq!(bench.count(|c| &c.dropped), 0, "events were dropped");
        bench.receive(Duration::from_secs(10)).expect("no failure");
    }
}

fn server(c: &mut Criterion) {
    let Some(folder) = env::var_os("WHALEWATCH_E2E_SERVERS") else {
        println!(
            "nats/server: left out, since WHALEWATCH_E2E_SERVERS, the folder of nats-server, is \
             not set"
        );
        return;
    };
    let program = path::Path::new(&folder).join("nats-server");
    let batch = batch();
    let mut group = c.benchmark_group("nats");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, spooled) in [("server", false), ("server_through_spool", true)] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder");
        let (store, spool) = (dir.path().join("store"), dir.path().join("spool"));
        fs::create_dir(&store).expect("a folder");
        let server = Server::start(&program, &store);
        // The stream drops its oldest events, so it does not matter how long this runs.
        let stream = serde_json::json!({"name": "WHALEWATCH", "max_bytes": "256MiB"});
        let spool = serde_json::json!({"dir": spool});
        let options = NatsOptions {
            servers: vec![server.address.clone()],
            subject: SUBJECT.to_owned(),
            stream: Some(serde_json::from_value(stream).expect("a stream")),
            spool: spooled.then(|| serde_json::from_value(spool).expect("a spool")),
            ..NatsOptions::default()
        };
        let mut bench = Bench::<Nats>::new::<Ran>(&options).expect("good options");
        deliver(&mut bench, batch.clone(), 0);
        print_allocations(&format!("nats/{name}"), 100 * EVENTS as u64, || {
            (0..100).for_each(|_| deliver(&mut bench, batch.clone(), 10_000));
        });
        group.bench_function(name, |b| {
            b.iter_batched(
                || batch.clone(),
                |batch| deliver(&mut bench, black_box(batch), 10_000),
                BatchSize::SmallInput,
            );
        });
        bench.end().expect("no failure");
        assert!(
            bench.adds_up() && bench.count(|c| &c.dropped) == 0,
            "not every event was acknowledged"
        );
    }
    group.finish();
}

criterion_group!(benches, records, server);
criterion_main!(benches);
