//! A stop in the middle of the work loses nothing, and the totals say so.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use whalewatch_tests::tracer::{Finished, Tracer};
use whalewatch_tests::{config, environment, wait};

/// Runs `body` while processes start on the host as fast as they can.
fn in_an_exec_storm<T>(body: impl FnOnce() -> T) -> T {
    let go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while go_on.load(Relaxed) {
                    Command::new("/bin/true").status().expect("/bin/true can be started");
                }
            });
        }
        // Also when the body panics, or the storm would never end.
        let _calm = Calm(&go_on);
        body()
    })
}

struct Calm<'a>(&'a AtomicBool);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

fn tracer(test: &str) -> Tracer {
    let config = config::json_chain_with_docker(&environment::docker_socket());
    Tracer::run(&environment::scratch(test), &config)
}

#[track_caller]
fn assert_all_accounted_for(finished: &Finished) {
    finished.totals.assert_conserved();
    finished.totals.assert_nothing_vanished("procs", &["container", "out"]);
    let printed = u64::try_from(finished.events.len()).expect("fits");
    assert_eq!(finished.totals.handler("out", "out"), printed, "every line was counted");
    assert!(printed > 0);
}

#[test]
fn sigterm_in_an_exec_storm_loses_nothing() {
    let mut tracer = tracer("storm");
    let finished = in_an_exec_storm(|| {
        tracer.wait_for("the storm is on", |events| wait::when(events.len() > 5_000));
        tracer.stop()
    });
    assert_all_accounted_for(&finished);
    finished.totals.assert_complete();
}

#[test]
fn sigint_stops_as_sigterm_does() {
    let mut tracer = tracer("interrupt");
    let finished = in_an_exec_storm(|| {
        tracer.wait_for("the storm is on", |events| wait::when(events.len() > 500));
        let pid = Pid::from_raw(tracer.pid().cast_signed()).expect("no pid is 0");
        kill_process(pid, Signal::INT).expect("our own child can be signalled");
        tracer.finish()
    });
    assert_all_accounted_for(&finished);
}

#[test]
fn totals_are_printed_on_standard_error() {
    let finished = tracer("totals").stop();
    let said = &finished.stderr;
    assert!(said.lines().any(|line| line.starts_with("watching: ")), "{said}");
    assert!(said.contains("lost"), "the totals name what was lost: {said}");
}
