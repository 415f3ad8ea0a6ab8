//! The `throttle` handler: limits the rate of events of each key, and reports how many it
//! suppressed.
//!
//! Each key has a token bucket of `burst` events, to which `events` are added in each `per`. A
//! window instead would let twice as many events pass around its edge as at any other time. A
//! bucket also needs only two numbers for each key. It follows the events' time, so that a replay
//! suppresses the same events as the first run.

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

/// The timer that checks for due reports while no event arrives.
#[derive(Clone, Copy, Debug)]
pub struct Tick;

/// Limits the rate of events of each key.
#[derive(Debug)]
pub struct Throttle {
    /// The chain that the handler is in.
    chain: Option<ChainId>,
    keys: Keys,
    allowance: Allowance,
    table: Table,
    suppressions: Vec<Suppression>,
    reports: Reports,
    /// How often to report a suppression while it lasts.
    report_interval: Duration,
    /// A suppression ends when no event of its key was suppressed for this time.
    quiet: Duration,
    /// How often to check for reports that are due.
    check_interval: Duration,
    next_check: Timestamp,
    time: EventTime,
    timer_is_set: bool,
    /// Whether the warning about too many keys was logged.
    warned: bool,
    key: Vec<u8>,
}

impl Handler for Throttle {
    const ABOUT: &'static str =
        "limits the rate of events of each key, and reports how many it suppressed";
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
            report_interval: options.report.0,
            quiet,
            check_interval: quiet.min(options.report.0) / 4,
            next_check: Timestamp(0),
            time: EventTime::default(),
            timer_is_set: false,
            warned: false,
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
        self.emit_reports(cx);
        Ok(())
    }

    fn message(&mut self, _: Tick, cx: &mut Context<'_, Tick>) -> Result<(), HandlerError> {
        self.timer_is_set = false;
        self.time.tick(self.check_interval, cx.behind());
        self.check_reports(self.time.now());
        self.emit_reports(cx);
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_, Tick>) -> Result<(), HandlerError> {
        for mut suppression in self.suppressions.drain(..) {
            self.table.slot(suppression.slot).suppression = None;
            self.reports.add(&self.keys, &mut suppression);
        }
        self.emit_reports(cx);
        Ok(())
    }
}

impl Throttle {
    fn added_schemas(options: &ThrottleOptions) -> Vec<Schema> {
        vec![suppressed::shape(&options.by).schema()]
    }
}

impl Throttle {
    /// Returns whether an event passes; counts it if it does not.
    fn passes(&mut self, plan: usize, event: EventRef<'_>) -> bool {
        self.time.saw(event.time());
        let now = self.time.latest();
        if now >= self.next_check {
            self.check_reports(now);
        }
        self.keys.write(&mut self.key, plan, event);
        let at = self.table.find(&self.key, now);
        if at == REST && !self.warned {
            self.warned = true;
            let by = self.keys.fields().collect::<Vec<_>>().join(", ");
            tracing::warn!(%by, "throttle: more than max_keys keys, the rest share one allowance");
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

    /// Reports the suppressions that have ended, and those whose next report is due.
    fn check_reports(&mut self, now: Timestamp) {
        let interval = self.check_interval.as_nanos() as u64;
        // Checks are at multiples of the interval, so that batches do not shift them.
        let next = (now.as_nanos() / interval).saturating_add(1).saturating_mul(interval);
        self.next_check = Timestamp(next);
        let mut at = 0;
        while let Some(suppression) = self.suppressions.get_mut(at) {
            let ended = suppression.ended(now, self.quiet);
            if ended || suppression.due(now, self.report_interval) {
                self.reports.add(&self.keys, suppression);
            }
            if ended {
                let removed = self.suppressions.swap_remove(at);
                self.table.slot(removed.slot).suppression = None;
                if let Some(moved) = self.suppressions.get(at) {
                    self.table.slot(moved.slot).suppression = Some(at);
                }
            } else {
                at += 1;
            }
        }
    }

    /// Emits the reports, and sets the timer while there is a suppression.
    fn emit_reports(&mut self, cx: &mut Context<'_, Tick>) {
        if let Some(chain) = self.chain
            && let Some(batch) = self.reports.take()
        {
            cx.add_to(chain, batch);
        }
        if !self.suppressions.is_empty() && !self.timer_is_set {
            self.timer_is_set = true;
            cx.after(self.check_interval, Tick);
        }
    }
}
