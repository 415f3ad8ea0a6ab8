//! The `aggregate` handler: counts, sums, distinct counts and most frequent values of groups of
//! events, over windows of time.
//!
//! Windows are tumbling: each begins where the last one ended, at a multiple of the window's length
//! since 1970. They follow the events' time, so that a replay gives the same results as the first
//! run. Real time closes windows only while no event arrives.

mod compute;
mod groups;
mod options;
mod results;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{
    Batch, BuildError, ChainContext, ChainId, Context, Declaration, EventRef, Handler,
    HandlerError, Problem, Schema, Setup, Value,
};
use whalewatch_kit::fields::Selected;
use whalewatch_kit::{EventTime, Keys};

use compute::Computation;
use groups::Windows;
pub use options::AggregateOptions;
use results::Results;
use state::Scratch;

/// The timer that closes windows while no event arrives.
#[derive(Clone, Copy, Debug)]
pub struct Tick;

/// Computes results for each group of events in each window of time.
#[derive(Debug)]
pub struct Aggregate {
    /// The chain that the handler is in.
    chain: Option<ChainId>,
    host: Arc<str>,
    pass: bool,
    keys: Keys,
    computations: Vec<(String, Computation)>,
    /// The field of each computation, for each plan of `keys`; `None` for `count()`.
    types: Vec<Box<[Option<Selected>]>>,
    windows: Windows,
    results: Results,
    time: EventTime,
    /// How often the timer fires.
    tick_interval: Duration,
    timer_is_set: bool,
    key: Vec<u8>,
    scratch: Scratch,
}

impl Handler for Aggregate {
    const ABOUT: &'static str = "computes counts, sums, distinct counts and most frequent values \
                                 of groups of events, over windows of time";
    type Options = AggregateOptions;
    type Message = Tick;
    const DECLARATION: Declaration<Self> = Declaration::new().adds(Self::added_schemas);

    fn check(options: &AggregateOptions, input: &[Schema]) -> Vec<Problem> {
        options.problems(input)
    }

    fn build(options: &AggregateOptions, setup: &Setup<Tick>) -> Result<Self, BuildError> {
        let mut problems = Vec::new();
        let computations = options.computations(&mut problems);
        if let Some(problem) = problems.into_iter().next() {
            return Err(BuildError(format!("{}: {}", problem.key, problem.message)));
        }
        let (window, late) = (options.window.0, options.late.0);
        let shape = results::shape(&options.by, &options.compute, &computations);
        let (groups, values) = (options.max_groups as usize, options.max_values as usize);
        let functions = computations.iter().map(|(_, compute)| compute.function).collect();
        Ok(Self {
            chain: setup.chains.first().copied(),
            host: setup.host_name.clone(),
            pass: options.pass,
            keys: Keys::new(&options.by, setup.host_name.clone()),
            types: Vec::new(),
            windows: Windows::new(functions, nanos(window), nanos(late), groups, values),
            results: Results::new(setup.name.clone(), shape, &computations),
            computations,
            time: EventTime::default(),
            tick_interval: (window / 8).clamp(Duration::from_millis(50), Duration::from_secs(1)),
            timer_is_set: false,
            key: Vec::new(),
            scratch: Scratch::default(),
        })
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Tick>,
    ) -> Result<(), HandlerError> {
        self.chain = Some(cx.chain());
        let plan = self.plan(&batch);
        for event in batch.iter() {
            self.add(plan, event);
        }
        self.emit_results(cx);
        if self.pass {
            cx.emit(batch);
        } else {
            cx.filtered(batch.len() as u64);
        }
        Ok(())
    }

    fn message(&mut self, _: Tick, cx: &mut Context<'_, Tick>) -> Result<(), HandlerError> {
        self.timer_is_set = false;
        self.time.tick(self.tick_interval, cx.behind());
        self.close(self.time.now().as_nanos());
        self.emit_results(cx);
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_, Tick>) -> Result<(), HandlerError> {
        self.close(u64::MAX);
        self.emit_results(cx);
        Ok(())
    }
}

impl Aggregate {
    fn added_schemas(options: &AggregateOptions) -> Vec<Schema> {
        let computations = options.computations(&mut Vec::new());
        vec![results::shape(&options.by, &options.compute, &computations).schema()]
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Aggregate {
    /// Prepares for the events of a batch; returns the plan that [`Aggregate::add`] takes.
    fn plan(&mut self, batch: &Batch) -> usize {
        let plan = self.keys.plan(batch);
        // `keys` numbers event types in the order of their arrival, so a new plan is the next
        // index.
        if plan == self.types.len() {
            let schema = batch.schema();
            let fields = self.computations.iter().map(|(_, compute)| compute.field.as_deref());
            let select = |field: Option<&str>| field.map(|field| Selected::new(&schema, field));
            self.types.push(fields.map(select).collect());
        }
        plan
    }

    /// Adds an event to its group.
    fn add(&mut self, plan: usize, event: EventRef<'_>) {
        self.time.saw(event.time());
        let now = self.time.latest().as_nanos();
        if self.windows.must_close(now) {
            self.close(now);
        }
        self.keys.write(&mut self.key, plan, event);
        let (group, late) = self.windows.find(&self.key, event.time().as_nanos());
        if self.keys.by_container() && group.key.is_some() {
            group.attribution.clone_from(event.attribution());
        }
        if late {
            group.late += 1;
            return;
        }
        group.events += 1;
        for (state, field) in group.states.iter_mut().zip(&self.types[plan]) {
            let value = field.map_or(Value::Bool(true), |field| field.value(event, &self.host));
            if value != Value::Null {
                state.add(value, &mut self.scratch);
            }
        }
    }

    /// Closes the windows that are due at a time, in nanoseconds since 1970.
    fn close(&mut self, now: u64) {
        let (keys, results) = (&self.keys, &mut self.results);
        self.windows.close(now, |start, end, group| results.add(keys, start, end, group));
    }

    /// Emits the results, and sets the timer while a window is open.
    fn emit_results(&mut self, cx: &mut Context<'_, Tick>) {
        if let Some(chain) = self.chain
            && let Some(batch) = self.results.take()
        {
            cx.add_to(chain, batch);
        }
        if !self.windows.is_empty() && !self.timer_is_set {
            self.timer_is_set = true;
            cx.after(self.tick_interval, Tick);
        }
    }
}
