//! Scope and budget: what the kernel leaves out, and that it says how much.

use std::collections::HashMap;

use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{config, environment, wait};

const WORKLOAD: Workload = Workload(env!("CARGO_BIN_EXE_workload"));

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

#[track_caller]
fn tracer(test: &str, options: &str) -> Tracer {
    let trackers = format!("[trackers.files]\ntype = \"files\"\n{options}\n");
    let dir = environment::scratch(test);
    Tracer::run(&dir, &config::chain_of(docker().socket(), &trackers, &["files"]))
}

/// A file that every container of the tests' image has, as the kernel names it.
const FILE: &str = "/bin/busybox";

#[track_caller]
fn open_in(container: &str, count: u64) {
    let count = count.to_string();
    let image = environment::image();
    WORKLOAD.in_container(
        &docker(),
        &image,
        container,
        &[],
        &["files", "open-close", FILE, &count],
    );
}

fn opens_of(finished: &Finished, container: &str) -> u64 {
    let of = |event: &&Event| {
        event.container_name() == Some(container) && event.0["file"]["path"] == FILE
    };
    finished.events.iter().filter(of).count() as u64
}

#[test]
fn containers_in_scope_are_watched_from_their_first_process() {
    let tracer = tracer("scope", "scope = { containers = [\"quiet*\", \"!quiet-not\"] }");
    open_in("loud-neighbour", 1_000_000);
    open_in("quiet-1", 7);
    open_in("quiet-not", 5);
    WORKLOAD.on_host(&["files", "open-close", FILE, "3"]);
    let finished = tracer.stop();
    assert_eq!(opens_of(&finished, "quiet-1"), 7);
    let named = finished.events.iter().filter(|e| !e.kind().starts_with("container."));
    let strangers: Vec<_> =
        named.filter(|e| e.container_name() != Some("quiet-1")).map(|e| &e.0).take(3).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    finished.totals.assert_complete();
}

#[test]
fn a_renamed_container_enters_the_scope() {
    let mounts = WORKLOAD.mounts();
    let options: Vec<&str> = mounts.iter().map(String::as_str).collect();
    let image = environment::image();
    let container = docker().start_with("scope-before", &options, &image, &["sleep", "1000000"]);
    let mut tracer = tracer("scope-rename", "scope = { containers = [\"scope-after\"] }");
    let open = || WORKLOAD.exec(&docker(), "scope-before", &["files", "open-close", FILE, "11"]);
    let done = open();
    assert_eq!(done["opens"], 11);
    docker().ok(&["rename", "scope-before", "scope-after"]);
    let seen = |events: &[Event]| {
        let of = |event: &&Event| event.container_name() == Some("scope-after");
        events.iter().filter(of).filter(|e| e.0["file"]["path"] == FILE).count()
    };
    // The daemon tells of the new name by and by.
    wait::until("the new name is in scope", std::time::Duration::from_secs(30), || {
        WORKLOAD.exec(&docker(), "scope-after", &["files", "open-close", FILE, "11"]);
        wait::when(seen(tracer.events()) > 0)
    });
    let finished = tracer.stop();
    drop(container);
    assert_eq!(opens_of(&finished, "scope-before"), 0);
}

#[test]
fn users_commands_and_results_are_filtered_in_the_kernel() {
    let scope = "scope = { uids = [0], comms = [\"workload\"], results = \"failed\" }";
    let tracer = tracer("scope-failed", scope);
    WORKLOAD.on_host(&["files", "open-close", FILE, "3"]);
    let dir = environment::scratch("scope-tour");
    WORKLOAD.on_host(&["files", "tour", dir.to_str().expect("text")]);
    let finished = tracer.stop();
    let files: Vec<_> =
        finished.events.iter().filter(|event| event.kind().starts_with("file.")).collect();
    let failed = |event: &&Event| event.0["error"]["code"].as_u64().is_some();
    assert!(files.iter().all(|event| failed(event) && event.0["process"]["comm"] == "workload"));
    let ours = files
        .iter()
        .filter(|e| e.0["file"]["path"].as_str().is_some_and(|p| p.contains("scope-tour")));
    assert_eq!(ours.count(), 2, "an open and a rename fail on the tour");
}

#[test]
fn a_flood_beyond_its_budget_costs_others_nothing() {
    const FLOOD: u64 = 300_000;
    let tracer = tracer("budget", "budget = { events_per_second = 1000 }\ninterval = \"200ms\"");
    std::thread::scope(|scope| {
        scope.spawn(|| open_in("flood", FLOOD));
        for round in 0..10 {
            open_in(&format!("calm-{round}"), 20);
        }
    });
    let finished = tracer.stop();
    for round in 0..10 {
        assert_eq!(opens_of(&finished, &format!("calm-{round}")), 20, "round {round}");
    }
    let mut refused: HashMap<&str, u64> = HashMap::new();
    let mut kinds: Vec<&str> = Vec::new();
    for event in finished.events.iter().filter(|event| event.kind().starts_with("budget.")) {
        let container = event.container_name().unwrap_or("-");
        *refused.entry(container).or_default() +=
            event.0["budget"]["refused"].as_u64().unwrap_or_default();
        if container == "flood" {
            kinds.push(event.kind());
        }
        assert_eq!(event.0["budget"]["events_per_second"], 1000);
    }
    let delivered = opens_of(&finished, "flood");
    let of_flood = refused.get("flood").copied().unwrap_or_default();
    // Of the workload's other opens (its libraries) some may be refused as well; all of the flood's
    // are either.
    assert!(delivered + of_flood >= FLOOD, "{delivered} + {of_flood}");
    assert!(delivered + of_flood < FLOOD + 50, "{delivered} + {of_flood}");
    assert!(delivered < FLOOD / 10, "{delivered} were delivered");
    assert_eq!(kinds.first(), Some(&"budget.exceeded"));
    assert_eq!(kinds.last(), Some(&"budget.ended"));
    let total = |counter| finished.totals.tracker("files", counter);
    assert_eq!(total("refused"), refused.values().sum::<u64>(), "events tell all that was refused");
    assert_eq!(total("lost"), 0);
}
