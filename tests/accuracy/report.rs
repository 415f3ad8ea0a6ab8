//! Results, and what must be true of them.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::judge::Tally;

/// Most anonymous memory that Whalewatch may have resident, in KiB.
const MOST_MEMORY: u64 = 48 << 10;
/// How much more it may have at last than at first, as a share; of runs that are long enough for
/// two whole windows.
const MOST_DRIFT: f64 = 0.05;
/// How many of a thousand events may wait for their container's name to come later.
const MOST_LATE: u64 = 1;
/// The number of samples, one a second, in the means of a run's beginning and end.
const WINDOW: usize = 300;

/// How a case went with one runtime.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) runtime: String,
    pub(crate) tally: Tally,
    /// What else was measured: name, value, unit.
    pub(crate) figures: Vec<(String, f64, &'static str)>,
    /// Anonymous memory in KiB, once a second.
    pub(crate) memory: Vec<u64>,
    /// Whether it may be unknown at first.
    pub(crate) may_be_unknown: bool,
}

impl Outcome {
    /// One of which nothing is known yet.
    pub(crate) fn of(runtime: &str) -> Self {
        Self {
            runtime: runtime.to_owned(),
            tally: Tally::default(),
            figures: Vec::new(),
            memory: Vec::new(),
            may_be_unknown: false,
        }
    }

    /// Means of the first and the last five minutes, or of the first and last third of a shorter
    /// run, in KiB.
    pub(crate) fn drift(&self) -> Option<(f64, f64)> {
        let window = WINDOW.min(self.memory.len() / 3);
        let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len() as f64;
        let last = self.memory.len() - window;
        (window > 0).then(|| (mean(&self.memory[..window]), mean(&self.memory[last..])))
    }

    /// Whether it has more and more memory.
    fn grows(&self) -> bool {
        let drift = self.drift().filter(|_| self.memory.len() >= 2 * WINDOW);
        drift.is_some_and(|(first, last)| last > first * (1.0 + MOST_DRIFT))
    }

    fn most_memory(&self) -> u64 {
        self.memory.iter().copied().max().unwrap_or(0)
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "   {}: {}", self.runtime, self.tally)?;
        for (name, value, unit) in &self.figures {
            write!(f, "\n     {name}: {value} {unit}")?;
        }
        if let Some((first, last)) = self.drift() {
            let most = self.most_memory();
            write!(f, "\n     memory: {first:.0} KiB at first, {last:.0} at last, at most {most}")?;
        }
        Ok(())
    }
}

/// All of a run.
#[derive(Debug, Default)]
pub(crate) struct Results(Vec<(&'static str, Outcome)>);

impl Results {
    pub(crate) fn add(&mut self, case: &'static str, outcome: Outcome) {
        self.0.push((case, outcome));
    }

    /// Whether anything was judged.
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Everything that is not as it must be.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (case, outcome) in &self.0 {
            let tally = &outcome.tally;
            let mut fault = |what: String| {
                faults.push(format!("{case}, {}: {what}", outcome.runtime));
            };
            if tally.wrong > 0 {
                fault(format!("{} wrong, the first {:?}", tally.wrong, tally.examples.first()));
            }
            if tally.missing > 0 {
                fault(format!("{} missing, like {:?}", tally.missing, tally.examples.last()));
            }
            if tally.unknown > 0 && !outcome.may_be_unknown {
                fault(format!("{} unknown", tally.unknown));
            }
            if tally.name_never > 0 {
                fault(format!("{} never named", tally.name_never));
            }
            if tally.events == 0 {
                fault("nothing was judged".to_owned());
            }
            if outcome.most_memory() > MOST_MEMORY {
                fault(format!("{} KiB of anonymous memory", outcome.most_memory()));
            }
            if outcome.grows() {
                fault(format!("memory grows: {:?} KiB", outcome.drift()));
            }
        }
        let sum = |of: fn(&Tally) -> u64| self.0.iter().map(|(_, o)| of(&o.tally)).sum::<u64>();
        let (late, all) = (sum(|t| t.name_late), sum(|t| t.in_containers));
        if late * 1000 > all * MOST_LATE {
            faults.push(format!("{late} of {all} events in containers had no name at first"));
        }
        faults
    }

    /// Writes them as JSON.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let one = |(case, outcome): &(&str, Outcome)| {
            let mut value = outcome.tally.json();
            value["case"] = json!(case);
            value["runtime"] = json!(outcome.runtime);
            let figure = |(name, value, unit): &(String, f64, &str)| {
                json!({"name": name,
                "value": value, "unit": unit})
            };
            value["figures"] = outcome.figures.iter().map(figure).collect();
            let drift = outcome.drift();
            value["memory"] = drift.map_or(Value::Null, |(first, last)| {
                json!({"first": first, "last": last, "most": outcome.most_memory()})
            });
            value
        };
        let all: Vec<Value> = self.0.iter().map(one).collect();
        Ok(fs::write(file, format!("{:#}\n", json!(all)))?)
    }
}
