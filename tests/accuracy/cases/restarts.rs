//! Whalewatch started and stopped while containers come and go.

use std::time::Duration;

use anyhow::Result;
use whalewatch_tests::environment;
use whalewatch_tests::tracer::Tracer;

use super::churn::churn;
use crate::engine::Cli;
use crate::judge::{Ledger, Tally};
use crate::report::Outcome;
use crate::run::Machine;

/// How long each run watches.
const WATCH: Duration = Duration::from_secs(2);

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    let time = Duration::from_secs(machine.length.pick(15, 120));
    let engine = Cli::docker(machine);
    let (ledger, config) = (Ledger::default(), machine.config("", "", &[]));
    let mut printed = Vec::new();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| churn(&engine, &ledger, 4, time));
        while !work.is_finished() {
            let dir = environment::scratch(&format!("acc-restarts-{}", printed.len()));
            let tracer = Tracer::run(&dir, &config);
            std::thread::sleep(WATCH);
            tracer.stop().totals.assert_complete();
            printed.push(dir.join("out.json"));
        }
        work.join().expect("it does not panic")
    })?;
    let mut tally = Tally::default();
    for out in &printed {
        tally.add(&ledger.judge(out, false)?);
    }
    let mut figures = vec![("runs".to_owned(), printed.len() as f64, "")];
    // A name that was owed when the run ended.
    figures.push(("cut off".to_owned(), std::mem::take(&mut tally.name_never) as f64, "events"));
    Ok(vec![Outcome { tally, figures, ..Outcome::of("docker") }])
}
