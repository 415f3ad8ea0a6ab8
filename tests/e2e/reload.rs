//! Another configuration for a program that runs.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{environment, wait};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));

/// One chain of process events, through a filter that lets through the workload's and whose own
/// text tells one configuration from another.
fn config(turn: u32) -> String {
    format!(
        r#"[container]
endpoint = "unix://{}"

[trackers.opens]
type = "files"
scope = {{ comms = ["workload"] }}

[handlers.all]
type = "filter"
when = 'process.pid > 0 && process.pid != {turn}000000'

[handlers.out]
type = "stdout"
format = "json"

[[chains]]
from = ["opens"]
through = ["container", "all", "out"]
"#,
        environment::docker_socket().display()
    )
}

fn reload(pid: u32) -> Output {
    let pid = pid.to_string();
    let mut command = Command::new(environment::program());
    command.args(["reload", "--pid", &pid]).output().expect("the program can be started")
}

fn replace(dir: &Path, text: &str) {
    fs::write(dir.join("config.toml"), text).expect("the configuration can be written");
}

fn opens(events: &[Event]) -> usize {
    let null = |event: &&Event| event.0["file"]["path"] == "/dev/null";
    events.iter().filter(|event| event.kind() == "file.open").filter(null).count()
}

#[test]
fn a_hundred_reloads_under_load_lose_no_event() {
    const OPENS: usize = 200_000;
    let dir = environment::scratch("reload-hundred");
    let tracer = Tracer::run(&dir, &config(0));
    let mut load = WORKLOAD.command(&["files", "open-close", "/dev/null", &OPENS.to_string()]);
    let mut load = load.spawn().expect("the workload can be started");
    for turn in 1..=100 {
        replace(&dir, &config(turn));
        if turn % 2 == 0 {
            let done = reload(tracer.pid());
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        } else {
            let before = tracer.reloads();
            tracer.hang_up();
            wait::until("the configuration is read", std::time::Duration::from_mins(1), || {
                wait::when(tracer.reloads() > before)
            });
        }
    }
    assert!(load.wait().expect("it can be waited for").success());
    let finished = tracer.stop();
    assert_eq!(opens(&finished.events), OPENS);
    let totals = &finished.totals;
    totals.assert_complete();
    assert_eq!(totals.tracker("opens", "lost"), 0, "attached all the time, and never full");
    assert_eq!(totals.tracker("opens", "generated"), totals.handler("container", "in"));
    assert_eq!(totals.handler("container", "out"), totals.handler("all", "in"));
    assert_eq!(totals.handler("all", "out"), totals.handler("out", "out"));
}

#[test]
fn a_faulty_configuration_is_refused_and_the_old_one_runs_on() {
    let dir = environment::scratch("reload-refused");
    let mut tracer = Tracer::run(&dir, &config(0));
    replace(&dir, &config(1).replace("process.pid >", "proces.pid >"));
    let done = reload(tracer.pid());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("config.toml:10:9"), "{said}");
    assert!(said.contains("did you mean `process.pid`?"), "{said}");
    assert!(said.contains("the old configuration stays in force"), "{said}");
    WORKLOAD.on_host(&["files", "open-close", "/dev/null", "10"]);
    tracer.wait_for("events still come", |events| wait::when(opens(events) >= 10));
    let finished = tracer.stop();
    assert_eq!(opens(&finished.events), 10);
}

#[test]
fn a_reload_of_a_missing_process_fails() {
    let done = reload(u32::MAX);
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("cannot reach process 4294967295"), "{said}");
}
