//! Whalewatch starts and stops while containers come and go.

use std::time::Duration;

use anyhow::Result;
use whalewatch_tests::environment;
use whalewatch_tests::tracer::Tracer;

use super::churn::churn;
use super::each;
use crate::engine::Engine;
use crate::judge::{Ledger, Tally};
use crate::report::Outcome;
use crate::run::Machine;

/// How long each run watches.
const WATCH: Duration = Duration::from_secs(2);

pub(super) fn run(machine: &Machine) -> Result<Vec<Outcome>> {
    each(machine, |engine| restarted(machine, engine))
}

fn restarted(machine: &Machine, engine: &dyn Engine) -> Result<Outcome> {
    let time = Duration::from_secs(match engine.name() {
        "docker" => machine.length.pick(9, 120),
        _ => machine.length.pick(5, 60),
    });
    let config = machine.config(&engine.container_options(), "", &[]);
    let (ledger, mut printed) = (Ledger::default(), Vec::new());
    std::thread::scope(|scope| {
        let work = scope.spawn(|| churn(engine, &ledger, 4, time));
        while !work.is_finished() {
            let run = format!("acc-restarts-{}-{}", engine.name(), printed.len());
            let dir = environment::scratch(&run);
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
    if !engine.ids_tell_names() {
        // Names that were still missing when the run ended.
        let cut_off = std::mem::take(&mut tally.name_never);
        figures.push(("cut off".to_owned(), cut_off as f64, "events"));
    }
    Ok(Outcome { tally, figures, ..Outcome::of(engine.name()) })
}
