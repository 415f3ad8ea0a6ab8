//! Checks of the events of a guest's workload (see `guest.sh`).

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use whalewatch_tests::output::Event;

use super::checks::{Outcome, ended_well};
use super::report::Report;

/// The beginning of each command's last argument.
const NONCE: &str = "whalewatch-kernels-";

/// Ids of the container that was there before, and of the one that came and went: 64 times one
/// digit.
const OLD: char = '1';
const NEW: char = '2';

type Check = fn(&[Event]) -> Result<()>;

const CHECKS: [(&str, Check); 5] = [
    ("fork, exec and exit, in their order", order),
    ("exit codes and signals", ends),
    ("pids inside a namespace", namespaces),
    ("a container that comes and goes", new_container),
    ("a container that was there before", old_container),
];

pub(super) fn all(report: &Report) -> Vec<Outcome> {
    let check = |check: Check| check(&report.events("whole")?);
    let mut outcomes: Vec<Outcome> =
        CHECKS.iter().map(|(name, what)| ((*name).to_owned(), check(*what))).collect();
    outcomes.push(("totals add up, nothing lost".to_owned(), ended_well(report, "whole")));
    outcomes
}

/// Checks the smallest workload: one command on the host.
pub(super) fn single_echo(report: &Report, case: &str) -> Result<()> {
    let events = report.events(case)?;
    let echo = Life::of(&events, "echo")?;
    echo.is(&["process.fork", "process.exec", "process.exit"])?;
    echo.ended_with("code", 0)?;
    // Which evidence there is depends on the case.
    echo.0.iter().try_for_each(|event| {
        ensure!(event.state() == "host", "not attributed to the host: {}", event.0);
        Ok(())
    })
}

fn order(events: &[Event]) -> Result<()> {
    for name in ["plain", "three", "killed", "child", "second"] {
        Life::of(events, name)?.is(&["process.fork", "process.exec", "process.exit"])?;
    }
    // Shells that exec another program.
    for name in ["container", "first"] {
        let kinds = ["process.fork", "process.exec", "process.exec", "process.exit"];
        Life::of(events, name)?.is(&kinds)?;
    }
    let plain = Life::of(events, "plain")?;
    let args = [String::from("/bin/echo"), format!("{NONCE}plain")];
    ensure!(plain.0[1].args() == args, "its arguments: {}", plain.0[1].0);
    ensure!(plain.0[1].0["process"]["executable"]["path"] == "/bin/echo", "{}", plain.0[1].0);
    ensure!(plain.0.is_sorted_by_key(|event| event.time()), "times go backwards");
    Ok(())
}

fn ends(events: &[Event]) -> Result<()> {
    for (name, how, number) in
        [("plain", "code", 0), ("three", "code", 3), ("killed", "signal", 9), ("first", "code", 4)]
    {
        Life::of(events, name)?.ended_with(how, number)?;
    }
    Ok(())
}

fn namespaces(events: &[Event]) -> Result<()> {
    let spaces = |life: &Life<'_>| life.last()["namespaces"]["pid"].clone();
    let outside = Life::of(events, "plain")?;
    for (name, number) in [("first", 1), ("second", 2)] {
        let life = Life::of(events, name)?;
        for Event(event) in &life.0 {
            ensure!(event["process"]["vpid"] == number, "vpid is {number}: {event}");
        }
        ensure!(spaces(&life) != spaces(&outside), "not in a separate namespace: {}", life.last());
    }
    let process = outside.last();
    ensure!(
        process["vpid"] == process["pid"],
        "outside a namespace both pids must be equal: {process}"
    );
    Ok(())
}

fn new_container(events: &[Event]) -> Result<()> {
    let child = Life::of(events, "child")?;
    let container = Life::of(events, "container")?;
    // The first two events are from before the shell entered the container.
    for event in child.0.iter().chain(&container.0[2..]) {
        is_in(event, NEW)?;
    }
    for event in &container.0[..2] {
        ensure!(
            event.state() == "host",
            "not attributed to the host before it entered: {}",
            event.0
        );
    }
    for kind in ["container.found", "container.gone", "cgroup.mkdir", "cgroup.rmdir"] {
        let has_id =
            |event: &&Event| event.kind() == kind && event.container_id() == Some(&id(NEW));
        ensure!(events.iter().filter(has_id).count() == 1, "one {kind} of {}", id(NEW));
    }
    // No other process may be attributed to it.
    let shown = events.iter().filter(|event| event.container_id() == Some(&id(NEW)));
    let processes = shown.filter(|event| event.key().is_some()).count();
    ensure!(processes == 5, "{processes} process events instead of 5 in {}", id(NEW));
    Ok(())
}

fn old_container(events: &[Event]) -> Result<()> {
    let has_id = |event: &&Event| event.container_id() == Some(&id(OLD)) && event.key().is_some();
    let mut shown = events.iter().filter(has_id);
    let (Some(exit), None) = (shown.next(), shown.next()) else {
        bail!("expected one process event in {}: the exit of `sleep`", id(OLD))
    };
    is_in(exit, OLD)?;
    let process = &exit.0["process"];
    ensure!(exit.kind() == "process.exit" && process["comm"] == "sleep", "{}", exit.0);
    ensure!(process["exit"]["signal"] == 15, "{}", exit.0);
    Ok(())
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// Fails unless an event is attributed to that container by its cgroup. There is no daemon that
/// could name it.
fn is_in(event: &Event, digit: char) -> Result<()> {
    let attribution = &event.0["attribution"];
    let by_cgroup = event.state() == "pending" && attribution["evidence"] == "cgroup";
    let right = by_cgroup && event.container_id() == Some(&id(digit));
    ensure!(right, "not attributed to {digit}… by its cgroup: {}", event.0);
    ensure!(event.0["container"]["runtime"] == "docker", "its path is Docker's: {}", event.0);
    Ok(())
}

/// All events of one process.
struct Life<'a>(Vec<&'a Event>);

impl<'a> Life<'a> {
    /// The events of the process whose last argument is the nonce with this name.
    fn of(events: &'a [Event], name: &str) -> Result<Self> {
        let nonce = format!("{NONCE}{name}");
        let is_it = |event: &&Event| event.args().last() == Some(&nonce.as_str());
        let exec = events.iter().find(is_it).with_context(|| format!("no exec of {nonce}"))?;
        let key = exec.key();
        Ok(Self(events.iter().filter(|event| event.key() == key).collect()))
    }

    fn is(&self, kinds: &[&str]) -> Result<()> {
        let found: Vec<_> = self.0.iter().map(|event| event.kind()).collect();
        ensure!(found == kinds, "{found:?} instead of {kinds:?}: {}", self.last());
        Ok(())
    }

    fn ended_with(&self, how: &str, number: u64) -> Result<()> {
        let exit = &self.last()["exit"];
        ensure!(*exit == serde_json::json!({how: number}), "not {how} {number}: {}", self.last());
        Ok(())
    }

    /// Returns the process of its last event.
    fn last(&self) -> &'a Value {
        &self.0[self.0.len() - 1].0["process"]
    }
}
