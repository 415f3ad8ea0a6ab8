//! Tests of the whole handler, with real programs.

use std::fs;
use std::path::Path;

use whalewatch_core::HumanDuration;
use whalewatch_testing::{Bench, Ran, example};

use super::*;

/// The longest time to wait for anything.
const LIMIT: Duration = Duration::from_secs(20);

type Tested = Bench<Exec>;

fn shell(script: &str, dir: &Path) -> ExecOptions {
    ExecOptions {
        directory: Some(dir.to_owned()),
        restart_after: HumanDuration(Duration::from_millis(10)),
        restart_at_most: HumanDuration(Duration::from_millis(10)),
        ..ExecOptions::new(["sh", "-c", script])
    }
}

#[track_caller]
fn bench(options: &ExecOptions) -> Tested {
    Bench::new::<Ran>(options).unwrap()
}

/// Returns events with these pids.
fn batch(pids: std::ops::Range<u32>) -> Batch {
    let event = |pid| {
        let mut event = example();
        event.process.pid = pid;
        event
    };
    Batch::new("procs".into(), pids.map(event).collect())
}

fn pids(path: &Path) -> Vec<u32> {
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["process"]["pid"].as_u64().unwrap() as u32
    };
    fs::read_to_string(path).unwrap_or_default().lines().map(line).collect()
}

/// Runs the handler until `done` returns true.
#[track_caller]
fn until(bench: &mut Tested, mut done: impl FnMut(&mut Tested) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done(bench) {
        assert!(Instant::now() < deadline, "still waiting");
        bench.receive(Duration::from_millis(5)).unwrap();
        bench.flush().unwrap();
    }
}

fn delivered(bench: &Tested) -> u64 {
    bench.count(|c| &c.output)
}

#[test]
fn program_gets_every_line_and_the_end_of_its_input() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(&shell("cat > out; echo end >> log", dir.path()));
    bench.handle(batch(0..3)).unwrap();
    until(&mut bench, |bench| delivered(bench) == 3);
    bench.handle(batch(3..3000)).unwrap();
    bench.end().unwrap();
    assert_eq!(pids(&dir.path().join("out")), (0..3000).collect::<Vec<_>>());
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "end\n");
    assert_eq!(delivered(&bench), 3000);
    assert!(bench.adds_up());
}

#[test]
fn event_counts_as_delivered_when_the_program_has_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = "until [ -e go ]; do sleep 0.01; done; cat > out";
    let mut bench = bench(&shell(script, dir.path()));
    bench.handle(batch(0..5)).unwrap();
    bench.flush().unwrap();
    assert_eq!(delivered(&bench), 0);
    fs::write(dir.path().join("go"), "").unwrap();
    until(&mut bench, |bench| delivered(bench) == 5);
    bench.end().unwrap();
    assert!(bench.adds_up());
}

#[test]
fn next_run_gets_the_lines_that_were_not_read() {
    let dir = tempfile::tempdir().unwrap();
    // `head -c` reads exactly that many bytes, so each run ends in the middle of a line.
    let mut bench = bench(&shell("head -c 5000 > part.$$; mv part.$$ done.$$", dir.path()));
    bench.handle(batch(0..200)).unwrap();
    until(&mut bench, |bench| delivered(bench) > 150);
    bench.end().unwrap();
    assert!(bench.adds_up());
    let mut received = Vec::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        received.extend(text[..whole].lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("a whole line");
            value["process"]["pid"].as_u64().unwrap()
        }));
    }
    received.sort_unstable();
    assert_eq!(received, (0..delivered(&bench)).collect::<Vec<_>>(), "each line is read once");
}

#[test]
fn program_that_ends_while_idle_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench(&shell("echo run >> log; head -n 1 >> out", dir.path()));
    let runs = |dir: &Path| fs::read_to_string(dir.join("log")).unwrap_or_default().lines().count();
    for event in 0..3 {
        bench.handle(batch(event..event + 1)).unwrap();
        until(&mut bench, |_| runs(dir.path()) == event as usize + 2);
    }
    assert_eq!(pids(&dir.path().join("out")), [0, 1, 2]);
    bench.end().unwrap();
    assert!(bench.adds_up());
}

#[test]
fn events_are_dropped_when_the_program_reads_nothing_for_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let options = ExecOptions {
        wait_at_most: HumanDuration(Duration::from_millis(50)),
        ..shell("until [ -e go ]; do sleep 0.01; done; cat > out", dir.path())
    };
    let mut bench = bench(&options);
    bench.handle(batch(0..5000)).unwrap();
    let dropped = bench.count(|c| &c.dropped);
    assert!(dropped > 0);
    fs::write(dir.path().join("go"), "").unwrap();
    bench.end().unwrap();
    assert!(bench.adds_up());
    let received = pids(&dir.path().join("out"));
    assert_eq!(received.len() as u64, delivered(&bench));
    assert!(received.is_sorted_by(|a, b| a < b), "whole lines, in order");
}

#[test]
fn program_that_closes_its_input_is_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let script = "if mkdir first 2>/dev/null; then exec <&-; sleep 1000; else cat > out; fi";
    let mut bench = bench(&shell(script, dir.path()));
    until(&mut bench, |_| dir.path().join("first").exists());
    let mut sent = 0;
    until(&mut bench, |bench| {
        bench.handle(batch(sent..sent + 1)).unwrap();
        sent += 1;
        delivered(bench) > 0
    });
    bench.end().unwrap();
    assert!(bench.adds_up());
    assert_eq!(pids(&dir.path().join("out")), (0..sent).collect::<Vec<_>>());
}

#[test]
fn children_of_an_ended_program_are_killed_before_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    // The child would continue to read its parent's pipe. It needs descriptor 3 because a shell
    // gives /dev/null to commands that it starts with `&`.
    let script = "if mkdir first 2>/dev/null; then exec 3<&0; \
                  (sleep 0.05; cat <&3 > stolen) & exit 1; else cat > out; fi";
    let mut bench = bench(&shell(script, dir.path()));
    bench.handle(batch(0..100)).unwrap();
    until(&mut bench, |bench| delivered(bench) == 100);
    bench.end().unwrap();
    assert_eq!(pids(&dir.path().join("out")), (0..100).collect::<Vec<_>>());
    assert!(!dir.path().join("stolen").exists());
}

#[test]
fn program_that_does_not_end_is_terminated_and_then_killed() {
    let dir = tempfile::tempdir().unwrap();
    for (script, min) in [
        ("trap 'echo TERM > log; exit' TERM; while :; do sleep 0.01; done", Duration::ZERO),
        ("trap '' TERM; while :; do sleep 0.01; done", AFTER_TERM),
    ] {
        let options = ExecOptions {
            end_within: HumanDuration(Duration::from_millis(50)),
            ..shell(script, dir.path())
        };
        let mut bench = bench(&options);
        bench.handle(batch(0..10)).unwrap();
        bench.flush().unwrap();
        let start = Instant::now();
        bench.end().unwrap();
        assert!(start.elapsed() >= min && start.elapsed() < LIMIT);
        assert_eq!((delivered(&bench), bench.count(|c| &c.dropped)), (0, 10));
    }
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "TERM\n");
}

#[test]
fn dropped_handler_kills_its_program() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(&shell("echo $$ > pid; mv pid pid.done; sleep 1000", dir.path()));
    let file = dir.path().join("pid.done");
    let deadline = Instant::now() + LIMIT;
    while !file.exists() {
        assert!(Instant::now() < deadline, "still waiting");
        thread::sleep(Duration::from_millis(5));
    }
    let pid = fs::read_to_string(file).unwrap();
    drop(bench);
    assert!(!Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn program_inherits_only_the_standard_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    // This descriptor would be inherited.
    let file = fs::File::create(dir.path().join("secret")).unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let mut bench = bench(&shell("ls -l /proc/$$/fd > out; cat > lines", dir.path()));
    bench.handle(batch(0..1)).unwrap();
    bench.end().unwrap();
    let open = fs::read_to_string(dir.path().join("out")).unwrap();
    assert!(!open.contains("secret"), "{open}");
    let numbers = open.lines().filter_map(|line| line.split_whitespace().nth(8));
    assert!(numbers.clone().count() >= 3, "{open}");
    // A shell may open a descriptor of at least 10 for itself.
    assert!(numbers.filter(|n| n.parse::<u32>().is_ok_and(|n| n < 10)).all(|n| n < "3"), "{open}");
}

#[test]
fn missing_program_is_an_error_at_the_start() {
    let problems =
        Bench::<Exec>::new::<Ran>(&ExecOptions::new(["/nonexistent/program"])).err().unwrap();
    let message = &problems[0].message;
    assert!(message.contains("/nonexistent/program") && message.contains("installed"), "{message}");
}

#[test]
fn program_that_is_removed_later_is_retried_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let write = |body: &str| {
        let aside = dir.path().join("aside");
        fs::copy("/bin/sh", &aside).unwrap();
        fs::write(dir.path().join("script"), body).unwrap();
        fs::rename(aside, &program).unwrap();
    };
    write("head -n 1 >> out");
    let command = [program.to_str().unwrap(), "script"].map(str::to_owned);
    let mut bench = bench(&ExecOptions { command: command.into(), ..shell("", dir.path()) });
    bench.handle(batch(0..1)).unwrap();
    until(&mut bench, |bench| delivered(bench) == 1);
    fs::remove_file(&program).unwrap();
    until(&mut bench, |bench| matches!(bench.handler().state, State::Down(_)));
    bench.handle(batch(1..5)).unwrap();
    bench.flush().unwrap();
    write("cat >> out");
    until(&mut bench, |bench| delivered(bench) == 5);
    bench.end().unwrap();
    assert_eq!(pids(&dir.path().join("out")), [0, 1, 2, 3, 4]);
}
