//! The `rules` handler: named detections over events, sequences and counts, and a pack of them.
//!
//! A rule is a condition in a part of CEL ([`whalewatch_kit::Condition`]), or several that must be
//! met in turn; what it finds goes on as an [`Alert`]. Besides the fields of events, conditions see
//! what is known of the process, its parent and ancestors; the process tracker's events, which the
//! handler needs whatever the chain brings, tell that.
//!
//! All goes by the times of the events: those of different trackers are put in order first, and
//! windows know no clock. So a replay tells what the run told. What is remembered is bounded, and
//! gone when the program ends.

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

use engine::{Bounds, Engine, Left};
use order::{Order, Origin};

/// How often it is told at most that something had to be left out.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Finds what rules say in events, and tells it as alerts.
pub struct Rules {
    name: std::sync::Arc<str>,
    engine: Engine,
    order: Order,
    window: Duration,
    pass: bool,
    /// Whether a [`Message::Tick`] is on its way.
    ticking: bool,
    told: (Instant, Lost),
}

/// What had to be left out, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    engine: Left,
    late: u64,
    hurried: u64,
}

/// What a [`Rules`] tells itself.
#[derive(Debug)]
pub enum Message {
    /// Events have waited long enough for earlier ones.
    Tick,
}

impl Handler for Rules {
    const ABOUT: &'static str =
        "finds what rules say in events, sequences and counts, and tells it as alerts";
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
        tracing::info!(handler = %name, rules, idle, "rules are on");
        if idle > 0 {
            let names = selected.idle.join(", ");
            tracing::debug!(handler = %name, "idle, as no such events come here: {names}");
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
            told: (Instant::now(), Lost::default()),
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
        if self.told.0.elapsed() >= TELL_EVERY {
            self.tell();
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_, Message>) -> Result<(), HandlerError> {
        self.settle(Timestamp(u64::MAX), cx)?;
        self.tell();
        Ok(())
    }
}

impl Observe for Rules {
    fn observe(
        &mut self,
        batch: &Batch,
        cx: &mut Context<'_, Message>,
    ) -> Result<(), HandlerError> {
        // What ran before the watching began comes before all else.
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
    /// Lets go all events up to a time, in their order.
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
                    let looked = self.engine.look(&run.batch, events);
                    looked.map_err(|message| HandlerError::Failed { message, source: None })?;
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

    /// Comes back to what waits when nothing else moves it on.
    fn wait(&mut self, cx: &mut Context<'_, Message>) {
        if !self.ticking && self.order.len() > 0 {
            self.ticking = true;
            cx.after(self.window.max(Duration::from_millis(1)), Message::Tick);
        }
    }

    /// Tells what had to be left out since that was told last.
    fn tell(&mut self) {
        let lost =
            Lost { engine: self.engine.left(), late: self.order.late, hurried: self.order.hurried };
        let before = std::mem::replace(&mut self.told, (Instant::now(), lost)).1;
        // Alerts that were kept back are as it should be.
        let quiet = Lost { engine: Left { suppressed: 0, ..lost.engine }, ..lost };
        let quiet_before = Lost { engine: Left { suppressed: 0, ..before.engine }, ..before };
        if quiet == quiet_before {
            return;
        }
        let Left { suppressed, keys_evicted, processes_evicted, evidence_refused } = lost.engine;
        let (late, hurried) = (lost.late, lost.hurried);
        tracing::warn!(
            handler = %self.name, late, hurried, keys_evicted, processes_evicted, evidence_refused, suppressed,
            "some events came out of order or had no room, since the start: see order, max_waiting, max_keys, max_processes and \
             max_evidence_kib"
        );
    }
}

/// A problem for people, in one line.
fn in_a_line(problem: &Problem) -> String {
    let at = problem.offset.map_or_else(String::new, |at| format!(" at character {}", at + 1));
    let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
    format!("{}{at}: {}{hint}", problem.key, problem.message)
}

/// Numbers out of bounds.
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
    let hint = "alerts are delayed by this time: write at most \"1m\"";
    numbers.chain(order.map(|problem| problem.hint(hint))).collect()
}
