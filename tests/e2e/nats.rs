//! NATS: every event arrives, once and in order, whatever is killed in between. The server is a
//! real nats-server.

mod secrets;
mod server;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use async_nats::ConnectOptions;
use secrets::Certificates;
use server::{Server, Stored};
use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{environment, wait};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));
const STREAM: &str = "WHALEWATCH";

/// Sends the workload's opens to standard output and to NATS. If one tracker has two chains, the
/// slower one's queue must have room for the events that it cannot take in time; otherwise they
/// would be dropped and counted.
fn config(server: &Server, options: &str) -> String {
    format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"
queue = 4096

[trackers.opens]
type = "files"
scope = {{ comms = ["workload"] }}

[handlers.out]
type = "stdout"

[handlers.nats]
type = "nats"
servers = ["nats://{}"]
stream = {{ name = "{STREAM}", duplicate_window = "10m" }}
queue = 4096
{options}

[[chains]]
from = ["opens"]
through = ["container", "out"]

[[chains]]
from = ["opens"]
through = ["container", "nats"]
"#,
        environment::docker_socket().display(),
        server.address()
    )
}

fn spool(dir: &Path, more: &str) -> String {
    format!("spool = {{ dir = \"{}\"{more} }}", dir.join("spool").display())
}

fn opens(count: u64) -> Child {
    let mut command =
        WORKLOAD.command(&["files", "open-close", "/etc/hostname", &count.to_string()]);
    command.stdout(Stdio::null()).spawn().expect("the workload can be started")
}

#[track_caller]
fn ended(mut child: Child) {
    assert!(child.wait().expect("our own child").success());
}

/// Returns a message's number within its run.
fn number(stored: &Stored) -> u64 {
    stored.id.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Returns a message's host and epoch.
fn run(stored: &Stored) -> &str {
    stored.id.rsplit_once('-').expect("an id").0
}

/// Checks that the stream has the printed events: all of them, each once, in the same order.
#[track_caller]
fn assert_same(finished: &Finished, stored: &[Stored]) {
    let printed = finished.events.iter().map(|event| &event.0);
    assert_eq!(printed.len(), stored.len());
    for (at, (printed, stored)) in printed.zip(stored).enumerate() {
        let mut got: serde_json::Value = serde_json::from_str(&stored.payload).expect("JSON");
        if got["kind"].as_str().is_some_and(|kind| kind.starts_with("container.")) {
            // The container manager makes these for each chain, at different times.
            got["time"] = printed["time"].clone();
        }
        assert_eq!(*printed, got, "event {at}, {}", stored.id);
        assert_eq!(number(stored), at as u64 + 1, "{}", stored.id);
    }
}

#[test]
fn events_survive_a_server_that_is_killed_twice() {
    let dir = environment::scratch("nats-outages");
    let mut server = Server::new(&dir, "");
    server.start();
    let tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    let begin = std::time::Instant::now();
    for round in 0..2_u64 {
        let work = opens(40_000);
        server.wait_for(STREAM, round * 40_000 + 8_000);
        server.kill();
        ended(work);
        server.start();
    }
    ended(opens(20_000));
    server.wait_for(STREAM, 100_000);
    println!("100,000 events with two outages in {:?}", begin.elapsed());
    let finished = tracer.stop();
    let stored = server.read(STREAM);
    assert!(stored.len() >= 100_000, "{}", stored.len());
    assert_same(&finished, &stored);
    finished.totals.assert_complete();
    assert_eq!(finished.totals.handler("nats", "out"), stored.len() as u64);
    let said = &finished.stderr;
    assert_eq!(said.matches("no NATS server accepts events").count(), 2, "{said}");
    assert_eq!(said.matches("accepts events again").count(), 2, "{said}");
}

#[test]
fn three_hosts_lose_nothing_when_a_cluster_loses_its_leader() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let dir = environment::scratch("nats-fleet");
    // Six ports in a row, which are free on a test machine.
    let port = Server::new(&dir, "").port.clamp(10_000, 60_000);
    let mut command = std::process::Command::new(root.join("examples/fleet/run.sh"));
    command.current_dir(root).env("WHALEWATCH", environment::program());
    command.env("NATS_SERVER", environment::server("nats-server")).env("DIR", dir.join("fleet"));
    command.env("PORT", port.to_string()).env("OPENS", "20000");
    let done = command.output().expect("the script can be started");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    assert!(out.contains("nothing lost, no duplicates, all in order"), "{out}{err}");
}

#[test]
fn a_server_that_keeps_up_leaves_the_spool_empty() {
    let dir = environment::scratch("nats-plain");
    let mut server = Server::new(&dir, "");
    server.start();
    let tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    let begin = std::time::Instant::now();
    ended(opens(100_000));
    server.wait_for(STREAM, 100_000);
    let rate = 100_000.0 / begin.elapsed().as_secs_f64();
    println!("{rate:.0} events/s, with the workload and standard output beside it");
    let finished = tracer.stop();
    assert_same(&finished, &server.read(STREAM));
    finished.totals.assert_complete();
    assert_eq!(segments(&dir).len(), 0);
}

fn segments(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir.join("spool")).expect("the spool exists").flatten();
    let segment = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "segment");
    entries
        .map(|entry| entry.path())
        .filter(segment)
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

/// Counts the events in the spool.
fn spooled(dir: &Path) -> usize {
    let count = |bytes: &Vec<u8>| bytes.windows(9).filter(|part| part == b"{\"time\":\"").count();
    segments(dir).iter().map(count).sum()
}

/// Overfills a spool of one MiB while there is no server. Returns the events that arrive once there
/// is one.
#[track_caller]
fn overfilled(test: &str, when_full: &str) -> (Finished, Vec<Stored>) {
    let dir = environment::scratch(test);
    let mut server = Server::new(&dir, "");
    let bound = format!(", max_size = \"1MiB\", when_full = \"{when_full}\"");
    let mut tracer = Tracer::run(&dir, &config(&server, &spool(&dir, &bound)));
    ended(opens(10_000));
    tracer.wait_for("all are printed", |events| wait::when(events.len() >= 10_000));
    let size: usize = segments(&dir).iter().map(Vec::len).sum();
    assert!(size <= 1 << 20, "{size}");
    server.start();
    server.wait_for(STREAM, 1);
    let finished = tracer.stop();
    let stored = server.read(STREAM);
    let nats = |counter| finished.totals.handler("nats", counter);
    assert_eq!(nats("in"), finished.events.len() as u64);
    assert_eq!(nats("out"), stored.len() as u64);
    assert_eq!(nats("in"), nats("out") + nats("dropped"));
    assert!(nats("dropped") > 1000, "the spool holds about two thousand");
    assert!(finished.stderr.contains("the spool is full"), "{}", finished.stderr);
    assert!(stored.is_sorted_by_key(number));
    (finished, stored)
}

#[test]
fn a_full_spool_can_drop_the_oldest() {
    let (finished, stored) = overfilled("nats-oldest", "drop_oldest");
    let last = stored.last().map(|last| serde_json::from_str(&last.payload).expect("JSON"));
    assert_eq!(finished.events.last().map(|event| event.0.clone()), last);
}

#[test]
fn a_full_spool_can_drop_the_newest() {
    let (finished, stored) = overfilled("nats-newest", "drop_newest");
    let first: Vec<serde_json::Value> =
        stored.iter().map(|s| serde_json::from_str(&s.payload).expect("JSON")).collect();
    let printed = finished.events.iter().map(|event| event.0.clone());
    // Events that came while there was no room are missing, and none before them.
    let same = printed.zip(&first).take_while(|(printed, stored)| printed == *stored).count();
    assert!(same > 1000, "{same} of {}", first.len());
}

#[test]
fn a_spool_survives_a_kill_during_an_outage() {
    let dir = environment::scratch("nats-killed");
    let mut server = Server::new(&dir, "");
    let tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    ended(opens(20_000));
    wait::until("all are in the spool", Duration::from_secs(30), || {
        wait::when(spooled(&dir) >= 20_000)
    });
    let before = spooled(&dir);
    // Dropping a tracer kills it.
    drop(tracer);
    server.start();
    let tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    assert_two_runs(&mut server, tracer, before);
}

/// Checks that the stream has `before` events of the first run, and then those of this one.
#[track_caller]
fn assert_two_runs(server: &mut Server, tracer: Tracer, before: usize) {
    ended(opens(5_000));
    server.wait_for(STREAM, before as u64 + 5_000);
    let finished = tracer.stop();
    let stored = server.read(STREAM);
    let second = run(stored.last().expect("some"));
    let (old, new): (Vec<_>, Vec<_>) = stored.iter().partition(|stored| run(stored) != second);
    assert_eq!(old.len(), before);
    assert!(old.iter().zip(1..).all(|(stored, at)| number(stored) == at), "in order, each once");
    assert!(old.iter().all(|stored| run(stored) < second), "epochs rise");
    let new: Vec<Stored> = new.into_iter().cloned().collect();
    assert_eq!(stored[before].id, new[0].id, "the first run's come first");
    assert_same(&finished, &new);
    finished.totals.assert_complete();
}

#[test]
fn a_kill_while_sending_leaves_no_gap_and_no_duplicate() {
    let dir = environment::scratch("nats-killed-sending");
    let mut server = Server::new(&dir, "");
    server.start();
    let tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    let work = opens(40_000);
    server.wait_for(STREAM, 5_000);
    drop(tracer);
    ended(work);
    let tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    // The rest of the spool is sent first; a count that stays the same says that all of it arrived.
    ended(opens(5_000));
    server.wait_for(STREAM, 10_000);
    let finished = tracer.stop();
    let stored = server.read(STREAM);
    let second = run(stored.last().expect("some")).to_owned();
    let (old, new): (Vec<_>, Vec<_>) = stored.into_iter().partition(|stored| run(stored) != second);
    assert!(old.iter().zip(1..).all(|(stored, at)| number(stored) == at), "in order, each once");
    assert_same(&finished, &new);
}

#[test]
fn spooled_events_count_as_delivered_without_a_server() {
    let dir = environment::scratch("nats-nobody");
    let server = Server::new(&dir, "");
    let mut tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    ended(opens(20_000));
    tracer.wait_for("all are printed", |events| wait::when(events.len() >= 20_000));
    let begin = std::time::Instant::now();
    let finished = tracer.stop();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    finished.totals.assert_complete();
    let count = finished.totals.handler("nats", "out");
    assert_eq!(count, finished.events.len() as u64);
    assert_eq!(spooled(&dir) as u64, count);
    assert!(finished.stderr.contains("stay in"), "{}", finished.stderr);
}

#[test]
fn events_without_room_and_spool_are_dropped_and_counted() {
    let dir = environment::scratch("nats-memory");
    let server = Server::new(&dir, "");
    let options = "buffer = \"1MiB\"\nstop_timeout = \"100ms\"";
    let mut tracer = Tracer::run(&dir, &config(&server, options));
    ended(opens(20_000));
    tracer.wait_for("all are printed", |events| wait::when(events.len() >= 20_000));
    let finished = tracer.stop();
    assert_eq!(finished.totals.handler("out", "out"), finished.events.len() as u64);
    let nats = |counter| finished.totals.handler("nats", counter);
    assert_eq!((nats("in"), nats("out")), (nats("dropped"), 0));
    assert!(finished.stderr.contains("no spool to keep them"), "{}", finished.stderr);
}

#[test]
fn an_event_too_large_for_the_server_blocks_no_others() {
    let dir = environment::scratch("nats-large");
    let mut server = Server::new(&dir, "max_payload: 1200");
    server.start();
    let long = dir.join("l".repeat(200)).join("o".repeat(200)).join("n".repeat(200));
    fs::create_dir_all(&long).expect("the scratch folder can be written to");
    let long = long.join("g".repeat(200));
    fs::write(&long, "").expect("the scratch folder can be written to");
    let tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    ended(opens(500));
    WORKLOAD.on_host(&["files", "open-close", long.to_str().expect("text"), "20"]);
    ended(opens(500));
    let finished = tracer.stop();
    let stored = server.read(STREAM);
    let nats = |counter| finished.totals.handler("nats", counter);
    assert_eq!(nats("dropped"), 20);
    assert_eq!(stored.len() as u64, nats("out"));
    assert_eq!(stored.len() + 20, finished.events.len());
    assert!(stored.is_sorted_by_key(number));
    assert!(finished.stderr.contains("an event is dropped"), "{}", finished.stderr);
}

#[test]
fn two_whalewatches_cannot_share_a_spool() {
    let dir = environment::scratch("nats-shared");
    let server = Server::new(&dir, "");
    let tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    let mut second = std::process::Command::new(environment::program());
    second.args(["run", "--config"]).arg(dir.join("config.toml"));
    let done = second.output().expect("the program can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another") && said.contains("spool.dir"), "{said}");
    tracer.stop();
}

#[test]
fn subjects_name_the_container() {
    let dir = environment::scratch("nats-subjects");
    let mut server = Server::new(&dir, "");
    server.start();
    let docker = Docker::at(&environment::docker_socket());
    let tracer = Tracer::run(&dir, &config(&server, &spool(&dir, "")));
    let name = "nats-e2e.web";
    let arguments = ["files", "open-close", "/etc/hostname", "500"];
    WORKLOAD.in_container(&docker, &environment::image(), name, &[], &arguments);
    ended(opens(500));
    let finished = tracer.stop();
    let stored = server.read(STREAM);
    assert_eq!(stored.len() as u64, finished.totals.handler("nats", "out"));
    let mut inside = 0;
    for stored in &stored {
        let event = Event(serde_json::from_str(&stored.payload).expect("JSON"));
        let token = event.container_name().map_or("-".to_owned(), |name| name.replace('.', "%2E"));
        let (host, rest) =
            stored.subject.split_once('.').expect("a subject").1.split_once('.').expect("a host");
        assert_eq!(
            event.0["host"]["name"].as_str().map(|name| name.replace('.', "%2E")).as_deref(),
            Some(host)
        );
        assert_eq!(rest, format!("{token}.{}", event.kind()));
        inside += usize::from(event.container_name() == Some(name) && event.kind() == "file.open");
    }
    assert!(inside >= 500, "{inside}");
    finished.totals.assert_complete();
}

/// Checks that events reach a server that requires authentication. Reads them back with `options`.
#[track_caller]
fn assert_authenticated(dir: &Path, server: &mut Server, handler: &str, options: ConnectOptions) {
    server.start();
    let tracer = Tracer::run(dir, &config(server, handler));
    ended(opens(1_000));
    let finished = tracer.stop();
    let said = &finished.stderr;
    assert!(!said.contains("no NATS server"), "{said}");
    assert_same(&finished, &server.read_as(STREAM, options));
    finished.totals.assert_complete();
}

/// Checks that a handler with these options is refused and spools all events. Returns its message.
#[track_caller]
fn refusal(dir: &Path, server: &Server, handler: &str) -> String {
    let options = format!("{handler}\n{}", spool(dir, ""));
    let tracer = Tracer::run(dir, &config(server, &options));
    ended(opens(100));
    let finished = tracer.stop();
    finished.totals.assert_complete();
    assert!(spooled(dir) >= 100);
    let outage =
        finished.stderr.lines().find(|line| line.contains("no NATS server accepts events"));
    outage.unwrap_or_else(|| panic!("it was not refused: {}", finished.stderr)).to_owned()
}

#[test]
fn tls_with_a_client_certificate_and_a_password_works() {
    let dir = environment::scratch("nats-tls");
    let certificates = Certificates::make(&dir);
    let users = "authorization: { user: whale, password: \"s3cret!\" }\n";
    let mut server = Server::new(&dir, &(certificates.server() + users));
    let secret = dir.join("password");
    fs::write(&secret, "s3cret!\n").expect("the scratch folder can be written to");
    let auth = |file: &Path| {
        format!("auth = {{ user = \"whale\", password_file = \"{}\" }}\n", file.display())
    };
    let options = ConnectOptions::new()
        .add_root_certificates(certificates.path("ca.pem"))
        .add_client_certificate(certificates.path("client.pem"), certificates.path("client.key"))
        .user_and_password("whale".to_owned(), "s3cret!".to_owned());
    assert_authenticated(&dir, &mut server, &(certificates.handler() + &auth(&secret)), options);

    let wrong = dir.join("wrong");
    fs::write(&wrong, "guess").expect("the scratch folder can be written to");
    let said = refusal(&dir, &server, &(certificates.handler() + &auth(&wrong)));
    assert!(said.to_lowercase().contains("authorization"), "{said}");
    // Another authority did not sign this server's certificate.
    fs::create_dir(dir.join("other")).expect("the scratch folder can be written to");
    let other = Certificates::make(&dir.join("other"));
    let said = refusal(&dir, &server, &(other.handler() + &auth(&secret)));
    assert!(said.to_lowercase().contains("certificate"), "{said}");
}

#[test]
fn a_token_an_nkey_and_a_credentials_file_authenticate() {
    let dir = environment::scratch("nats-token");
    let file = dir.join("secret");
    fs::write(&file, "t0ken\n").expect("the scratch folder can be written to");
    let mut server = Server::new(&dir, "authorization: { token: \"t0ken\" }");
    let handler = format!("auth = {{ token_file = \"{}\" }}", file.display());
    assert_authenticated(
        &dir,
        &mut server,
        &handler,
        ConnectOptions::with_token("t0ken".to_owned()),
    );
    drop(server);

    let dir = environment::scratch("nats-nkey");
    let key = nkeys::KeyPair::new_user();
    let seed = key.seed().expect("a seed");
    let file = dir.join("seed");
    fs::write(&file, &seed).expect("the scratch folder can be written to");
    let users = format!("authorization: {{ users: [ {{ nkey: {} }} ] }}", key.public_key());
    let mut server = Server::new(&dir, &users);
    let handler = format!("auth = {{ nkey_file = \"{}\" }}", file.display());
    assert_authenticated(&dir, &mut server, &handler, ConnectOptions::with_nkey(seed));
    drop(server);

    let dir = environment::scratch("nats-credentials");
    let (operator, text) = secrets::credentials();
    let file = dir.join("user.creds");
    fs::write(&file, &text).expect("the scratch folder can be written to");
    let mut server = Server::new(&dir, &operator);
    let handler = format!("auth = {{ credentials_file = \"{}\" }}", file.display());
    let options = ConnectOptions::with_credentials(&text).expect("credentials");
    assert_authenticated(&dir, &mut server, &handler, options);
}
