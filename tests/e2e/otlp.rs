//! OpenTelemetry logs: a strict receiver gets exactly the printed events, over both protocols,
//! though it is killed, hangs, is full and refuses in between.

mod line;
mod receiver;
mod strict;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::{environment, wait};

use receiver::{Protocol, Reaction, Receiver};

const LIMIT: Duration = Duration::from_secs(30);
/// The header that the receiver requires.
const TOKEN: &str = "Bearer whalewatch-e2e";

/// Returns two chains from one tracker through one manager: to the receiver, and to standard
/// output.
fn config(options: &str) -> String {
    format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"

[trackers.procs]
type = "process"

[handlers.logs]
type = "otlp"
timeout = "1s"
batch = 100
interval = "50ms"
retry_pause = "20ms"
retry_pause_max = "200ms"
stop_timeout = "20s"
{options}

[handlers.out]
type = "stdout"

[[chains]]
from = ["procs"]
through = ["container", "logs"]

[[chains]]
from = ["procs"]
through = ["container", "out"]
"#,
        environment::docker_socket().display()
    )
}

/// Runs a few processes in a container of that name.
fn work(name: &str) {
    let docker = Docker::at(&environment::docker_socket());
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true $i; done";
    docker.ok(&["run", "--rm", "--name", name, &environment::image(), "sh", "-c", script]);
}

/// Waits until the receiver has all events of the container of that name.
fn wait_for(receiver: &Receiver, name: &str) {
    wait::until(&format!("the receiver has all of {name}"), LIMIT, || {
        let lines = receiver.lines();
        let ours = lines.iter().filter(|line| line["container"]["name"] == name);
        let ends = ours.filter(|line| line["kind"] == "process.exit").count();
        wait::when(ends >= 11)
    });
}

/// Removes what may differ between two chains: the container's state at that moment, and the times
/// of the manager's own events, which it makes for each chain.
fn common(line: &Value) -> Value {
    let mut line = line.clone();
    if let Some(container) = line["container"].as_object_mut()
        && let Some(status) = container.remove("status")
    {
        let known = ["unknown", "created", "running", "removing", "exited", "dead"];
        assert!(known.contains(&status.as_str().unwrap_or_default()), "{status}");
    }
    if is_of_manager(&line) {
        line["time"] = Value::Null;
    }
    line
}

fn is_of_manager(line: &Value) -> bool {
    line["kind"].as_str().is_some_and(|kind| kind.starts_with("container."))
}

/// Groups lines by container, and the manager's own apart, in their order.
fn by_container<'a>(lines: impl Iterator<Item = &'a Value>) -> BTreeMap<String, Vec<Value>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in lines.map(common) {
        let container = line["container"]["id"].as_str().unwrap_or("-");
        let key =
            if is_of_manager(&line) { format!("{container} itself") } else { container.into() };
        all.entry(key).or_default().push(line);
    }
    all
}

/// Removes duplicates, which come when the receiver is killed before it answers.
fn once(mut lines: Vec<Value>) -> Vec<Value> {
    let mut seen = Vec::new();
    lines.retain(|line| {
        let key = (line["time"].clone(), line["kind"].clone(), line["process"]["pid"].clone());
        let new = !seen.contains(&key);
        seen.push(key);
        new
    });
    lines
}

/// Checks that the receiver accepted the printed events except the refused ones, in the same order
/// for each container.
fn compare(receiver: &Receiver, finished: &Finished) {
    let refused: Vec<_> = receiver.refused().iter().map(common).collect();
    let printed = by_container(finished.events.iter().map(|Event(line)| line));
    let mut accepted = by_container(receiver.lines().iter());
    let mut found = 0;
    for (container, mut want) in printed {
        let before = want.len();
        want.retain(|line| !refused.contains(line));
        found += before - want.len();
        let got = once(accepted.remove(&container).unwrap_or_default());
        for (want, got) in want.iter().zip(&got) {
            assert_eq!(want, got, "in {container}");
        }
        assert_eq!(want.len(), got.len(), "in {container}");
    }
    assert!(accepted.is_empty(), "accepted, but not printed: {accepted:#?}");
    assert_eq!(found, refused.len(), "every refused event was printed");
}

/// Takes the handler through every fault of a receiver.
fn survives(protocol: Protocol, dir: &Path, options: &str, name: &str) {
    let mut receiver = Receiver::start(protocol, dir);
    let options = format!("{options}\nendpoint = \"{}\"", receiver.endpoint());
    let mut tracer = Tracer::run(dir, &config(&options));
    let part = |part: &str| format!("otlp-{name}-{part}");

    work(&part("plain"));
    wait_for(&receiver, &part("plain"));

    receiver.next([
        Reaction::Later(None),
        Reaction::Later(Some(Duration::from_secs(1))),
        Reaction::Hang,
        Reaction::Partly(2),
    ]);
    work(&part("trouble"));
    wait::until("the receiver has shown all faults", LIMIT, || wait::when(receiver.calm()));

    receiver.kill();
    work(&part("gone"));
    tracer.wait_for("it is printed", |events| {
        let ours = |event: &&Event| event.container_name() == Some(&part("gone"));
        let ours = events.iter().filter(ours);
        wait::when(ours.filter(|event| event.kind() == "process.exit").count() >= 11)
    });
    receiver.come_back();
    wait_for(&receiver, &part("gone"));

    receiver.next([Reaction::Refuse]);
    work(&part("refused"));
    wait::until("a request was refused", LIMIT, || wait::when(receiver.calm()));
    work(&part("end"));
    // Events that are queued at the stop arrive, too.
    let finished = tracer.stop();

    receiver.assert_no_breach();
    compare(&receiver, &finished);
    let refused = receiver.refused().len() as u64;
    assert!(refused > 2, "{refused}");
    let totals = &finished.totals;
    assert_eq!(totals.handler("logs", "dropped"), refused);
    assert_eq!(totals.handler("logs", "out"), finished.events.len() as u64 - refused);
    assert_eq!(totals.handler("logs", "errors"), 0);
    assert_eq!(totals.handler("logs", "in"), totals.handler("out", "out"));
    let said = &finished.stderr;
    let count = |text: &str| said.lines().filter(|line| line.contains(text)).count();
    assert!(
        count("server unreachable") >= 1 && count("server unreachable") <= 6,
        "logged when it begins: {said}"
    );
    assert!(count("server reachable again") >= 1, "logged when it ends: {said}");
    assert!(said.contains("not accepted by the receiver"), "{said}");
    assert!(!said.contains(TOKEN) && !said.contains("panicked"), "{said}");
}

#[test]
fn grpc_and_tls_deliver_everything_to_a_faulty_receiver() {
    let dir = environment::scratch("otlp-grpc");
    let options = format!(
        "protocol = \"grpc\"\nheaders.authorization = \"{TOKEN}\"\ntls.ca_file = \"{}/ca.pem\"",
        dir.display()
    );
    survives(Protocol::Grpc, &dir, &options, "grpc");
}

#[test]
fn http_and_gzip_deliver_everything_to_a_faulty_receiver() {
    let dir = environment::scratch("otlp-http");
    let token = dir.join("token");
    std::fs::write(&token, format!("{}\n", TOKEN.trim_start_matches("Bearer "))).expect("a file");
    let options = format!(
        "protocol = \"http\"\ncompression = \"gzip\"\n\
         headers.authorization = {{ file = \"{}\", prefix = \"Bearer \" }}",
        token.display()
    );
    survives(Protocol::Http, &dir, &options, "http");
}

#[test]
fn without_a_receiver_a_stop_is_quick_and_events_are_counted() {
    let dir = environment::scratch("otlp-nobody");
    // Nothing listens on the discard port.
    let options = "endpoint = \"http://127.0.0.1:9\"";
    let text = config(options).replace("stop_timeout = \"20s\"", "stop_timeout = \"500ms\"");
    let mut tracer = Tracer::run(&dir, &text);
    work("otlp-nobody");
    tracer.wait_for("something is printed", |events| wait::when(events.len() > 20));
    let finished = tracer.stop();
    let totals = &finished.totals;
    assert_eq!(totals.handler("logs", "out"), 0);
    assert_eq!(totals.handler("logs", "dropped"), totals.handler("out", "out"));
    assert!(
        finished.stderr.contains("stopped before all events could be sent"),
        "{}",
        finished.stderr
    );
}
