//! The `exec` handler, with real Python programs at the other end: killed, stopped, slow.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::marks::{Marks, marks};
use whalewatch_tests::output::Event;
use whalewatch_tests::totals::Totals;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{environment, wait};

const LIMIT: Duration = Duration::from_mins(1);

/// What a Python program reads ahead of what it has dealt with, at most.
const READ_AHEAD: u64 = 8192;
/// No line of ours is shorter.
const SHORTEST_LINE: u64 = 200;

/// Writes down each line in a file of its own run's, and what descriptors it has.
const WRITE_DOWN: &str = r#"import os, sys
print("started", file=sys.stderr, flush=True)
with open(f"open.{os.getpid()}", "w") as out:
    # The list is read through one more, which is closed again.
    for fd in os.listdir("/proc/self/fd"):
        try:
            print(fd, os.readlink(f"/proc/self/fd/{fd}"), file=out)
        except FileNotFoundError:
            pass
with open(f"heard.{os.getpid()}", "w", buffering=1) as out:
    for line in sys.stdin:
        out.write(line)
"#;

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

/// Process events of everything to the program in `dir`, with these options.
fn chain(dir: &Path, options: &str) -> String {
    fs::write(dir.join("program.py"), WRITE_DOWN).expect("the scratch folder can be written to");
    format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"

[trackers.procs]
type = "process"

[handlers.program]
type = "exec"
command = ["python3", "program.py"]
directory = "{}"
{options}

[[chains]]
from = ["procs"]
through = ["container", "program"]
"#,
        docker().socket().display(),
        dir.display()
    )
}

#[track_caller]
fn start_marks(name: &str, first: u32, last: u32) -> Marks {
    Marks::start(&docker(), &environment::image(), name, first, last)
}

/// What each run of the program has left: pid and file, the first run first.
fn runs(dir: &Path, what: &str) -> Vec<(i32, PathBuf)> {
    let prefix = format!("{what}.");
    let mut runs: Vec<_> = fs::read_dir(dir)
        .expect("the scratch folder")
        .map(|entry| entry.expect("one").path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let pid = name.strip_prefix(&prefix)?.parse().ok()?;
            let made = fs::metadata(&path).ok()?.created().ok()?;
            Some((made, pid, path))
        })
        .collect();
    runs.sort();
    runs.into_iter().map(|(_, pid, path)| (pid, path)).collect()
}

/// The lines that all runs wrote down whole, run after run.
fn heard(dir: &Path) -> Vec<Event> {
    let mut events = Vec::new();
    for (_, path) in runs(dir, "heard") {
        let text = fs::read_to_string(path).expect("UTF-8");
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines = text[..whole].lines();
        events.extend(lines.map(|line| Event(serde_json::from_str(line).expect("whole lines"))));
    }
    events
}

#[track_caller]
fn wait_for_mark(dir: &Path, container: &str, at_least: u32) {
    wait::until(&format!("mark {at_least} is heard"), LIMIT, || {
        wait::when(marks(&heard(dir), container).last().is_some_and(|last| *last >= at_least))
    });
}

#[track_caller]
fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("no pid is 0"), signal).expect("it is there");
}

#[test]
fn a_program_gets_every_event_and_no_other_descriptor() {
    let dir = environment::scratch("exec-all");
    let tracer = Tracer::run(&dir, &chain(&dir, ""));
    start_marks("exec-all", 1, 1000).finish();
    let finished = tracer.stop();
    finished.totals.assert_complete();
    finished.totals.assert_nothing_vanished("procs", &["container", "program"]);
    let events = heard(&dir);
    assert_eq!(events.len() as u64, finished.totals.handler("program", "out"));
    assert_eq!(marks(&events, "exec-all"), (1..=1000).collect::<Vec<_>>());
    assert!(finished.stderr.contains("started"), "its standard error is told: {}", finished.stderr);

    let [(_, open)] = &runs(&dir, "open")[..] else { panic!("it was started once") };
    let open = fs::read_to_string(open).expect("UTF-8");
    let own = |line: &&str| !line.contains("/open.");
    let numbers: HashSet<&str> =
        open.lines().filter(own).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(numbers, HashSet::from(["0", "1", "2"]), "{open}");
}

#[test]
fn a_killed_program_is_started_again() {
    let dir = environment::scratch("exec-killed");
    let tracer =
        Tracer::run(&dir, &chain(&dir, "restart_after = \"50ms\"\nwait_at_most = \"60s\""));
    let making = start_marks("exec-killed", 1, 2000);
    for (round, mark) in [200, 600, 1000].into_iter().enumerate() {
        wait_for_mark(&dir, "exec-killed", mark);
        let runs = runs(&dir, "heard");
        assert_eq!(runs.len(), round + 1);
        signal(runs[round].0, Signal::KILL);
        wait::until("it is back", LIMIT, || {
            wait::when(self::runs(&dir, "heard").len() > round + 1)
        });
    }
    making.finish();
    // Nothing is killed after these were made, however late the last kill was.
    start_marks("exec-killed", 2001, 2100).finish();
    let finished = tracer.stop();
    finished.totals.assert_complete();
    finished.totals.assert_nothing_vanished("procs", &["container", "program"]);
    assert!(finished.stderr.contains("the program ended (signal: 9"), "{}", finished.stderr);

    // Each run that was killed may have read what it had not written down; nothing else is missing,
    // and nothing is there twice.
    let events = heard(&dir);
    let delivered = finished.totals.handler("program", "out");
    let missing = delivered - events.len() as u64;
    assert!(missing <= 3 * READ_AHEAD / SHORTEST_LINE, "{missing} of {delivered} are missing");
    let mut times = HashMap::<String, u64>::new();
    for event in &events {
        *times.entry(event.0.to_string()).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "an event was given to two runs");
    let seen = marks(&events, "exec-killed");
    assert!(seen.is_sorted_by(|a, b| a < b));
    let gone = 2100 - seen.len() as u64;
    assert!(gone <= missing, "{gone} marks, but {missing} events in all are missing");
    assert!(seen.ends_with(&(2001..=2100).collect::<Vec<_>>()), "{seen:?}");
}

#[test]
fn a_hung_program_blocks_no_other_chain_and_is_reported() {
    let dir = environment::scratch("exec-hangs");
    let other = "[handlers.out]\ntype = \"stdout\"\nformat = \"json\"\n\n\
                 [[chains]]\nfrom = [\"procs\"]\nthrough = [\"container\", \"out\"]\n";
    let config = chain(&dir, "wait_at_most = \"3s\"") + other;
    let mut tracer = Tracer::run(&dir, &config);
    wait::until("the program reads", LIMIT, || wait::when(!runs(&dir, "heard").is_empty()));
    start_marks("exec-hangs", 1, 10).finish();
    wait_for_mark(&dir, "exec-hangs", 10);
    let pid = runs(&dir, "heard")[0].0;
    signal(pid, Signal::STOP);
    start_marks("exec-hangs", 11, 1000).finish();
    tracer.wait_for("the other chain has all", |events| {
        wait::when(marks(events, "exec-hangs").last() == Some(&1000))
    });
    wait::until("it is told", LIMIT, || {
        wait::when(tracer.said().contains("the program has read nothing"))
    });
    signal(pid, Signal::CONT);
    start_marks("exec-hangs", 1001, 1100).finish();
    wait_for_mark(&dir, "exec-hangs", 1100);
    let finished = tracer.stop();

    assert_eq!(marks(&finished.events, "exec-hangs"), (1..=1100).collect::<Vec<_>>());
    let program = |counter| finished.totals.handler("program", counter);
    assert!(program("dropped") > 0);
    assert_eq!(program("in"), program("out") + program("dropped"));
    let events = heard(&dir);
    assert_eq!(events.len() as u64, program("out"));
    assert!(marks(&events, "exec-hangs").is_sorted_by(|a, b| a < b));
    assert!(finished.stderr.contains("reads again"), "{}", finished.stderr);
}

#[test]
fn the_example_counts_every_event() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let dir = environment::scratch("exec-example");
    let stats = dir.join("stats.json");
    let mut command = Command::new(environment::program());
    command.current_dir(root).args(["run", "--config", "examples/exec.toml", "--duration", "1s"]);
    let done = command.arg("--stats-file").arg(&stats).output().expect("it can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let printed = String::from_utf8(done.stdout).expect("UTF-8");
    let counts = printed.lines().map(|line| {
        let counted: Value = serde_json::from_str(line).expect("a JSON line of the program's");
        counted["count"].as_u64().expect("a number")
    });
    let totals = Totals::read(&stats);
    totals.assert_conserved();
    totals.assert_complete();
    assert_eq!(counts.sum::<u64>(), totals.handler("count", "out"), "{printed}");
}
