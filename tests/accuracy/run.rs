//! Whalewatch under a workload, and what it printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use whalewatch_tests::docker::Docker;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::workload::Workload;
use whalewatch_tests::{environment, wait};

use crate::judge::{Ledger, Tally};
use crate::report::Outcome;

/// The workload program, which containers get as well.
pub(crate) const WORKLOAD: &str = "workload";
/// How long all marked processes may take until they have been told.
const LIMIT: Duration = Duration::from_mins(1);

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// For CI.
    Short,
    /// For the figures that are published.
    Long,
}

impl Length {
    /// One or the other.
    pub(crate) fn pick<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

/// What the cases work with.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) length: Length,
    /// Part of the names of those runtimes that are put through their cases.
    pub(crate) runtime: String,
    pub(crate) docker: Docker,
    pub(crate) image: String,
    pub(crate) tar: PathBuf,
    pub(crate) workload: PathBuf,
}

impl Machine {
    /// As `cargo xtask accuracy` has set it up.
    pub(crate) fn of_environment(length: Length, runtime: String) -> Result<Self> {
        let workload = std::env::current_exe()?.with_file_name(WORKLOAD);
        Ok(Self {
            length,
            runtime,
            docker: Docker::at(&environment::docker_socket()),
            image: environment::image(),
            tar: PathBuf::from(environment::get(environment::IMAGE_TAR)),
            workload,
        })
    }

    /// Options for a container that may all that this machine may.
    pub(crate) fn privileged() -> &'static [&'static str] {
        const SYS_RESOURCE: u32 = 24;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bound = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t"));
        let bound = bound.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
        if bound & 1 << SYS_RESOURCE != 0 {
            return &["--privileged"];
        }
        // A machine that lacks a capability cannot give it, and `--privileged` asks for every one.
        &[
            "--cap-add=ALL",
            "--cap-drop=SYS_RESOURCE",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
        ]
    }

    /// The workload program, on the host and in containers.
    pub(crate) fn workload(&self) -> Workload {
        // Once a run: the path is needed for as long as the program runs.
        Workload(Box::leak(self.workload.display().to_string().into_boxed_str()))
    }

    /// The configuration that cases use: every runtime, and what this adds.
    pub(crate) fn config(&self, container: &str, trackers: &str, from: &[&str]) -> String {
        config(self.docker.socket(), container, trackers, from)
    }
}

/// Trackers `procs` and those given, with names from the daemon at that socket.
pub(crate) fn config(socket: &Path, container: &str, trackers: &str, from: &[&str]) -> String {
    let from: Vec<String> = from.iter().map(|name| format!(", {name:?}")).collect();
    format!(
        r#"[container]
endpoint = "unix://{}"
{container}

[trackers.procs]
type = "process"
{trackers}
[handlers.out]
type = "stdout"
format = "json"

[[chains]]
from = ["procs"{}]
through = ["container", "out"]
"#,
        socket.display(),
        from.concat()
    )
}

/// Runs Whalewatch, and `work` beside it, waits until everything marked has been told, and judges.
pub(crate) fn watched(
    runtime: &str,
    name: &str,
    config: &str,
    work: impl FnOnce(&Ledger, &Tracer) -> Result<()>,
) -> Result<Outcome> {
    let dir = environment::scratch(&format!("acc-{name}-{runtime}"));
    let tracer = Tracer::run(&dir, config);
    let ledger = Ledger::default();
    let memory = Memory::sample(tracer.pid());
    let worked = work(&ledger, &tracer);
    let memory = memory.end();
    worked?;
    let out = dir.join("out.json");
    // Late events (summed up each interval, or held for a name) belong to it: it is over when
    // nothing is missing or owed.
    wait::poll(LIMIT, || {
        let settled = |tally: &Tally| tally.missing == 0 && tally.name_never == 0;
        // Its last line may be cut.
        wait::when(ledger.judge(&out, true).is_ok_and(|tally| settled(&tally)))
    });
    let finished = tracer.stop();
    finished.totals.assert_complete();
    let tally = ledger.judge(&out, true)?;
    Ok(Outcome { tally, memory, ..Outcome::of(runtime) })
}

/// A mark and the arguments of a process that carries it and ends at once.
pub(crate) fn true_with(mark: &str) -> [&str; 2] {
    ["/bin/true", mark]
}

/// How much memory a process had resident, once a second.
#[derive(Debug)]
struct Memory {
    stop: Arc<AtomicBool>,
    samples: thread::JoinHandle<Vec<u64>>,
}

impl Memory {
    fn sample(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let samples = thread::spawn(move || {
            let mut samples = Vec::new();
            while !stopped.load(Relaxed) {
                samples.extend(resident(pid));
                thread::sleep(Duration::from_secs(1));
            }
            samples
        });
        Self { stop, samples }
    }

    fn end(self) -> Vec<u64> {
        self.stop.store(true, Relaxed);
        self.samples.join().unwrap_or_default()
    }
}

/// Resident memory in KiB.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
