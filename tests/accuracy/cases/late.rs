//! Events that come after the exit of their process.

use anyhow::{Result, ensure};
use whalewatch_tests::wait;

use super::each_like_docker;
use crate::engine::{Cli, Engine as _};
use crate::judge::{Ledger, Truth};
use crate::report::Outcome;
use crate::run::{Machine, watched};

const CASE: &str = "late";
const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

const TRACKERS: &str = r#"
[trackers.files]
type = "files"

[trackers.net]
type = "network"
"#;

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    let rounds = machine.length.pick(5, 50);
    each_like_docker(machine, |engine| {
        let config = machine.config(&engine.container_options(), TRACKERS, &["files", "net"]);
        let mut outcome = watched(engine.name(), CASE, &config, |ledger, _| {
            (0..rounds).try_for_each(|round| killed(machine, engine, ledger, round))
        })?;
        let late = outcome.tally.after_exit;
        outcome.figures.push(("events after the end of their process".into(), late as f64, ""));
        ensure!(late >= rounds, "only {late} events came after their process's end");
        Ok(outcome)
    })
}

/// Kills a process with open files and connections by removing its container.
fn killed(machine: &Machine, engine: &Cli, ledger: &Ledger, round: u64) -> Result<()> {
    let name = format!("late-{round}");
    let mark = ledger.mark(CASE, &name);
    let mounts = machine.workload().mounts();
    let options: Vec<&str> = mounts.iter().map(String::as_str).collect();
    let id = engine.start_with(&name, &options, &["/workload", "processes", "hold", &mark])?;
    ledger.enter(&mark, Truth::container(&id, &name));
    let holds = || engine.say(&["logs", &name]).ok().filter(|said| said.contains("holds"));
    ensure!(wait::poll(LIMIT, holds).is_some(), "{name} has not opened its files");
    engine.remove(&name)
}
