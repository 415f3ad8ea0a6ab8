//! The measurements of `cargo xtask bench`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use whalewatch_tests::docker::Docker;
use whalewatch_tests::dockerd::Dockerd;
use whalewatch_tests::tracer::Tracer;
use whalewatch_tests::{config, sweep, wait};

use crate::bench::{Aim, Figure, median};
use crate::machine::{self, Mounts};
use crate::paths;
use crate::programs::{Counting, Ran};
use crate::steps::{IMAGE, cargo};

/// How long wake-ups are counted while nothing happens.
const IDLE: Duration = Duration::from_secs(5);
/// How many starts are timed.
const STARTS: usize = 11;
/// The drain timer's default, 10 ms. No other timer may wake an idle Whalewatch.
const DRAINS_PER_SECOND: f64 = 100.0;

/// The set-up for measuring. Dropping it removes what it started.
#[derive(Debug)]
pub(crate) struct Bench {
    config: String,
    dir: PathBuf,
    dockerd: Dockerd,
    _mounts: Mounts,
}

impl Bench {
    pub(crate) fn prepare() -> Result<Self> {
        let build = cargo(&["build", "--profile", "dist", "--package", "whalewatch"]).status()?;
        ensure!(build.success(), "the program does not build");
        let mut mounts = Mounts::default();
        mounts.mount_missing()?;
        let scratch = paths::target().join("bench");
        sweep::sweep(&scratch.join("d"))?;
        let dockerd = Dockerd::start(&scratch.join("d"))
            .context("`cargo xtask test --only packages` installs missing packages")?;
        dockerd.import(&machine::image_tar(&scratch)?, IMAGE)?;
        let dir = scratch.join("t");
        fs::create_dir_all(&dir)?;
        let config = config::json_chain_with_docker(&dockerd.socket());
        Ok(Self { config, dir, dockerd, _mounts: mounts })
    }

    /// Runs `count` short containers, 8 at once.
    fn run_containers(&self, count: usize) -> Result<()> {
        const LANES: usize = 8;
        let client = self.dockerd.client();
        thread::scope(|scope| {
            let lane = || (0..count / LANES).try_for_each(|_| run_true(&client));
            let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
            lanes.into_iter().try_for_each(|lane| lane.join().expect("a lane does not panic"))
        })
    }

    fn tracer(&self) -> Tracer {
        self.tracer_with(&self.config)
    }

    fn tracer_with(&self, config: &str) -> Tracer {
        Tracer::start(&paths::packaged_program(), &self.dir, config)
    }

    /// Returns a configuration of one chain with one tracker.
    fn config_of(&self, tracker: &str, options: &str) -> String {
        let table = format!("[trackers.{tracker}]\ntype = \"{tracker}\"\n{options}\n");
        config::chain_of(&self.dockerd.socket(), &table, &[tracker])
    }
}

fn run_true(client: &Docker) -> Result<()> {
    client.run(&["run", "--rm", IMAGE, "/bin/true"]).map(drop)
}

/// Measures the time from start to watching.
pub(crate) fn starting(bench: &Bench) -> Figure {
    let mut seconds = Vec::new();
    for _ in 0..STARTS {
        let begin = Instant::now();
        let tracer = bench.tracer();
        seconds.push(begin.elapsed().as_secs_f64());
        tracer.stop();
    }
    let value = median(seconds);
    Figure { name: "start to watching", value, unit: "s", aim: Aim::AtMost(0.2) }
}

/// Measures wake-ups while nothing happens.
pub(crate) fn idling(bench: &Bench) -> Result<Figure> {
    let tracer = bench.tracer();
    let before = switches(tracer.pid())?;
    let begin = Instant::now();
    thread::sleep(IDLE);
    let wakeups = (switches(tracer.pid())? - before) as f64 / begin.elapsed().as_secs_f64();
    tracer.stop();
    // Each drain is one wake-up. A twentieth more is allowed for other programs on the machine.
    let aim = Aim::AtMost(DRAINS_PER_SECOND * 1.05);
    Ok(Figure { name: "wake-ups when idle", value: wakeups, unit: "per s", aim })
}

/// Measures the memory that short-lived containers leave. It must not grow with their number.
pub(crate) fn containers_come_and_go(bench: &Bench) -> Result<Vec<Figure>> {
    const FIRST: usize = 24;
    const MORE: usize = 400;
    let mut tracer = bench.tracer();
    bench.run_containers(FIRST)?;
    wait_until_calm(&mut tracer);
    let before = Memory::of(tracer.pid())?.now;
    bench.run_containers(MORE)?;
    wait_until_calm(&mut tracer);
    let after = Memory::of(tracer.pid())?.now;
    tracer.stop();
    let figure = |name, value, aim| Figure { name, value, unit: "MB", aim };
    Ok(vec![
        figure("memory after 424 short containers", after, Aim::AtMost(25.0)),
        // Removed containers are remembered for a while, for late events.
        figure("of that, grown over the last 400", after - before, Aim::AtMost(4.0)),
    ])
}

/// A workload and the tracker that watches it.
struct Watched<'a> {
    workload: &'a str,
    tracker: &'a str,
    config: String,
}

/// The measurements of a workload's rounds.
#[derive(Debug, Default)]
struct Rounds {
    bare: Vec<f64>,
    ratios: Vec<f64>,
    cpu: f64,
    delivered: u64,
    lost: u64,
    resident: Memory,
}

/// Memory in MB: now, and its peak.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    now: f64,
    peak: f64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let file = format!("/proc/{pid}/status");
        let megabytes = |name| Ok::<_, anyhow::Error>(status_number(&file, name)? as f64 * 1024e-6);
        Ok(Self { now: megabytes("VmRSS")?, peak: megabytes("VmHWM")? })
    }

    fn max(self, other: Self) -> Self {
        Self { now: self.now.max(other.now), peak: self.peak.max(other.peak) }
    }
}

impl Rounds {
    fn run(bench: &Bench, watched: &Watched<'_>, count: &str, rounds: usize) -> Result<Self> {
        let workload = watched.workload;
        let mut all = Self::default();
        // The first run warms caches and is not counted.
        time(workload, count)?;
        for round in 0..rounds {
            // They take turns at being first, so that neither profits from the other's caches.
            let (bare, traced) = if round % 2 == 0 {
                let bare = time(workload, count)?;
                (bare, all.traced(bench, watched, count)?)
            } else {
                let traced = all.traced(bench, watched, count)?;
                (time(workload, count)?, traced)
            };
            all.bare.push(bare);
            all.ratios.push(traced / bare);
        }
        Ok(all)
    }

    fn traced(&mut self, bench: &Bench, watched: &Watched<'_>, count: &str) -> Result<f64> {
        let mut tracer = bench.tracer_with(&watched.config);
        let before = cpu_seconds(tracer.pid())?;
        let time = time(watched.workload, count)?;
        wait_until_calm(&mut tracer);
        self.cpu += cpu_seconds(tracer.pid())? - before;
        self.resident = self.resident.max(Memory::of(tracer.pid())?);
        let finished = tracer.stop();
        self.delivered += finished.totals.tracker(watched.tracker, "delivered");
        self.lost += finished.totals.tracker(watched.tracker, "lost");
        Ok(time)
    }
}

/// Measures what watching processes costs them and Whalewatch.
pub(crate) fn paired_workloads(bench: &Bench, rounds: usize) -> Result<Vec<Figure>> {
    let by = |workload| Watched { workload, tracker: "procs", config: bench.config.clone() };
    let spawn = Rounds::run(bench, &by("spawn"), "3000", rounds)?;
    let fork = Rounds::run(bench, &by("fork"), "10000", rounds)?;
    let figure = |name, value, unit, aim| Figure { name, value, unit, aim };
    let cpu = (spawn.cpu + fork.cpu) * 1e6 / (spawn.delivered + fork.delivered) as f64;
    let resident = spawn.resident.max(fork.resident);
    Ok(vec![
        figure("3,000 × spawn and exec, bare", median(spawn.bare), "s", Aim::None),
        figure(
            "3,000 × spawn and exec, watched",
            median(spawn.ratios),
            "× bare",
            Aim::AtMost(1.05),
        ),
        figure("10,000 × fork and exit, bare", median(fork.bare), "s", Aim::None),
        figure("10,000 × fork and exit, watched", median(fork.ratios), "× bare", Aim::AtMost(1.08)),
        figure("own CPU for a million events", cpu, "s", Aim::AtMost(5.0)),
        figure("events delivered", (spawn.delivered + fork.delivered) as f64, "", Aim::None),
        figure("events lost", (spawn.lost + fork.lost) as f64, "", Aim::AtMost(0.0)),
        figure("resident memory", resident.now, "MB", Aim::AtMost(25.0)),
        figure("resident memory, at its peak", resident.peak, "MB", Aim::None),
    ])
}

/// Measures what watching files costs processes that open them, in scope and out of it.
pub(crate) fn opening_files(bench: &Bench, rounds: usize) -> Result<Vec<Figure>> {
    const COUNT: &str = "300000";
    let by = |options| Watched {
        workload: "open",
        tracker: "files",
        config: bench.config_of("files", options),
    };
    let watched = Rounds::run(bench, &by(""), COUNT, rounds)?;
    let outside =
        Rounds::run(bench, &by("scope = { containers = [\"no-such-name\"] }"), COUNT, rounds)?;
    // The same kernel program, which returns at once: none of the calls that it handles is made.
    let elsewhere = Rounds::run(bench, &by("opens = false"), COUNT, rounds)?;
    let figure = |name, value, unit, aim| Figure { name, value, unit, aim };
    let cpu = watched.cpu * 1e6 / watched.delivered as f64;
    let (elsewhere, outside) = (median(elsewhere.ratios), median(outside.ratios));
    Ok(vec![
        figure("300,000 × open and close, bare", median(watched.bare), "s", Aim::None),
        figure(
            "the same, each reported with its true path",
            median(watched.ratios),
            "× bare",
            Aim::AtMost(1.6),
        ),
        figure("the same, with other calls watched", elsewhere, "× bare", Aim::None),
        figure(
            "the same, in a container out of scope",
            outside,
            "× bare",
            Aim::AtMost(elsewhere + 0.05),
        ),
        figure("own CPU for a million opens", cpu, "s", Aim::AtMost(5.0)),
        figure("opens lost", watched.lost as f64, "", Aim::AtMost(0.0)),
    ])
}

/// Measures what watching connections and system calls costs the processes that make them.
pub(crate) fn connecting_and_calling(bench: &Bench, rounds: usize) -> Result<Vec<Figure>> {
    let by =
        |workload, tracker| Watched { workload, tracker, config: bench.config_of(tracker, "") };
    let tcp = Rounds::run(bench, &by("tcp", "network"), "20000", rounds)?;
    let calls = Rounds::run(bench, &by("calls", "syscalls"), "1000000", rounds)?;
    let figure = |name, value, unit, aim| Figure { name, value, unit, aim };
    let cpu = tcp.cpu * 1e6 / tcp.delivered as f64;
    Ok(vec![
        figure("20,000 × connect, accept and close, bare", median(tcp.bare), "s", Aim::None),
        figure("the same, each end reported", median(tcp.ratios), "× bare", Aim::AtMost(1.15)),
        figure("own CPU for a million network events", cpu, "s", Aim::AtMost(5.0)),
        figure("network events lost", tcp.lost as f64, "", Aim::AtMost(0.0)),
        figure(
            "1,000,000 × a system call that does nothing, bare",
            median(calls.bare),
            "s",
            Aim::None,
        ),
        figure("the same, counted and timed", median(calls.ratios), "× bare", Aim::None),
    ])
}

/// Measures Whalewatch's own CPU time for events whose rate does not matter.
pub(crate) fn telling(bench: &Bench, rounds: usize) -> Result<Vec<Figure>> {
    const CALLS: &str = "stats = false\ncalls = [\"getppid\"]";
    [
        ("own CPU for a million system calls one by one", "calls", "syscalls", CALLS, "300000"),
        ("own CPU for a million signals", "signals", "signals", "", "200000"),
        ("own CPU for a million changes of the user", "setuid", "privilege", "", "200000"),
        ("own CPU for a million mounts and umounts", "mounts", "mounts", "", "10000"),
    ]
    .into_iter()
    .map(|(name, workload, tracker, options, count)| {
        let config = bench.config_of(tracker, options);
        let mut all = Rounds::default();
        for _ in 0..rounds {
            all.traced(bench, &Watched { workload, tracker, config: config.clone() }, count)?;
        }
        let value = all.cpu * 1e6 / all.delivered as f64;
        Ok(Figure { name, value, unit: "s", aim: Aim::AtMost(5.0) })
    })
    .collect()
}

/// Measures kernel programs whose events are rare.
pub(crate) fn in_the_kernel(bench: &Bench) -> Result<Vec<Figure>> {
    let _counting = Counting::begin()?;
    // Returns the kernel program's runs during the workload, and the events delivered.
    let ran = |tracker, program, workload, count| {
        let mut tracer = bench.tracer_with(&bench.config_of(tracker, ""));
        let before = Ran::of(tracer.pid(), program)?;
        time(workload, count)?;
        wait_until_calm(&mut tracer);
        let ran = Ran::of(tracer.pid(), program)?.since(before);
        let delivered = tracer.stop().totals.tracker(tracker, "delivered");
        Ok::<_, anyhow::Error>((ran, delivered))
    };
    let (others, _) = ran("mounts", "mounts_exit", "calls", "1000000")?;
    let (mounts, reported) = ran("mounts", "mounts_exit", "mounts", "10000")?;
    // The kernel program runs at every system call: the cost of other calls is subtracted.
    let of_others = (mounts.calls - reported) as f64 * others.mean();
    let (kills, _) = ran("oom", "oom_kill", "oom", "20")?;
    let figure = |name, value| Figure { name, value, unit: "ns a call", aim: Aim::None };
    Ok(vec![
        figure("mounts: any other call", others.mean()),
        figure(
            "mounts: a mount or umount",
            (mounts.nanoseconds as f64 - of_others) / reported as f64,
        ),
        figure("oom: a kill", kills.mean()),
    ])
}

/// Runs a workload in a separate process. Returns its time in seconds.
fn time(workload: &str, count: &str) -> Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    let done = command.args(["workload", workload, count]).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let nanoseconds: f64 = String::from_utf8_lossy(&done.stdout).trim().parse()?;
    Ok(nanoseconds / 1e9)
}

/// Waits until nothing more is printed, so that all events of the workload are handled.
fn wait_until_calm(tracer: &mut Tracer) {
    const CALM: Duration = Duration::from_millis(200);
    let mut printed = tracer.printed();
    let mut since = Instant::now();
    wait::poll(Duration::from_secs(10), || {
        let now = tracer.printed();
        if now != printed {
            (printed, since) = (now, Instant::now());
        }
        wait::when(since.elapsed() > CALM)
    });
}

/// Returns the user and system time of a process, in seconds.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields 3 and on come after the command name, which may contain blanks; utime and stime are
    // fields 14 and 15.
    let (_, rest) = stat.rsplit_once(')').context("no command name in stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn status_number(file: &str, name: &str) -> Result<u64> {
    let status = fs::read_to_string(file)?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let number = line.trim_start_matches(':').split_whitespace().next();
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no {name} in {file}"))
}

/// Returns how often a process's threads went to sleep voluntarily, and so were woken.
fn switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let file = task?.path().join("status");
        sum += status_number(&file.to_string_lossy(), "voluntary_ctxt_switches")?;
    }
    Ok(sum)
}

/// Measures throughput from a scripted source through the container manager and a filter to a null
/// handler.
pub(crate) fn pipeline() -> Result<Figure> {
    const CHAIN: &str = "container, filter, null";
    let mut command = cargo(&["bench", "--quiet", "--profile", "dist", "--package", "whalewatch"]);
    let done = command.args(["--bench", "pipeline", "--", CHAIN]).output()?;
    let output = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "failed: {}", String::from_utf8_lossy(&done.stderr));
    let rate = output.lines().find_map(throughput);
    let rate = rate.with_context(|| format!("the benchmark prints no throughput: {output}"))?;
    let value = rate / 1e6;
    let aim = Aim::AtLeast(5.0);
    Ok(Figure { name: "scripted source to null", value, unit: "M events/s", aim })
}

/// Returns the middle estimate of a line such as `thrpt: [4.1 Melem/s 4.2 Melem/s 4.3 Melem/s]`, in
/// elements a second.
fn throughput(line: &str) -> Option<f64> {
    let words = line.trim().strip_prefix("thrpt:")?.trim().trim_matches(['[', ']']);
    let words: Vec<&str> = words.split_whitespace().collect();
    let scale = match *words.get(3)? {
        "elem/s" => 1.0,
        "Kelem/s" => 1e3,
        "Melem/s" => 1e6,
        "Gelem/s" => 1e9,
        _ => return None,
    };
    Some(words[2].parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_is_the_middle_estimate() {
        let line = "                        thrpt:  [4.1 Melem/s 4.2 Melem/s 4.3 Melem/s]";
        assert!(throughput(line).is_some_and(|rate| (rate - 4.2e6).abs() < 1.0));
        assert_eq!(throughput("time:   [1.2 s 1.3 s 1.4 s]"), None);
    }
}
