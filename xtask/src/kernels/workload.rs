//! What must have been told of a guest's workload (see `guest.sh`).

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use whalewatch_tests::output::Event;

use super::checks::{Outcome, ended_well};
use super::report::Report;

/// The last argument of each command begins so.
const NONCE: &str = "whalewatch-kernels-";

/// Ids of the container that was there before and of the one that came and went: 64 times one
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

/// The smallest workload: one command of the host.
pub(super) fn single_echo(report: &Report, case: &str) -> Result<()> {
    let events = report.events(case)?;
    let echo = Life::of(&events, "echo")?;
    echo.is(&["process.fork", "process.exec", "process.exit"])?;
    echo.ended_with("code", 0)?;
    // Which rule tells it depends on what the case leaves to go by.
    echo.0.iter().try_for_each(|event| {
        ensure!(event.state() == "host", "it is the host's: {}", event.0);
        Ok(())
    })
}

fn order(events: &[Event]) -> Result<()> {
    for name in ["plain", "three", "killed", "child", "second"] {
        Life::of(events, name)?.is(&["process.fork", "process.exec", "process.exit"])?;
    }
    // Shells that become another program.
    for name in ["container", "first"] {
        let kinds = ["process.fork", "process.exec", "process.exec", "process.exit"];
        Life::of(events, name)?.is(&kinds)?;
    }
    let plain = Life::of(events, "plain")?;
    let args = [String::from("/bin/echo"), format!("{NONCE}plain")];
    ensure!(plain.0[1].args() == args, "its arguments: {}", plain.0[1].0);
    ensure!(plain.0[1].0["process"]["executable"]["path"] == "/bin/echo", "{}", plain.0[1].0);
    ensure!(plain.0.is_sorted_by_key(|event| event.time()), "times go forward");
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
        ensure!(spaces(&life) != spaces(&outside), "the namespace is its own: {}", life.last());
    }
    let process = outside.last();
    ensure!(process["vpid"] == process["pid"], "outside both pids are the same: {process}");
    Ok(())
}

fn new_container(events: &[Event]) -> Result<()> {
    let child = Life::of(events, "child")?;
    let container = Life::of(events, "container")?;
    // The other was forked and became a shell before it entered.
    for event in child.0.iter().chain(&container.0[2..]) {
        is_in(event, NEW)?;
    }
    for event in &container.0[..2] {
        ensure!(event.state() == "host", "it has not entered yet: {}", event.0);
    }
    for kind in ["container.found", "container.gone", "cgroup.mkdir", "cgroup.rmdir"] {
        let has_id =
            |event: &&Event| event.kind() == kind && event.container_id() == Some(&id(NEW));
        ensure!(events.iter().filter(has_id).count() == 1, "one {kind} of {}", id(NEW));
    }
    // Nothing else may be shown as in it.
    let shown = events.iter().filter(|event| event.container_id() == Some(&id(NEW)));
    let processes = shown.filter(|event| event.key().is_some()).count();
    ensure!(processes == 5, "{processes} events of processes are in {} instead of 5", id(NEW));
    Ok(())
}

fn old_container(events: &[Event]) -> Result<()> {
    let has_id = |event: &&Event| event.container_id() == Some(&id(OLD)) && event.key().is_some();
    let mut shown = events.iter().filter(has_id);
    let (Some(exit), None) = (shown.next(), shown.next()) else {
        bail!("one event of a process is in {}: the exit of `sleep`", id(OLD))
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

/// Shown as of that container, by its cgroup; no daemon says its name.
fn is_in(event: &Event, digit: char) -> Result<()> {
    let attribution = &event.0["attribution"];
    let told = event.state() == "pending" && attribution["evidence"] == "cgroup";
    ensure!(told && event.container_id() == Some(&id(digit)), "it is in {digit}…: {}", event.0);
    ensure!(event.0["container"]["runtime"] == "docker", "docker's by its path: {}", event.0);
    Ok(())
}

/// All events of one process.
struct Life<'a>(Vec<&'a Event>);

impl<'a> Life<'a> {
    /// Of the process whose last argument is the nonce with this name.
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

    /// The process as its last event shows it.
    fn last(&self) -> &'a Value {
        &self.0[self.0.len() - 1].0["process"]
    }
}
