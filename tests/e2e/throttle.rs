//! Throttling real containers: each has an allowance of its own, and what was kept back is told to
//! the last event.

use std::collections::BTreeMap;
use std::path::Path;

use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::{environment, wait};

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

/// A chain of the execs of `/bin/true` in the test's containers, through a throttle with these
/// options.
fn tracer(dir: &Path, options: &str) -> Tracer {
    let socket = environment::docker_socket();
    let config = format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"

[handlers.runs]
type = "filter"
containers = ["throttle-*"]
when = "kind == 'process.exec' && '/bin/true' in process.command_args"

[handlers.calm]
type = "throttle"
{options}

[handlers.out]
type = "stdout"

[[chains]]
from = ["process"]
through = ["container", "runs", "calm", "out"]
"#,
        socket.display()
    );
    Tracer::run(dir, &config)
}

/// Runs `/bin/true` so many times in a container.
fn run(docker: &Docker, container: &str, times: u32) {
    let script = format!("i=0; while [ $i -lt {times} ]; do /bin/true; i=$((i+1)); done");
    docker.ok(&["exec", container, "sh", "-c", &script]);
}

/// By container: how many went on, and how many were told to be kept back.
fn counts(events: &[Event]) -> BTreeMap<String, (u64, u64)> {
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for event in events {
        let name = event.container_name().unwrap_or("none").to_owned();
        let counts = counts.entry(name).or_default();
        if event.kind() == "throttle.suppressed" {
            let throttle = &event.0["throttle"];
            counts.1 += throttle["count"].as_u64().expect("a number");
            // The event stands in the container that it is about.
            assert_eq!(throttle["key"]["container"]["name"].as_str(), event.container_name());
            assert!(throttle["since"].as_str() <= throttle["until"].as_str(), "{throttle}");
        } else {
            counts.0 += 1;
        }
    }
    counts
}

#[track_caller]
fn assert_all_told(finished: &Finished) {
    let kept_back: u64 = counts(&finished.events).values().map(|(_, kept)| kept).sum();
    assert_eq!(finished.totals.handler("calm", "filtered"), kept_back);
    let printed = u64::try_from(finished.events.len()).expect("fits");
    assert_eq!(finished.totals.handler("out", "out"), printed);
    finished.totals.assert_complete();
    finished.totals.assert_nothing_vanished("process", &["container"]);
}

#[test]
fn each_container_has_its_own_allowance_counted_exactly() {
    let docker = docker();
    let image = environment::image();
    let dir = environment::scratch("throttle-containers");
    let mut tracer = tracer(&dir, "by = [\"container.name\"]\nevents = 20\nper = \"1h\"");
    let containers = [("throttle-busy", 300), ("throttle-some", 25), ("throttle-calm", 7)];
    let running = containers.map(|(name, times)| {
        let container = docker.start(name, &image, &["sleep", "1000"]);
        run(&docker, name, times);
        container
    });
    // What was kept back in the hour that has not ended yet is told at the end.
    tracer.wait_for("all have run", |events| {
        wait::when(counts(events).values().map(|(passed, _)| passed).sum::<u64>() == 47)
    });
    let finished = tracer.stop();
    drop(running);
    let got = counts(&finished.events);
    let want =
        [("throttle-busy", (20, 280)), ("throttle-some", (20, 5)), ("throttle-calm", (7, 0))];
    assert_eq!(got, want.map(|(name, counts)| (name.to_owned(), counts)).into());
    assert_all_told(&finished);
}

#[test]
fn suppressed_events_are_reported_without_a_further_event() {
    let docker = docker();
    let dir = environment::scratch("throttle-over");
    let mut tracer = tracer(&dir, "by = [\"container.name\"]\nevents = 5\nper = \"1s\"");
    let _running = docker.start("throttle-over", &environment::image(), &["sleep", "1000"]);
    run(&docker, "throttle-over", 100);
    tracer.wait_for("it is told of all hundred", |events| {
        let (passed, kept) = counts(events).get("throttle-over").copied().unwrap_or_default();
        wait::when(kept > 0 && passed + kept == 100)
    });
    let finished = tracer.stop();
    let (passed, _) = counts(&finished.events)["throttle-over"];
    assert!((5..100).contains(&passed), "{passed}");
    assert_all_told(&finished);
}

#[test]
fn a_stop_reports_all_suppressed_events() {
    let docker = docker();
    let dir = environment::scratch("throttle-stop");
    let mut tracer = tracer(&dir, "by = [\"container.name\"]\nevents = 1\nper = \"1s\"");
    let endless = "while true; do /bin/true; done";
    let running = docker.start("throttle-stop", &environment::image(), &["sh", "-c", endless]);
    tracer.wait_for("some have gone on", |events| wait::when(events.len() > 2));
    let finished = tracer.stop();
    drop(running);
    let (passed, kept) = counts(&finished.events)["throttle-stop"];
    assert_eq!(finished.totals.handler("calm", "in"), passed + kept);
    assert!(kept > passed, "{kept} of {}", passed + kept);
    assert_all_told(&finished);
}
