//! Loops of `run --rm` of a command that ends at once.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::each;
use crate::engine::Engine;
use crate::judge::{Ledger, Truth};
use crate::report::Outcome;
use crate::run::{Machine, true_with, watched};

/// Loops at the same time, for the engine with a daemon and for the others, which do their own work
/// on our processors.
const LOOPS: [usize; 2] = [12, 4];

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    each(machine, |engine| {
        let docker = engine.name() == "docker";
        let seconds =
            if docker { machine.length.pick(20, 900) } else { machine.length.pick(5, 60) };
        let loops = if docker { LOOPS[0] } else { LOOPS[1] };
        let config = machine.config(&engine.container_options(), "", &[]);
        watched(engine.name(), "churn", &config, |ledger, _| {
            churn(engine, ledger, loops, Duration::from_secs(seconds))
        })
    })
}

/// So many loops for so long, and a process on the host beside each container.
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

/// A marked process on the host.
pub(super) fn host_true(ledger: &Ledger, case: &str) -> Result<()> {
    let mark = ledger.host(case);
    let [program, argument] = true_with(&mark);
    crate::engine::ok(std::process::Command::new(program).arg(argument)).map(drop)
}
