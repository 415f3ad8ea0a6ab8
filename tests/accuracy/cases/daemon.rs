//! A dockerd of the case's own: killed, hung, started again, also with its socket elsewhere.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use whalewatch_tests::dockerd::Dockerd;
use whalewatch_tests::environment;
use whalewatch_tests::output::Event;

use super::churn::host_true;
use crate::engine::{Cli, Engine as _};
use crate::judge::{Ledger, Truth};
use crate::report::Outcome;
use crate::run::{Machine, config, watched};

const CASE: &str = "daemon";

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    // A short name: Unix sockets lie below.
    let mut daemon = Dockerd::start(&environment::scratch("ad"))?;
    daemon.import(&machine.tar, &machine.image)?;
    // What everybody is told is a link: a daemon that is replaced may come with its socket
    // elsewhere.
    let link = environment::scratch("al").join("docker.sock");
    symlink(daemon.socket(), &link)?;
    let engine = Cli::docker_at(&link, &machine.image);
    let config = config(&link, "", "", &[]);
    let hung = Duration::from_secs(machine.length.pick(3, 30));
    let mut outcome = watched("docker", CASE, &config, |ledger, _| {
        let rounds = 0..machine.length.pick(2, 5);
        rounds.into_iter().try_for_each(|round| {
            let name = format!("daemon-{round}");
            begin(&engine, ledger, &name)?;
            faults(&mut daemon, ledger, hung)?;
            come_again(&mut daemon, &link, round)?;
            news(&engine, ledger, round)?;
            engine.remove(&name)
        })
    })?;
    outcome.figures = delays(&daemon, &config, Duration::from_secs(machine.length.pick(1, 30)))?;
    Ok(vec![outcome])
}

/// A container that goes on, whatever the daemon does.
fn begin(engine: &Cli, ledger: &Ledger, name: &str) -> Result<()> {
    let mark = ledger.mark(CASE, name);
    let script = format!("while :; do /bin/true {mark}; usleep 50000; done");
    let id = engine.start(name, &["/bin/sh", "-c", &script])?;
    ledger.enter(&mark, Truth::container(&id, name));
    Ok(())
}

/// The daemon hangs, goes on, and dies.
fn faults(daemon: &mut Dockerd, ledger: &Ledger, hung: Duration) -> Result<()> {
    {
        let _hung = Hung::new(daemon)?;
        busy(ledger, hung)?;
    }
    daemon.crash()?;
    busy(ledger, Duration::from_millis(500))
}

/// It comes again: where it was, or with another socket.
fn come_again(daemon: &mut Dockerd, link: &Path, round: u32) -> Result<()> {
    if round.is_multiple_of(2) {
        daemon.start_again_at(&format!("{round}.sock"))?;
        let new = link.with_extension("new");
        symlink(daemon.socket(), &new)?;
        fs::rename(new, link)?;
        return Ok(());
    }
    daemon.start_again()
}

/// Containers that only the daemon that came again can name.
fn news(engine: &Cli, ledger: &Ledger, round: u32) -> Result<()> {
    for at in 0..3 {
        let name = format!("again-{round}-{at}");
        let mark = ledger.mark(CASE, &name);
        let id = engine.run(&name, &["/bin/true", &mark])?;
        ledger.enter(&mark, Truth::container(&id, &name));
    }
    Ok(())
}

/// Marked processes on the host for so long.
fn busy(ledger: &Ledger, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        host_true(ledger, CASE)?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A daemon that neither answers nor ends while this is there.
struct Hung(Pid);

impl Hung {
    fn new(daemon: &Dockerd) -> Result<Self> {
        let pid = Pid::from_raw(daemon.pid().cast_signed()).context("no pid is 0")?;
        kill_process(pid, Signal::STOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        if let Err(error) = kill_process(self.0, Signal::CONT) {
            eprintln!("dockerd stays stopped: {error}");
        }
    }
}

/// How late the host's events are printed, with a daemon that answers and with one that hangs, in
/// turns.
fn delays(
    daemon: &Dockerd,
    config: &str,
    time: Duration,
) -> Result<Vec<(String, f64, &'static str)>> {
    let (mut free, mut hung) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        free.push(delay(config, time)?);
        let _hung = Hung::new(daemon)?;
        hung.push(delay(config, time)?);
    }
    let ms = |of: &mut Vec<Duration>| {
        of.sort();
        of[of.len() / 2].as_secs_f64() * 1e3
    };
    let (free, hung) = (ms(&mut free), ms(&mut hung));
    Ok(vec![
        ("99.9th percentile of delay on the host, daemon answers".into(), free, "ms"),
        ("the same, daemon hangs".into(), hung, "ms"),
    ])
}

/// The 99.9th percentile of the time between an event and its line, over a run of that length.
fn delay(config: &str, time: Duration) -> Result<Duration> {
    let dir = environment::scratch("acc-delay");
    let file = dir.join("config.toml");
    fs::write(&file, config)?;
    let mut command = Command::new(environment::program());
    command.arg("run").arg("--config").arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("it is a pipe")?).lines();
    let reader = thread::spawn(move || {
        let late = |line: String| late_by(&line, Timestamp::now());
        lines.map_while(Result::ok).filter_map(late).collect::<Vec<_>>()
    });
    busy(&Ledger::default(), time)?;
    let pid = Pid::from_raw(child.id().cast_signed()).context("no pid is 0")?;
    kill_process(pid, Signal::TERM)?;
    child.wait()?;
    let mut delays = reader.join().expect("it does not panic");
    delays.sort();
    let at = delays.len().saturating_sub(1) * 999 / 1000;
    delays.get(at).copied().context("no event was printed")
}

/// How late the line of a host's event is; nothing for what ran at the start, whose time is not
/// now.
fn late_by(line: &str, now: Timestamp) -> Option<Duration> {
    let event = Event(serde_json::from_str::<Value>(line).ok()?);
    if event.state() != "host" || event.kind() == "process.existing" {
        return None;
    }
    let time: Timestamp = event.time().parse().ok()?;
    Duration::try_from(now.duration_since(time)).ok()
}
