//! Everything that can be done to a container during its life.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use whalewatch_tests::wait;

use super::churn::host_true;
use super::each_like_docker;
use crate::engine::{Cli, Engine as _};
use crate::judge::{Ledger, Truth};
use crate::report::Outcome;
use crate::run::{Machine, watched};

const CASE: &str = "lifecycle";
const LIMIT: Duration = Duration::from_secs(30);
/// The command of a container that only waits.
const STAY: &str = "while :; do sleep 1000; done";

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    each_like_docker(machine, |engine| {
        let config = machine.config(&engine.container_options(), "", &[]);
        watched(engine.name(), CASE, &config, |ledger, _| {
            let work = Work { engine, ledger };
            for round in 0..machine.length.pick(1, 10) {
                work.restarted(round)?;
                work.paused(round)?;
                work.renamed(round)?;
                work.killed_and_started_again(round)?;
                // Podman leaves health checks to systemd.
                if engine.name() == "docker" {
                    work.checked(round)?;
                }
                host_true(ledger, CASE)?;
            }
            Ok(())
        })
    })
}

struct Work<'a> {
    engine: &'a Cli,
    ledger: &'a Ledger,
}

impl Work<'_> {
    /// Runs a marked process in the container, whose name may be any of `names`.
    fn marked(&self, id: &str, now: &str, names: &[&str]) -> Result<()> {
        let mark = self.ledger.mark(CASE, now);
        self.engine.enter(now, &["/bin/true", &mark])?;
        let names = names.iter().map(|&name| name.to_owned()).collect();
        self.ledger.enter(&mark, Truth { names, ..Truth::container(id, now) });
        Ok(())
    }

    /// Starts a container that runs a marked process at each start.
    fn start(&self, name: &str, options: &[&str], then: &str) -> Result<String> {
        let mark = self.ledger.mark(CASE, name);
        let script = format!("/bin/true {mark}; {then}");
        let id = self.engine.start_with(name, options, &["/bin/sh", "-c", &script])?;
        self.ledger.enter(&mark, Truth::container(&id, name));
        Ok(id)
    }

    fn restarted(&self, round: u32) -> Result<()> {
        let name = format!("restarted-{round}");
        let id = self.start(&name, &[], STAY)?;
        for _ in 0..3 {
            self.engine.say(&["restart", "-t", "0", &name])?;
            self.marked(&id, &name, &[&name])?;
        }
        self.engine.remove(&name)
    }

    fn paused(&self, round: u32) -> Result<()> {
        let name = format!("paused-{round}");
        let id = self.start(&name, &[], STAY)?;
        for _ in 0..3 {
            self.engine.say(&["pause", &name])?;
            self.engine.say(&["unpause", &name])?;
            self.marked(&id, &name, &[&name])?;
            self.engine.say(&["update", "--cpu-shares=512", &name])?;
            self.marked(&id, &name, &[&name])?;
        }
        self.engine.remove(&name)
    }

    /// The daemon reports a new name some milliseconds late. Until then both names are right.
    fn renamed(&self, round: u32) -> Result<()> {
        let (old, new) = (format!("old-{round}"), format!("new-{round}"));
        let id = self.start(&old, &[], STAY)?;
        self.marked(&id, &old, &[&old])?;
        self.engine.say(&["rename", &old, &new])?;
        self.marked(&id, &new, &[&old, &new])?;
        // Once the daemon has reported a later container, it has reported the new name: it reports
        // in order.
        let after = format!("after-{round}");
        let mark = self.ledger.mark(CASE, &after);
        let after_id = self.engine.run(&after, &["/bin/true", &mark])?;
        self.ledger.enter(&mark, Truth::container(&after_id, &after));
        for _ in 0..3 {
            self.marked(&id, &new, &[&new])?;
        }
        self.engine.remove(&new)
    }

    fn killed_and_started_again(&self, round: u32) -> Result<()> {
        let name = format!("killed-{round}");
        let id = self.start(&name, &[], STAY)?;
        self.marked(&id, &name, &[&name])?;
        self.engine.say(&["kill", &name])?;
        self.engine.say(&["wait", &name])?;
        self.engine.say(&["start", &name])?;
        self.marked(&id, &name, &[&name])?;
        self.engine.remove(&name)?;
        // A container that fails and that its policy restarts.
        let name = format!("failing-{round}");
        self.start(&name, &["--restart=on-failure:3"], "exit 1")?;
        let ended = || {
            let state = ["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", &name];
            wait::when(self.engine.say(&state).is_ok_and(|state| state == "3 exited"))
        };
        ensure!(wait::poll(LIMIT, ended).is_some(), "{name} is restarted without end");
        self.engine.remove(&name)
    }

    /// The daemon runs health checks as it runs `exec`.
    fn checked(&self, round: u32) -> Result<()> {
        let name = format!("checked-{round}");
        let mark = self.ledger.mark(CASE, &name);
        let check = format!("--health-cmd=/bin/true {mark}");
        let id = self.start(&name, &[&check, "--health-interval=200ms"], STAY)?;
        self.ledger.enter(&mark, Truth::container(&id, &name));
        let healthy = || {
            let state = ["inspect", "-f", "{{.State.Health.Status}}", &name];
            wait::when(self.engine.say(&state).is_ok_and(|state| state == "healthy"))
        };
        wait::poll(LIMIT, healthy).context("no health check has passed")?;
        self.engine.remove(&name)
    }
}
