//! Signals: who sends which to whom, and both containers.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use whalewatch_tests::docker::{Container, Docker};
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{config, environment, wait};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

#[track_caller]
fn tracer(test: &str, options: &str) -> Tracer {
    let trackers = format!("[trackers.signals]\ntype = \"signals\"\n{options}\n");
    let dir = environment::scratch(test);
    Tracer::run(&dir, &config::chain_of(docker().socket(), &trackers, &["signals"]))
}

/// A container that sleeps and catches SIGUSR1, with the workload in it.
fn sleeper(name: &str) -> Container {
    let (mounts, image) = (WORKLOAD.mounts(), environment::image());
    let options: Vec<&str> = mounts.iter().map(String::as_str).collect();
    let command = ["sh", "-c", "trap : USR1; while :; do sleep 1; done"];
    let container = docker().start_with(name, &options, &image, &command);
    // The runtime's program becomes the shell, and the shell sets its trap, after `docker run` has
    // ended; before that the kernel ignores the signal, as it does for every first process of a pid
    // namespace.
    let pid = container.first_pid();
    wait::until("the shell catches SIGUSR1", Duration::from_mins(1), || {
        wait::when(is_shell_that_catches(pid, 10))
    });
    container
}

/// Whether a process is a shell (the runtime's program before it catches every signal) that catches
/// this signal.
fn is_shell_that_catches(pid: u32, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let caught = field("SigCgt:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    field("Name:") == Some("sh") && caught.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

/// The signals that these commands sent.
fn sent_by(finished: &Finished, comm: &str) -> Vec<Value> {
    let of = finished.events.iter().filter(|event| event.kind() == "signal.send");
    let of = of.filter(|event| event.0["process"]["comm"] == comm);
    of.map(|event| event.0.clone()).collect()
}

/// When a process started, as `/proc` has it: in hundredths of a second.
fn started(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let (_, behind) = stat.rsplit_once(')').expect("a command name in brackets");
    let ticks = behind.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok());
    ticks.expect("a start time")
}

#[test]
fn a_signal_into_a_container_names_both_sides() {
    let container = sleeper("signal-target");
    let pid = container.first_pid();
    let mut tracer = tracer("signals-host", "");
    // An event of the host waits for nobody's name, so the name must be known before.
    WORKLOAD.exec(&docker(), "signal-target", &["signals", "send", "1", "28"]);
    tracer.wait_for("the container's name is known", |events| {
        wait::when(events.iter().any(|event| event.container_name() == Some("signal-target")))
    });
    let done = WORKLOAD.on_host(&["signals", "send", &pid.to_string(), "10"]);
    let started = started(pid);
    let finished = tracer.stop();
    let mut sent = sent_by(&finished, "workload");
    sent.retain(|event| event["process"]["pid"] == done["pid"]);
    assert_eq!(sent.len(), 1, "asking whether a process is there is no signal: {sent:?}");
    let (event, signal) = (&sent[0], &sent[0]["signal"]);
    assert_eq!(event["process"]["pid"], done["pid"]);
    assert_eq!(event["attribution"]["state"], "host");
    assert_eq!(event["container"], Value::Null);
    assert_eq!(event["target"]["container"]["id"], container.id.as_str());
    assert_eq!(event["target"]["container"]["name"], "signal-target");
    assert_eq!(event["target"]["attribution"]["state"], "resolved");
    assert_eq!(signal["number"], 10);
    assert_eq!(signal["name"], "SIGUSR1");
    assert_eq!((&signal["code"], &signal["group"]), (&Value::from(0), &Value::from(true)));
    assert_eq!(
        (&signal["result"], &signal["sender"]),
        (&Value::from("delivered"), &Value::from("process"))
    );
    let target = &signal["target"];
    assert_eq!((&target["pid"], &target["tid"]), (&Value::from(pid), &Value::from(pid)));
    assert_eq!((&target["vpid"], &target["comm"]), (&Value::from(1), &Value::from("sh")));
    assert_eq!(target["user"]["id"], 0);
    assert_eq!(target["start_time"].as_u64().map(|ns| ns / 10_000_000), Some(started));
    assert!(target["cgroup_id"].as_u64().is_some_and(|id| id > 1), "{target}");
    finished.totals.assert_complete();
}

#[test]
fn a_signal_within_a_container_belongs_to_it_on_both_sides() {
    let container = sleeper("signal-inside");
    let tracer = tracer("signals-inside", "signals = [\"SIGUSR1\"]");
    let done = WORKLOAD.exec(&docker(), "signal-inside", &["signals", "send", "1", "10"]);
    WORKLOAD.exec(&docker(), "signal-inside", &["signals", "send", "1", "28"]);
    let finished = tracer.stop();
    let sent = sent_by(&finished, "workload");
    assert_eq!(sent.len(), 1, "SIGWINCH is not asked for: {sent:?}");
    assert_eq!(sent[0]["container"]["id"], container.id.as_str());
    assert_eq!(sent[0]["target"]["container"]["id"], container.id.as_str());
    assert_eq!(sent[0]["process"]["vpid"], done["pid"]);
}

#[test]
fn signals_of_the_kernel_are_reported_if_selected() {
    let tracer = tracer("signals-kernel", "kernel = true\nsignals = [\"SIGCHLD\"]");
    let done = WORKLOAD.on_host(&["files", "open-close", "/dev/null", "1"]);
    let finished = tracer.stop();
    let own = Value::from(std::process::id());
    let child_ended = finished.events.iter().find(|event| {
        event.kind() == "signal.send"
            && event.0["signal"]["target"]["pid"] == own
            && event.0["signal"]["name"] == "SIGCHLD"
    });
    let event = &child_ended.expect("the end of the workload is told").0;
    assert_eq!(event["signal"]["sender"], "kernel");
    // Who gets it, since the kernel is no process.
    assert_eq!(event["process"]["pid"], own, "{done}");
    assert_eq!(event["target"]["attribution"]["state"], "host");
}
