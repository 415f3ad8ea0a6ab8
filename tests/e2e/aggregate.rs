//! Aggregates over real containers: exact, in time, and complete after a stop.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{environment, wait};

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

/// A chain of the execs of `/bin/true` in the test's containers, through these handlers.
fn config(handlers: &str, through: &[&str]) -> String {
    let through: Vec<_> = through.iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"

[handlers.runs]
type = "filter"
containers = ["aggregate-*"]
when = "kind == 'process.exec' && '/bin/true' in process.command_args"

{handlers}

[handlers.out]
type = "stdout"

[[chains]]
from = ["process"]
through = ["container", "runs", {}, "out"]
"#,
        environment::docker_socket().display(),
        through.join(", ")
    )
}

const BY_CONTAINER: &str = r#"
[handlers.sums]
type = "aggregate"
by = ["container.name"]
window = "1s"
late = "2s"
max_values = 1000

[handlers.sums.compute]
runs = "count()"
pids = "distinct(process.pid)"
programs = "top(process.executable.path, 3)"
last = "max(process.pid)"
"#;

/// Runs `/bin/true` in a container `times` times.
fn run(docker: &Docker, container: &str, times: u32) {
    let script = format!("i=0; while [ $i -lt {times} ]; do /bin/true; i=$((i+1)); done");
    docker.ok(&["exec", container, "sh", "-c", &script]);
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number: {value}"))
}

/// Counts the events in results by container, including late ones.
fn counts(events: &[Event]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind() == "aggregate.window") {
        let result = &event.0["aggregate"];
        let name = event.container_name().unwrap_or("none").to_owned();
        *counts.entry(name).or_default() += number(&result["events"]) + number(&result["late"]);
    }
    counts
}

#[test]
fn runs_are_counted_exactly_for_each_container() {
    let docker = docker();
    let dir = environment::scratch("aggregate-containers");
    let mut tracer = Tracer::run(&dir, &config(BY_CONTAINER, &["sums"]));
    let containers = [("aggregate-many", 400), ("aggregate-some", 60), ("aggregate-one", 1)];
    let want: BTreeMap<_, _> = containers.map(|(name, runs)| (name.to_owned(), runs)).into();
    let running = containers.map(|(name, runs)| {
        let container = docker.start(name, &environment::image(), &["sleep", "1000"]);
        run(&docker, name, u32::try_from(runs).expect("fits"));
        container
    });
    // A timer closes the last window: no further event comes.
    tracer.wait_for("all runs are in results", |events| wait::when(counts(events) == want));
    let finished = tracer.stop();
    drop(running);
    assert_eq!(counts(&finished.events), want, "nothing is reported twice");
    for event in &finished.events {
        let (result, value) = (&event.0["aggregate"], &event.0["aggregate"]["value"]);
        assert_eq!(result["key"]["container"]["name"], event.0["container"]["name"], "{result}");
        assert_eq!(result["late"], 0, "events of one tracker come in order: {result}");
        assert_eq!(value["runs"], result["events"], "{result}");
        // Each run was another process.
        assert_eq!(value["pids"], result["events"], "{result}");
        assert_eq!(value["programs"]["highest"], result["events"], "{result}");
        assert_eq!(value["programs"]["values"].as_array().map(Vec::len), Some(1), "{result}");
        assert!(number(&value["last"]) > 0, "{result}");
        assert_eq!(event.time(), result["end"].as_str().expect("a time"));
    }
    let total = want.values().sum::<u64>();
    assert_eq!(finished.totals.handler("sums", "filtered"), total, "the events end in the handler");
    assert_eq!(finished.totals.handler("sums", "added"), finished.totals.handler("out", "out"));
    finished.totals.assert_complete();
}

#[test]
fn a_stop_within_a_window_emits_its_results() {
    let docker = docker();
    let dir = environment::scratch("aggregate-stop");
    let handlers = BY_CONTAINER.replace("window = \"1s\"", "window = \"1day\"\npass = true");
    let mut tracer = Tracer::run(&dir, &config(&handlers, &["sums"]));
    let endless = "while true; do /bin/true; done";
    let image = environment::image();
    let running = ["aggregate-stop-a", "aggregate-stop-b"]
        .map(|name| docker.start(name, &image, &["sh", "-c", endless]));
    tracer.wait_for("both run", |events| {
        let of = |name| events.iter().filter(|e| e.container_name() == Some(name)).count();
        wait::when(of("aggregate-stop-a") > 100 && of("aggregate-stop-b") > 100)
    });
    let finished = tracer.stop();
    drop(running);
    let mut passed: BTreeMap<String, u64> = BTreeMap::new();
    for event in finished.events.iter().filter(|event| event.kind() == "process.exec") {
        *passed.entry(event.container_name().unwrap_or("none").to_owned()).or_default() += 1;
    }
    assert_eq!(counts(&finished.events), passed, "the events themselves passed, too");
    assert_eq!(finished.totals.handler("sums", "in"), passed.values().sum::<u64>());
    assert_eq!(finished.totals.handler("sums", "filtered"), 0);
    finished.totals.assert_complete();
}

#[test]
fn results_of_two_aggregates_pass_one_chain_and_a_filter() {
    let docker = docker();
    let dir = environment::scratch("aggregate-chain");
    let handlers = r#"
[handlers.by-container]
type = "aggregate"
window = "200ms"
pass = true
compute = { runs = "count()" }

[handlers.by-user]
type = "aggregate"
by = ["process.user.id", "host.name"]
window = "1day"
compute = { runs = "count(process.pid)", containers = "sum(aggregate.value.runs)" }

[handlers.busy]
type = "filter"
when = "aggregate.value.runs >= 30"
"#;
    let through = ["by-container", "by-user", "busy"];
    let tracer = Tracer::run(&dir, &config(handlers, &through));
    let _running = docker.start("aggregate-chain", &environment::image(), &["sleep", "1000"]);
    run(&docker, "aggregate-chain", 30);
    let finished = tracer.stop();
    let [event] = &finished.events[..] else { panic!("one result: {:?}", finished.events) };
    let (key, value) = (&event.0["aggregate"]["key"], &event.0["aggregate"]["value"]);
    assert_eq!(key["process"]["user"]["id"], "0");
    assert_eq!(key["host"]["name"], event.0["host"]["name"]);
    assert_eq!(value["runs"], 30);
    finished.totals.assert_complete();
}

#[test]
fn check_locates_a_mistake_in_a_computation() {
    let dir = environment::scratch("aggregate-check");
    let compute = "\n[handlers.sums]\ntype = \"aggregate\"\n[handlers.sums.compute]\n\
                   a = \"sum(process.pdi)\"\nb = 'smu()'\n";
    let said = check(&dir, &config(compute, &["sums"]));
    assert!(said.contains("config.toml:14:10"), "{said}");
    assert!(said.contains("did you mean `process.pid`?"), "{said}");
    assert!(said.contains("config.toml:15:6"), "{said}");
    assert!(said.contains("did you mean `sum`?"), "{said}");
}

/// Returns the messages of `check` about a configuration with mistakes.
#[track_caller]
fn check(dir: &Path, config: &str) -> String {
    let file = dir.join("config.toml");
    fs::write(&file, config).expect("the scratch folder can be written to");
    let done = Command::new(environment::program()).arg("check").arg(&file).output();
    let done = done.expect("the program can be started");
    assert_eq!(done.status.code(), Some(2));
    String::from_utf8_lossy(&done.stderr).into_owned()
}
