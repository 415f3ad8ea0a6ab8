//! The `throttle` handler: lets at most so many events of each key go on in a time, and says how
//! many it kept back.
//!
//! Each key has a token bucket: it holds `burst` events at most, and `events` come back in the time
//! `per`. A bucket and not a window, because at a window's edge twice as many could go on as at any
//! other moment, and because what is left of a bucket is known with two numbers a key. Time is that
//! of the events, so that a replay keeps back what the first run did.

mod bucket;
mod options;
mod suppressed;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use whalewatch_core::{
    Batch, BuildError, ChainContext, ChainId, Context, Declaration, EventRef, Handler,
    HandlerError, Problem, Schema, Setup, Timestamp,
};
use whalewatch_kit::{EventTime, Keys};

use bucket::Allowance;
pub use options::ThrottleOptions;
use suppressed::{Reports, Suppression};
use table::{REST, Table};

/// Time to see what was kept back long enough ago to be told.
#[derive(Clone, Copy, Debug)]
pub struct Tick;

/// Lets at most so many events of each key go on in a time.
#[derive(Debug)]
pub struct Throttle {
    /// The one chain that the handler is in.
    chain: Option<ChainId>,
    keys: Keys,
    allowance: Allowance,
    table: Table,
    suppressions: Vec<Suppression>,
    reports: Reports,
    /// How often it is told of a key whose events are being kept back.
    report: Duration,
    /// For how long nothing of a key must have been kept back until that counts as ended.
    quiet: Duration,
    /// How often it is looked what is to be told.
    step: Duration,
    next_look: Timestamp,
    time: EventTime,
    ticking: bool,
    /// Whether it was said that there are too many keys.
    said: bool,
    key: Vec<u8>,
}

impl Handler for Throttle {
    const ABOUT: &'static str =
        "lets at most so many events of each key go on in a time, and says how many it kept back";
    type Options = ThrottleOptions;
    type Message = Tick;
    const DECLARATION: Declaration<Self> = Declaration::new().adds(Self::added_schemas);

    fn check(options: &ThrottleOptions, input: &[Schema]) -> Vec<Problem> {
        options.problems(input)
    }

    fn build(options: &ThrottleOptions, setup: &Setup<Tick>) -> Result<Self, BuildError> {
        let allowance = Allowance::new(options.events, options.per.0, options.burst());
        let quiet = options.per.0.max(Duration::from_secs(1));
        Ok(Self {
            chain: setup.chains.first().copied(),
            keys: Keys::new(&options.by, setup.host_name.clone()),
            allowance,
            table: Table::new(allowance, options.max_keys as usize),
            suppressions: Vec::new(),
            reports: Reports::new(setup.name.clone(), &options.by),
            report: options.report.0,
            quiet,
            step: quiet.min(options.report.0) / 4,
            next_look: Timestamp(0),
            time: EventTime::default(),
            ticking: false,
            said: false,
            key: Vec::new(),
        })
    }

    fn handle(
        &mut self,
        mut batch: Batch,
        cx: &mut ChainContext<'_, Tick>,
    ) -> Result<(), HandlerError> {
        self.chain = Some(cx.chain());
        let plan = self.keys.plan(&batch);
        cx.filtered(batch.retain(|event| self.passes(plan, event)));
        cx.emit(batch);
        self.tell(cx);
        Ok(())
    }

    fn message(&mut self, _: Tick, cx: &mut Context<'_, Tick>) -> Result<(), HandlerError> {
        self.ticking = false;
        self.time.tick(self.step, cx.behind());
        self.look(self.time.now());
        self.tell(cx);
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_, Tick>) -> Result<(), HandlerError> {
        for mut suppression in self.suppressions.drain(..) {
            self.table.slot(suppression.slot).suppression = None;
            self.reports.tell(&self.keys, &mut suppression);
        }
        self.tell(cx);
        Ok(())
    }
}

impl Throttle {
    fn added_schemas(options: &ThrottleOptions) -> Vec<Schema> {
        vec![suppressed::shape(&options.by).schema()]
    }
}

impl Throttle {
    /// Whether an event goes on.
    fn passes(&mut self, plan: usize, event: EventRef<'_>) -> bool {
        self.time.saw(event.time());
        let now = self.time.latest();
        if now >= self.next_look {
            self.look(now);
        }
        self.keys.write(&mut self.key, plan, event);
        let at = self.table.find(&self.key, now);
        if at == REST && !self.said {
            self.said = true;
            let by = self.keys.fields().collect::<Vec<_>>().join(", ");
            tracing::warn!(%by, "throttle: more keys than max_keys: those beyond share one allowance");
        }
        let slot = self.table.slot(at);
        if slot.bucket.take(self.allowance, event.time()) {
            return true;
        }
        let suppression = *slot.suppression.get_or_insert_with(|| {
            self.suppressions.push(Suppression::new(at, slot.key.clone(), event.time()));
            self.suppressions.len() - 1
        });
        self.suppressions[suppression].count(event, self.keys.by_container());
        false
    }

    /// Tells of what has ended or lasts so long that it is to be told.
    fn look(&mut self, now: Timestamp) {
        let step = self.step.as_nanos() as u64;
        // Whole steps, so that it is the same moments whatever came before.
        self.next_look = Timestamp((now.as_nanos() / step).saturating_add(1).saturating_mul(step));
        let mut at = 0;
        while let Some(suppression) = self.suppressions.get_mut(at) {
            let ended = suppression.ended(now, self.quiet);
            if ended || suppression.due(now, self.report) {
                self.reports.tell(&self.keys, suppression);
            }
            if ended {
                let gone = self.suppressions.swap_remove(at);
                self.table.slot(gone.slot).suppression = None;
                if let Some(moved) = self.suppressions.get(at) {
                    self.table.slot(moved.slot).suppression = Some(at);
                }
            } else {
                at += 1;
            }
        }
    }

    /// Sends what there is to tell, and has itself called again while there may be more.
    fn tell(&mut self, cx: &mut Context<'_, Tick>) {
        if let Some(chain) = self.chain
            && let Some(batch) = self.reports.take()
        {
            cx.add_to(chain, batch);
        }
        if !self.suppressions.is_empty() && !self.ticking {
            self.ticking = true;
            cx.after(self.step, Tick);
        }
    }
}
