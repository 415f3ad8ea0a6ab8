//! Events that come after their process has ended.

use anyhow::{Result, ensure};
use whalewatch_tests::wait;

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
    let config = machine.config("", TRACKERS, &["files", "net"]);
    let mut outcome = watched("docker", CASE, &config, |ledger, _| {
        (0..rounds).try_for_each(|round| killed(machine, ledger, round))
    })?;
    let late = outcome.tally.after_exit;
    outcome.figures.push(("events after the end of their process".into(), late as f64, ""));
    ensure!(late >= rounds, "only {late} events came after their process's end");
    Ok(vec![outcome])
}

/// A process with open files and connections, killed with its container, which is removed at once.
fn killed(machine: &Machine, ledger: &Ledger, round: u64) -> Result<()> {
    let name = format!("late-{round}");
    let mark = ledger.mark(CASE, &name);
    let mut command = machine.docker.command();
    command.args(["run", "-d", "--name", &name]).args(machine.workload().mounts());
    command.arg(&machine.image).args(["/workload", "processes", "hold", &mark]);
    let id = crate::engine::ok(&mut command)?;
    ledger.enter(&mark, Truth::container(&id, &name));
    let holds = || machine.docker.run(&["logs", &name]).ok().filter(|said| said.contains("holds"));
    ensure!(wait::poll(LIMIT, holds).is_some(), "{name} has not opened what it is to hold");
    machine.docker.run(&["rm", "-f", &name]).map(drop)
}
