//! The `rules` handler: evaluates detection rules over events, counts and sequences, with a pack of
//! built-in rules.
//!
//! A rule is a condition in a subset of CEL ([`whalewatch_kit::Condition`]), or several conditions
//! that must be met in sequence. A match becomes an [`Alert`]. Beside the fields of events,
//! conditions can use the program, parent and ancestors of the process. The handler learns them
//! from the process tracker, which it observes whatever the chain names.
//!
//! Everything follows the times of events: events of different trackers are sorted first, and time
//! windows use no clock. A replay therefore gives the same alerts as the run. The state is bounded,
//! and is lost when the program ends.

use std::time::{Duration, Instant};

use whalewatch_core::{
    Batch, BuildError, ChainContext, ChainId, Change, Context, Declaration, Handler, HandlerError,
    Observe, Problem, Schema, Setup, Timestamp,
};

mod alert;
mod context;
mod engine;
mod evidence;
mod files;
mod fit;
mod keyed;
mod options;
mod order;
mod processes;
mod rule;
mod select;
mod state;
#[cfg(test)]
mod tests;

pub use alert::{About, Alert, Events, Facts};
pub use options::{RuleOptions, RulesOptions, Severity, StepOptions};

use engine::{Bounds, Engine, Omitted};
use order::{Order, Origin};

/// Shortest time between two log lines about limits.
const REPORT_EVERY: Duration = Duration::from_mins(1);

/// Evaluates rules on events and emits alerts.
pub struct Rules {
    name: std::sync::Arc<str>,
    engine: Engine,
    order: Order,
    window: Duration,
    pass: bool,
    /// Whether a [`Message::Tick`] is scheduled.
    ticking: bool,
    /// The last report about limits.
    reported: (Instant, Lost),
}

/// Counts of what was left out or came late, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    engine: Omitted,
    late: u64,
    early: u64,
}

/// The messages of the handler's timer.
#[derive(Debug)]
pub enum Message {
    /// Waiting events have waited long enough for earlier ones.
    Tick,
}

impl Handler for Rules {
    const ABOUT: &'static str =
        "evaluates detection rules on events, counts and sequences, and emits alerts";
    type Options = RulesOptions;
    type Message = Message;
    const DECLARATION: Declaration<Self> = Declaration::new()
        .built_for_input()
        .observes(&["process"])
        .adds(|_| vec![Schema::of::<Alert>()]);

    fn check(options: &RulesOptions, input: &[Schema]) -> Vec<Problem> {
        let mut problems = bounds(options);
        problems.extend(select::select(options, None, input).problems);
        problems
    }

    fn build(options: &RulesOptions, setup: &Setup<Message>) -> Result<Self, BuildError> {
        let files = files::read(&options.files).map_err(BuildError)?;
        let selected = select::select(options, Some(files), &setup.input);
        if !selected.problems.is_empty() {
            let texts: Vec<_> = selected.problems.iter().map(in_a_line).collect();
            return Err(BuildError(texts.join("; ")));
        }
        let (name, rules, idle) = (&setup.name, selected.rules.len(), selected.idle.len());
        tracing::info!(handler = %name, rules, idle, "rules enabled");
        if idle > 0 {
            let names = selected.idle.join(", ");
            tracing::debug!(handler = %name, "idle rules, because no such events come in: {names}");
        }
        let bounds = Bounds {
            cooldown: options.cooldown.0,
            keys: options.max_keys as usize,
            processes: options.max_processes as usize,
            evidence: options.max_evidence_kib as usize * 1024,
        };
        Ok(Self {
            name: setup.name.clone(),
            engine: Engine::new(selected.rules, &setup.host_name, bounds),
            order: Order::new(options.order.0, options.max_waiting as usize),
            window: options.order.0,
            pass: options.pass,
            ticking: false,
            reported: (Instant::now(), Lost::default()),
        })
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Message>,
    ) -> Result<(), HandlerError> {
        let origin = Origin::Chain(cx.chain());
        if self.pass {
            self.order.push(batch.clone(), origin);
            cx.emit(batch);
        } else {
            self.order.push(batch, origin);
        }
        self.settle(self.order.settled(), cx)?;
        self.wait(cx);
        Ok(())
    }

    fn message(
        &mut self,
        Message::Tick: Message,
        cx: &mut Context<'_, Message>,
    ) -> Result<(), HandlerError> {
        self.ticking = false;
        if !cx.behind() {
            let until = self.order.tick();
            self.settle(until, cx)?;
        }
        self.wait(cx);
        if self.reported.0.elapsed() >= REPORT_EVERY {
            self.report_lost();
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_, Message>) -> Result<(), HandlerError> {
        self.settle(Timestamp(u64::MAX), cx)?;
        self.report_lost();
        Ok(())
    }
}

impl Observe for Rules {
    fn observe(
        &mut self,
        batch: &Batch,
        cx: &mut Context<'_, Message>,
    ) -> Result<(), HandlerError> {
        // Processes that already ran come before all other events.
        let existed =
            |i: &usize| batch.get(*i).is_some_and(|event| event.change() == Some(Change::Existing));
        let existing = (0..batch.len()).take_while(existed).count();
        self.engine.observe(batch, 0..existing);
        if existing < batch.len() {
            self.order.push(batch.clone(), Origin::Observed);
            self.settle(self.order.settled(), cx)?;
            self.wait(cx);
        }
        Ok(())
    }
}

impl Rules {
    /// Evaluates all waiting events up to a time, in order.
    fn settle(
        &mut self,
        until: Timestamp,
        cx: &mut Context<'_, Message>,
    ) -> Result<(), HandlerError> {
        while let Some(run) = self.order.next(until) {
            let events = run.events.clone();
            match run.origin {
                Origin::Observed => self.engine.observe(&run.batch, events),
                Origin::Chain(chain) => {
                    if !self.pass {
                        cx.filtered(events.len() as u64);
                    }
                    let evaluated = self.engine.evaluate(&run.batch, events);
                    evaluated.map_err(|message| HandlerError::Failed { message, source: None })?;
                    self.send(chain, cx);
                }
            }
            self.order.done(run);
        }
        Ok(())
    }

    fn send(&mut self, chain: ChainId, cx: &mut Context<'_, Message>) {
        let alerts = self.engine.alerts();
        if alerts.is_empty() {
            return;
        }
        let (alerts, attributions): (Vec<_>, Vec<_>) = alerts.into_iter().unzip();
        let batch = Batch::new(self.name.clone(), alerts);
        cx.add_to(chain, batch.with_attributions(attributions));
    }

    /// Schedules a tick, in case no further event moves the waiting ones on.
    fn wait(&mut self, cx: &mut Context<'_, Message>) {
        if !self.ticking && self.order.len() > 0 {
            self.ticking = true;
            cx.after(self.window.max(Duration::from_millis(1)), Message::Tick);
        }
    }

    /// Logs what was left out since the last log line.
    fn report_lost(&mut self) {
        let lost =
            Lost { engine: self.engine.omitted(), late: self.order.late, early: self.order.early };
        let before = std::mem::replace(&mut self.reported, (Instant::now(), lost)).1;
        // Suppressed alerts are intended, so they alone cause no log line.
        let quiet = Lost { engine: Omitted { suppressed: 0, ..lost.engine }, ..lost };
        let quiet_before = Lost { engine: Omitted { suppressed: 0, ..before.engine }, ..before };
        if quiet == quiet_before {
            return;
        }
        let Omitted { suppressed, keys_evicted, processes_evicted, evidence_refused } = lost.engine;
        let (late, early) = (lost.late, lost.early);
        tracing::warn!(
            handler = %self.name, late, early, keys_evicted, processes_evicted,
            evidence_refused, suppressed,
            "events came late or a limit was reached, counted since the start: raise order, \
             max_waiting, max_keys, max_processes or max_evidence_kib"
        );
    }
}

/// Formats a problem in one line.
fn in_a_line(problem: &Problem) -> String {
    let at = problem.offset.map_or_else(String::new, |at| format!(" at character {}", at + 1));
    let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
    format!("{}{at}: {}{hint}", problem.key, problem.message)
}

/// Returns the options that are out of range.
fn bounds(options: &RulesOptions) -> Vec<Problem> {
    let numbers = [
        ("max_keys", options.max_keys, 1, 1_000_000),
        ("max_processes", options.max_processes, 16, 4_000_000),
        ("max_waiting", options.max_waiting, 256, 10_000_000),
        ("max_evidence_kib", options.max_evidence_kib, 64, 1 << 20),
    ];
    let numbers = numbers
        .into_iter()
        .filter_map(|(key, number, least, most)| Problem::check_range(key, number, least..=most));
    let order = Problem::check_range("order", options.order.0, ..=Duration::from_mins(1));
    let hint = "this delays alerts: write at most \"1m\"";
    numbers.chain(order.map(|problem| problem.hint(hint))).collect()
}
