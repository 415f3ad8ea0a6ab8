//! Runs steps side by side where that is safe, and says how long each took.
//!
//! Two steps at once fill two cores: one step that builds leaves a core idle at each long last
//! crate, and steps that wait (for a network, for containers) leave both idle. A step that watches
//! the whole machine and counts what it sees runs alone, or beside one whose commands have the
//! lowest priority.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

use crate::run;
use crate::steps::{Place, Step};

/// How many steps run at once, unless `--serial` is given.
const SLOTS: usize = 2;

/// Runs one step; `live` says that no other step can run meanwhile, so that it may print.
pub(crate) type Perform<'a> = &'a (dyn Fn(&Step, bool) -> Result<()> + Sync);

/// When a step ran.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    name: &'static str,
    begin: Duration,
    time: Duration,
    failed: bool,
}

/// Runs all steps, in their order as far as nothing hinders it. After a failure no further step
/// begins; those that run go on to their end.
pub(crate) fn run_all(
    steps: &[&'static Step],
    serial: bool,
    perform: Perform<'_>,
) -> (Vec<Span>, Result<()>) {
    let start = Instant::now();
    let slots = if serial { 1 } else { SLOTS };
    let (sender, ended) = mpsc::channel();
    let mut waiting = steps.to_vec();
    let mut running: Vec<&Step> = Vec::new();
    let mut done: HashSet<&str> = HashSet::new();
    let (mut spans, mut failures): (Vec<Span>, Vec<Error>) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        loop {
            if let Err(error) = run::go_on() {
                if failures.is_empty() {
                    failures.push(error);
                }
                waiting.clear();
            }
            while let Some(at) = next(&waiting, &running, &done, slots) {
                let step = waiting.remove(at);
                let live = step.alone || slots == 1 || steps.len() == 1;
                running.push(step);
                let sender = sender.clone();
                scope.spawn(move || {
                    let begin = start.elapsed();
                    let result = perform(step, live);
                    let time = start.elapsed().saturating_sub(begin);
                    // The receiver outlives every step.
                    let _open = sender.send((step, begin, time, result));
                });
            }
            if running.is_empty() {
                break;
            }
            let Ok((step, begin, time, result)) = ended.recv() else { break };
            running.retain(|other| other.name != step.name);
            done.insert(step.name);
            spans.push(Span { name: step.name, begin, time, failed: result.is_err() });
            if let Err(error) = result {
                failures.push(error.context(format!("step `{}`", step.name)));
                waiting.clear();
            }
        }
    });
    (spans, first(failures))
}

/// The first failure, with the messages of the others.
fn first(failures: Vec<Error>) -> Result<()> {
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(()) };
    Err(failures.fold(first, |first, other| anyhow!("{first:#}\nand {other:#}")))
}

/// The first waiting step that can begin.
fn next(waiting: &[&Step], running: &[&Step], done: &HashSet<&str>, slots: usize) -> Option<usize> {
    if running.len() >= slots {
        return None;
    }
    let disturbs = |step: &Step, other: &Step| step.alone && !other.background;
    let taken: Vec<Place> = running.iter().flat_map(|step| step.places).copied().collect();
    waiting.iter().position(|step| {
        step.after.iter().all(|name| done.contains(name))
            && step.places.iter().all(|place| !taken.contains(place))
            && running.iter().all(|other| !disturbs(step, other) && !disturbs(other, step))
    })
}

/// A table of what took how long, in the order in which the steps began.
pub(crate) fn table(spans: &[Span]) -> String {
    let mut spans = spans.to_vec();
    spans.sort_by_key(|span| span.begin);
    let mut text = format!("{:12} {:>9} {:>9}\n", "step", "began (s)", "took (s)");
    for Span { name, begin, time, failed } in spans {
        let (begin, time) = (begin.as_secs_f64(), time.as_secs_f64());
        let failed = if failed { "  FAILED" } else { "" };
        // Writing to text never fails.
        let _infallible = writeln!(text, "{name:12} {begin:>9.1} {time:>9.1}{failed}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use anyhow::ensure;

    use super::*;
    use crate::run::locked;

    const fn made(name: &'static str, after: &'static [&'static str]) -> Step {
        Step {
            name,
            about: "",
            unit: true,
            alone: false,
            background: false,
            places: &[],
            after,
            run: |_| Ok(()),
        }
    }

    const FIRST: Step = made("first", &[]);
    const SECOND: Step = made("second", &["first"]);
    const BUILD: Step = Step { places: &[Place::Target], ..made("build", &[]) };
    const LINT: Step = Step { places: &[Place::Target], ..made("lint", &[]) };
    const ALONE: Step = Step { alone: true, ..made("alone", &[]) };
    const BACKGROUND: Step = Step { background: true, ..made("background", &[]) };
    const ALL: [&Step; 6] = [&ALONE, &BACKGROUND, &FIRST, &BUILD, &LINT, &SECOND];

    /// Runs steps; the names of those that ran beside each of them.
    fn beside(serial: bool) -> Vec<(&'static str, Vec<&'static str>)> {
        let (now, seen) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let perform = |step: &Step, _: bool| {
            locked(&now).push(step.name);
            // Time enough for another step to begin.
            thread::sleep(Duration::from_millis(30));
            locked(&seen).push((step.name, locked(&now).clone()));
            locked(&now).retain(|name| *name != step.name);
            Ok(())
        };
        let (spans, result) = run_all(&ALL, serial, &perform);
        result.unwrap();
        assert_eq!(spans.len(), ALL.len());
        seen.into_inner().unwrap()
    }

    #[test]
    fn steps_wait_for_what_they_need_and_share_no_place() {
        let seen = beside(false);
        let ended = |name| seen.iter().position(|(step, _)| *step == name).unwrap();
        assert!(ended("first") < ended("second"), "{seen:?}");
        for (step, beside) in &seen {
            let both = ["build", "lint"].iter().all(|name| beside.contains(name));
            assert!(!both && beside.len() <= SLOTS, "{step}: {beside:?}");
            let disturbed = beside.iter().any(|other| !["alone", "background"].contains(other));
            assert!(*step != "alone" || !disturbed, "{beside:?}");
        }
    }

    #[test]
    fn serial_runs_one_step_at_a_time() {
        assert!(beside(true).iter().all(|(_, beside)| beside.len() == 1));
    }

    #[test]
    fn nothing_begins_after_a_failure_and_the_table_names_it() {
        let perform = |step: &Step, _: bool| {
            ensure!(step.name != "first", "broken");
            Ok(())
        };
        let (spans, result) = run_all(&[&FIRST, &SECOND], false, &perform);
        assert_eq!(format!("{:#}", result.unwrap_err()), "step `first`: broken");
        let table = table(&spans);
        assert!(table.contains("first") && table.contains("FAILED"), "{table}");
        assert!(!table.contains("second"), "{table}");
    }
}
