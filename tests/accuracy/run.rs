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
/// How long it may take until all marked processes are reported.
const LIMIT: Duration = Duration::from_mins(1);

/// How much work a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// For CI.
    Short,
    /// For the figures that are published.
    Long,
}

impl Length {
    /// Returns the value for this length.
    pub(crate) fn pick<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

/// The set-up for the cases.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) length: Length,
    /// Runtimes whose names contain this run.
    pub(crate) runtime: String,
    pub(crate) docker: Docker,
    pub(crate) image: String,
    pub(crate) tar: PathBuf,
    pub(crate) workload: PathBuf,
}

impl Machine {
    /// Reads the set-up of `cargo xtask accuracy`.
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

    /// Returns options for a container with all privileges that this machine has.
    pub(crate) fn privileged() -> &'static [&'static str] {
        const SYS_RESOURCE: u32 = 24;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bound = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t"));
        let bound = bound.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
        if bound & 1 << SYS_RESOURCE != 0 {
            return &["--privileged"];
        }
        // A machine cannot give a capability that it lacks, and `--privileged` requires all.
        &[
            "--cap-add=ALL",
            "--cap-drop=SYS_RESOURCE",
            "--security-opt=seccomp=unconfined",
            "--security-opt=apparmor=unconfined",
        ]
    }

    /// Returns the workload program, for the host and for containers.
    pub(crate) fn workload(&self) -> Workload {
        // Leaked once a run: the path is needed as long as the program runs.
        Workload(Box::leak(self.workload.display().to_string().into_boxed_str()))
    }

    /// Returns the cases' configuration: every runtime, and additional options and trackers.
    pub(crate) fn config(&self, container: &str, trackers: &str, from: &[&str]) -> String {
        config(self.docker.socket(), container, trackers, from)
    }
}

/// Returns a configuration of the tracker `procs` and the given ones, with the dockerd at `socket`.
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

/// Runs Whalewatch and `work`, waits until all marked processes are reported, and judges.
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
    // Some events come late (sums of an interval, events that wait for a name), so wait until no
    // process and no name is missing.
    wait::poll(LIMIT, || {
        let settled = |tally: &Tally| tally.missing == 0 && tally.name_never == 0;
        // The last line may be incomplete.
        wait::when(ledger.judge(&out, true).is_ok_and(|tally| settled(&tally)))
    });
    let finished = tracer.stop();
    finished.totals.assert_complete();
    let tally = ledger.judge(&out, true)?;
    Ok(Outcome { tally, memory, ..Outcome::of(runtime) })
}

/// Returns the arguments of a process that carries a mark and exits at once.
pub(crate) fn true_with(mark: &str) -> [&str; 2] {
    ["/bin/true", mark]
}

/// Samples the anonymous memory of a process once a second.
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
                samples.extend(anonymous(pid));
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

/// Returns the anonymous resident memory, in KiB. Pages of the program's file and the ring buffers
/// do not count: the number of the former depends on the build profile.
fn anonymous(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse().ok()
}
