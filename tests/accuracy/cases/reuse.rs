//! Reused process numbers: a map keyed by number alone finds the wrong process.

use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::each;
use crate::engine::{Engine, ok};
use crate::judge::{Ledger, Truth};
use crate::report::Outcome;
use crate::run::{Machine, watched};

const CASE: &str = "reuse";
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// Few enough for many rounds, enough for the other processes.
const FEW: u32 = 1500;

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    each(machine, |engine| {
        let processes = match engine.name() {
            "docker" => machine.length.pick(1_500, 30_000),
            _ => machine.length.pick(750, 10_000),
        };
        let config = machine.config(&engine.container_options(), "", &[]);
        let few = FewNumbers::set()?;
        let mut outcome =
            watched(engine.name(), CASE, &config, |ledger, _| loops(engine, ledger, processes))?;
        drop(few);
        let reused = outcome.tally.reused;
        outcome.figures.push(("numbers that came again".into(), reused as f64, ""));
        ensure!(reused > processes, "numbers came again {reused} times only");
        Ok(outcome)
    })
}

/// Two containers and the host share the numbers.
fn loops(engine: &dyn Engine, ledger: &Ledger, processes: u64) -> Result<()> {
    let script = |mark: &str| {
        format!("i=0; while [ $i -lt {processes} ]; do /bin/true {mark}; i=$((i+1)); done")
    };
    let contained = |name: &str| -> Result<()> {
        let mark = ledger.mark(CASE, name);
        let id = engine.run(name, &["/bin/sh", "-c", &script(&mark)])?;
        ledger.enter(&mark, Truth::container(&id, name));
        Ok(())
    };
    thread::scope(|scope| {
        let both = ["reuse-a", "reuse-b"].map(|name| scope.spawn(move || contained(name)));
        let mark = ledger.host(CASE);
        ok(Command::new("sh").arg("-c").arg(script(&mark)))?;
        both.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })
}

/// Limits the machine's process numbers until it is dropped.
struct FewNumbers(String);

impl FewNumbers {
    fn set() -> Result<Self> {
        let before = fs::read_to_string(PID_MAX).context(PID_MAX)?;
        fs::write(PID_MAX, FEW.to_string()).context("the number of processes cannot be set")?;
        Ok(Self(before))
    }
}

impl Drop for FewNumbers {
    fn drop(&mut self) {
        if let Err(error) = fs::write(PID_MAX, &self.0) {
            eprintln!("{PID_MAX} could not be set back to {}: {error}", self.0.trim());
        }
    }
}
