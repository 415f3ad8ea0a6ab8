//! The history: written from real events of real containers, read by the real `sqlite3` and by
//! `whalewatch query` meanwhile, and what becomes of it when it is locked, when its disk is full,
//! and when the program is killed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::output::Event;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{environment, wait};

const LIMIT: Duration = Duration::from_mins(1);

/// Two chains with the same events: one prints them, one stores them. `options` are the history's.
fn configuration(database: &Path, options: &str) -> String {
    format!(
        r#"[container]
endpoint = "unix://{}"
hold = "10s"

[trackers.procs]
type = "process"

[handlers.out]
type = "stdout"
format = "json"

[handlers.history]
type = "sqlite"
path = "{}"
{options}

[[chains]]
from = ["procs"]
through = ["container", "out"]

[[chains]]
from = ["procs"]
through = ["container", "history"]
"#,
        environment::docker_socket().display(),
        database.display()
    )
}

/// Queries with the real `sqlite3` program.
#[track_caller]
fn sqlite3(database: &Path, sql: &str) -> String {
    let mut command = Command::new("sqlite3");
    command.arg("-readonly").arg(database).arg(".timeout 5000").arg(sql);
    let done = command.output().expect("sqlite3 can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{sql}: {said}");
    String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
}

#[track_caller]
fn number(database: &Path, sql: &str) -> u64 {
    let text = sqlite3(database, sql);
    text.parse().unwrap_or_else(|e| panic!("{sql}: {e}: {text}"))
}

/// Queries with `whalewatch query`.
#[track_caller]
fn query(database: &Path, args: &[&str]) -> Vec<Event> {
    let mut command = Command::new(environment::program());
    command.arg("query").arg("--db").arg(database).args(["--format", "json"]).args(args);
    let done = command.output().expect("the program can be started");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {said}");
    let text = String::from_utf8(done.stdout).expect("UTF-8");
    let parse = |line| Event(serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    text.lines().map(parse).collect()
}

/// Makes events of two chains comparable: sorts them, and removes what the manager adds for each
/// chain separately, which is the container's status at that moment and the times of the manager's
/// events.
fn comparable<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    let mut lines: Vec<String> = events
        .into_iter()
        .map(|event| {
            let mut event = event.0.clone();
            if let Some(container) = event["container"].as_object_mut() {
                container.remove("status");
            }
            if event["kind"].as_str().is_some_and(|kind| kind.starts_with("container.")) {
                event["time"] = Value::Null;
            }
            event.to_string()
        })
        .collect();
    lines.sort();
    lines
}

/// Checks that two lists have the same events, as far as they are comparable.
#[track_caller]
fn assert_same<'a>(
    left: impl IntoIterator<Item = &'a Event>,
    right: impl IntoIterator<Item = &'a Event>,
) {
    let (left, right) = (comparable(left), comparable(right));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| those.binary_search(line).is_err()).take(5).cloned().collect()
    };
    let differing = (only(&left, &right), only(&right, &left));
    assert_eq!(differing, (Vec::new(), Vec::new()));
    assert_eq!(left.len(), right.len());
}

#[track_caller]
fn assert_whole(database: &Path) {
    assert_eq!(sqlite3(database, "PRAGMA integrity_check"), "ok");
    let orphans = "SELECT count(*) FROM events WHERE id NOT IN (SELECT event FROM bodies)";
    assert_eq!(number(database, orphans), 0);
}

fn docker() -> Docker {
    Docker::at(&environment::docker_socket())
}

#[track_caller]
fn run_in(docker: &Docker, name: &str, command: &[&str]) {
    let image = environment::image();
    docker.ok(&[&["run", "--rm", "--name", name, &image][..], command].concat());
}

/// Runs `body` while processes start and exit on the host as fast as they can.
fn in_an_exec_storm<T>(body: impl FnOnce() -> T) -> T {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(false, Relaxed);
        }
    }
    let go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while go_on.load(Relaxed) {
                    Command::new("/bin/true").status().expect("/bin/true can be started");
                }
            });
        }
        // Also when the body panics: else the storm would never end.
        let _stop = Stop(&go_on);
        body()
    })
}

/// An interactive session of the real `sqlite3`.
struct Shell {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    fn open(database: &Path) -> Self {
        let mut command = Command::new("sqlite3");
        command.arg(database).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("sqlite3 can be started");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, answers }
    }

    /// Sends a statement, and waits until it is done.
    fn say(&mut self, sql: &str) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{sql}\n.print done").expect("sqlite3 reads");
        input.flush().expect("sqlite3 reads");
        let mut line = String::new();
        while line.trim() != "done" {
            line.clear();
            let read = self.answers.read_line(&mut line).expect("sqlite3 answers");
            assert!(read > 0, "sqlite3 has ended");
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _status = self.child.wait();
    }
}

#[test]
fn the_history_is_readable_while_written_and_complete() {
    let dir = environment::scratch("sqlite-history");
    let database = dir.join("history.db");
    let tracer = Tracer::run(&dir, &configuration(&database, ""));
    let docker = docker();
    for round in 0..3 {
        run_in(
            &docker,
            &format!("sqlite-history-{round}"),
            &["sh", "-c", "echo hi; ls / >/dev/null; cat /dev/null"],
        );
        let sql = format!(
            "SELECT count(*) FROM history WHERE container = 'sqlite-history-{round}' \
             AND kind = 'process.exec' AND json LIKE '%[\"cat\",\"/dev/null\"]%'"
        );
        wait::until("sqlite3 sees the container's last process", LIMIT, || {
            wait::when(number(&database, &sql) > 0)
        });
        let name = format!("sqlite-history-{round}");
        let found = query(&database, &["--container", &name, "--kind", "process.exec"]);
        assert!(found.iter().any(|event| event.is_exec_of(&["cat", "/dev/null"])), "{found:?}");
    }
    let finished = tracer.stop();
    finished.totals.assert_complete();
    assert_whole(&database);

    let all = query(&database, &[]);
    assert_same(&all, &finished.events);
    assert_eq!(all.len() as u64, finished.totals.handler("history", "out"));
    let ours = |event: &&Event| event.container_name() == Some("sqlite-history-1");
    let execs = |event: &&Event| event.kind() == "process.exec";
    let found = query(&database, &["--container", "sqlite-history-1", "--kind", "process.exec"]);
    assert_same(&found, finished.events.iter().filter(ours).filter(execs));
    let processes = |event: &&Event| event.kind().starts_with("process.");
    let ours = |event: &&Event| ours(event) && processes(event);
    let first = finished.events.iter().filter(ours).map(Event::time).min().expect("an event");
    let last = finished.events.iter().filter(ours).map(Event::time).max().expect("an event");
    let found = query(&database, &["--since", first, "--until", last, "--kind", "process"]);
    let between = |event: &&Event| event.time() >= first && event.time() < last;
    assert_same(&found, finished.events.iter().filter(processes).filter(between));
    let times: Vec<&str> = all.iter().map(Event::time).collect();
    assert!(times.is_sorted(), "in the order of time");
    counts_are_those_of_the_events(&database, &finished.events);
}

#[track_caller]
fn counts_are_those_of_the_events(database: &Path, events: &[Event]) {
    let counts = query(database, &["--count-by", "container.name,kind"]);
    let mut sum = 0;
    for Event(count) in counts {
        let same = events.iter().filter(|event| {
            event.0["kind"] == count["kind"]
                && event.0["container"]["name"] == count["container.name"]
        });
        assert_eq!(count["count"], Value::from(same.count()), "{count}");
        sum += count["count"].as_u64().expect("a count");
    }
    assert_eq!(sum, events.len() as u64);
}

#[test]
fn a_lock_held_by_another_program_costs_no_event() {
    let dir = environment::scratch("sqlite-lock");
    let database = dir.join("history.db");
    let mut tracer = Tracer::run(&dir, &configuration(&database, ""));
    let docker = docker();
    run_in(&docker, "sqlite-lock-before", &["true"]);
    let count = "SELECT count(*) FROM history WHERE container LIKE 'sqlite-lock-%'";
    wait::until("the first are written", LIMIT, || wait::when(number(&database, count) > 0));
    let mut shell = Shell::open(&database);
    shell.say("BEGIN IMMEDIATE;");
    let before = number(&database, "SELECT count(*) FROM events");
    run_in(&docker, "sqlite-lock-during", &["true"]);
    tracer.wait_for("the other chain continues", |events| {
        events.iter().find(|e| e.container_name() == Some("sqlite-lock-during")).map(|_| ())
    });
    assert_eq!(number(&database, "SELECT count(*) FROM events"), before);
    wait::until("the lock is reported", LIMIT, || {
        wait::when(tracer.said().contains("another program has locked it for writing"))
    });
    shell.say("COMMIT;");
    let during = "SELECT count(*) FROM history WHERE container = 'sqlite-lock-during'";
    wait::until("the others are written", LIMIT, || wait::when(number(&database, during) > 0));
    let finished = tracer.stop();
    finished.totals.assert_complete();
    assert_same(&query(&database, &[]), &finished.events);
    let said = &finished.stderr;
    assert!(said.contains("another program has locked it for writing"), "{said}");
    assert!(said.contains("the history is written again after"), "{said}");
    assert_whole(&database);
}

#[test]
fn a_kill_loses_no_committed_event() {
    let dir = environment::scratch("sqlite-kill");
    let database = dir.join("history.db");
    let tracer = Tracer::run(&dir, &configuration(&database, ""));
    let pid = Pid::from_raw(tracer.pid().cast_signed()).expect("a pid");
    let committed = in_an_exec_storm(|| {
        wait::until("some thousand events are committed", LIMIT, || {
            wait::when(number(&database, "SELECT count(*) FROM events") > 2_000)
        });
        // What another program sees is committed. The kill comes in the middle of the next
        // transaction.
        let committed = sqlite3(&database, "SELECT id, json FROM history ORDER BY id");
        kill_process(pid, Signal::KILL).expect("our own child");
        committed
    });
    drop(tracer);
    assert_whole(&database);
    let after = sqlite3(&database, "SELECT id, json FROM history ORDER BY id");
    assert!(after.starts_with(&committed), "every committed event is unchanged");

    let tracer = Tracer::run(&dir, &configuration(&database, ""));
    run_in(&docker(), "sqlite-kill-after", &["true"]);
    let count = "SELECT count(*) FROM history WHERE container = 'sqlite-kill-after'";
    wait::until("the next run writes to it", LIMIT, || wait::when(number(&database, count) > 0));
    let finished = tracer.stop();
    finished.totals.assert_complete();
    let found = query(&database, &[]);
    assert_eq!(found.len(), after.lines().count() + finished.events.len());
    assert_whole(&database);
}

/// A small disk.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf, mebibytes: u32) -> Self {
        fs::create_dir_all(&path).expect("the scratch folder can be written to");
        let options = std::ffi::CString::new(format!("size={mebibytes}m")).expect("no NUL");
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), options.as_c_str())
            .expect("root can mount");
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_reported_and_costs_no_event() {
    let dir = environment::scratch("sqlite-full");
    let disk = SmallDisk::new(dir.join("disk"), 16);
    let database = disk.0.join("history.db");
    let tracer = Tracer::run(&dir, &configuration(&database, "max_size = \"0\""));
    let filler = disk.0.join("filler");
    in_an_exec_storm(|| {
        wait::until("some events are written", LIMIT, || {
            wait::when(number(&database, "SELECT count(*) FROM events") > 100)
        });
        let mut file = fs::File::create(&filler).expect("there is room");
        // Until the disk is full.
        while file.write_all(&[0; 4096]).is_ok() {}
        wait::until("the full disk is reported", LIMIT, || {
            wait::when(tracer.said().contains("the disk is full"))
        });
    });
    fs::remove_file(&filler).expect("our own file");
    wait::until("events are written again", LIMIT, || {
        wait::when(tracer.said().contains("the history is written again after"))
    });
    let finished = tracer.stop();
    finished.totals.assert_complete();
    assert_same(&query(&database, &[]), &finished.events);
    assert_whole(&database);
}

/// Returns the size of a database's files.
fn size(database: &Path) -> u64 {
    ["", "-wal", "-shm"]
        .map(|suffix| format!("{}{suffix}", database.display()))
        .iter()
        .map(|file| fs::metadata(file).map_or(0, |file| file.len()))
        .sum()
}

#[test]
fn the_database_stays_within_max_size_under_load() {
    const MAX: u64 = 4 << 20;
    let dir = environment::scratch("sqlite-size");
    let database = dir.join("history.db");
    let tracer = Tracer::run(&dir, &configuration(&database, "max_size = \"4MiB\""));
    let mut largest = 0;
    in_an_exec_storm(|| {
        wait::until("more was written than has room", LIMIT, || {
            largest = largest.max(size(&database));
            wait::when(number(&database, "SELECT coalesce(min(id), 0) FROM events") > 2_000)
        });
    });
    let finished = tracer.stop();
    finished.totals.assert_complete();
    assert!(largest <= MAX && size(&database) <= MAX, "{largest}");
    assert!(largest > MAX / 2, "the room is used: {largest}");
    let kept = query(&database, &[]);
    let newest = &comparable(&kept);
    let all = comparable(&finished.events);
    assert!(newest.iter().all(|line| all.binary_search(line).is_ok()));
    let last = finished.events.iter().map(Event::time).max().expect("an event");
    assert_eq!(kept.last().map(Event::time), Some(last), "the newest are kept");
    assert_whole(&database);
}
