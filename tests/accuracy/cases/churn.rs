//! Loops of `run --rm` with a command that exits at once.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::each;
use crate::engine::Engine;
use crate::judge::{Ledger, Truth};
use crate::report::Outcome;
use crate::run::{Machine, true_with, watched};

/// The number of parallel loops, for Docker, and for the others, which use more of the processors
/// for each container.
const LOOPS: [usize; 2] = [12, 4];

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    each(machine, |engine| {
        let docker = engine.name() == "docker";
        let seconds =
            if docker { machine.length.pick(12, 900) } else { machine.length.pick(3, 60) };
        let loops = if docker { LOOPS[0] } else { LOOPS[1] };
        let config = machine.config(&engine.container_options(), "", &[]);
        watched(engine.name(), "churn", &config, |ledger, _| {
            churn(engine, ledger, loops, Duration::from_secs(seconds))
        })
    })
}

/// Runs `loops` loops for `time`, with a process on the host for each container.
pub(super) fn churn(
    engine: &dyn Engine,
    ledger: &Ledger,
    loops: usize,
    time: Duration,
) -> Result<()> {
    let end = Instant::now() + time;
    let failed = Mutex::new(None);
    let work = |lane: usize| -> Result<()> {
        let mut round = 0;
        while Instant::now() < end {
            let name = format!("churn-{lane}-{round}");
            let mark = ledger.mark("churn", &name);
            let id = engine.run(&name, &true_with(&mark))?;
            ledger.enter(&mark, Truth::container(&id, &name));
            host_true(ledger, "churn")?;
            round += 1;
        }
        Ok(())
    };
    thread::scope(|scope| {
        for lane in 0..loops {
            let (work, failed) = (&work, &failed);
            scope.spawn(move || {
                if let Err(error) = work(lane) {
                    failed.lock().expect("nobody panics while holding it").get_or_insert(error);
                }
            });
        }
    });
    failed.into_inner().expect("nobody panicked while holding it").map_or(Ok(()), Err)
}

/// Runs a marked process on the host.
pub(super) fn host_true(ledger: &Ledger, case: &str) -> Result<()> {
    let mark = ledger.host(case);
    let [program, argument] = true_with(&mark);
    crate::engine::ok(std::process::Command::new(program).arg(argument)).map(drop)
}
