//! Replays: a recording through the chains of a plan, without privileges, and each time with the
//! same result.
//!
//! Nothing runs at once here: each batch goes through its chains to the end before the next is
//! read, timers go off when the recording's clock comes to them, and what handlers heard from
//! outside comes when it came then. So what is printed depends on the recording and the plan alone,
//! however fast the replay goes.

mod seat;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use whalewatch_core::{Batch, ChainId, Directory, HandlerCounters, Outside, SourceCounts};

use crate::actors::ActorId;
use crate::actors::tracker::TrackerCounters;
use crate::plan::Plan;
use crate::recording::{Answers, Item, Reader, RecordingError, What};
use crate::registry::Registry;
use crate::stats::{Counters, Totals};
use seat::Failed;
pub(crate) use seat::{Seat, SeatSetup, Seated};

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speed {
    /// As fast as the chains take it.
    #[default]
    Fastest,
    /// As it happened.
    RealTime,
}

/// A replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording could not be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A handler could not be made.
    #[error("\"{name}\" cannot start: {message}")]
    Build {
        /// Name of the handler.
        name: String,
        /// Why, and how to mend it.
        message: String,
    },
    /// A handler failed.
    #[error("\"{name}\" failed: {message}")]
    Failed {
        /// Name of the handler.
        name: String,
        /// Why.
        message: String,
    },
}

/// What comes out of the ends of chains, for whoever wants it instead of the outputs: the chain's
/// name and a batch.
pub type Collector<'a> = dyn FnMut(&str, &Batch) + 'a;

/// A recording and the plan that it is to go through.
pub struct Replay<'a> {
    registry: &'a Registry,
    plan: &'a Plan,
    path: PathBuf,
    speed: Speed,
    stop: Arc<AtomicBool>,
}

/// What a replay did.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    /// Totals, as of a run.
    pub totals: Totals,
    /// Events of trackers that the plan has not, by the name of the tracker.
    pub left_out: HashMap<String, u64>,
}

impl<'a> Replay<'a> {
    /// Plays the recording at `path` through `plan`, whose trackers are not opened.
    pub fn new(registry: &'a Registry, plan: &'a Plan, path: &Path) -> Self {
        let stop = Arc::default();
        Self { registry, plan, path: path.into(), speed: Speed::default(), stop }
    }

    /// How fast.
    #[must_use]
    pub fn speed(mut self, speed: Speed) -> Self {
        self.speed = speed;
        self
    }

    /// Ends the replay when it is set: what was read is brought to its end.
    pub fn stopper(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Plays it into the plan's outputs.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn run(&self) -> Result<Replayed, ReplayError> {
        self.play(None)
    }

    /// Plays it into `collector`; outputs are not made.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn collect(&self, collector: &mut Collector<'_>) -> Result<Replayed, ReplayError> {
        self.play(Some(collector))
    }

    fn play(&self, collector: Option<&mut Collector<'_>>) -> Result<Replayed, ReplayError> {
        let schemas = self.registry.schemas();
        let answers = Reader::open(&self.path, schemas.clone())?.answers()?;
        let mut reader = Reader::open(&self.path, schemas)?;
        let clock = Arc::new(AtomicU64::new(reader.start().0));
        let mut stand = Stand::new(self.plan, &reader, answers, clock, collector)?;
        match self.feed(&mut reader, &mut stand) {
            // Whoever reads the output has seen enough.
            Ok(()) | Err(Stopped::Closed) => Ok(stand.finish()),
            Err(Stopped::Error(error)) => Err(error),
        }
    }

    fn feed(&self, reader: &mut Reader, stand: &mut Stand<'_, '_>) -> Result<(), Stopped> {
        let begin = (Instant::now(), reader.start().0);
        stand.collect()?;
        while let Some(item) = reader.next().map_err(ReplayError::from)? {
            if self.stop.load(Relaxed) {
                break;
            }
            if self.speed == Speed::RealTime {
                // What comes now is to find everything before it printed.
                stand.flush()?;
                let due = begin.0 + Duration::from_nanos(item.at.0.saturating_sub(begin.1));
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            stand.take(item)?;
        }
        stand.end()
    }
}

/// Why a replay goes on no longer.
enum Stopped {
    Closed,
    Error(ReplayError),
}

impl From<ReplayError> for Stopped {
    fn from(error: ReplayError) -> Self {
        Self::Error(error)
    }
}

/// A handler in its seat, or the collector in its place.
struct Place {
    name: Arc<str>,
    /// Which of the plan's handlers it is.
    handler: usize,
    /// `None` where a collector stands.
    seat: Option<Box<dyn Seated>>,
}

/// All seats, joined as the plan's chains say.
struct Stand<'p, 'c> {
    plan: &'p Plan,
    places: Vec<Place>,
    /// For each chain, the places that it goes through.
    chains: Vec<Vec<usize>>,
    clock: Arc<AtomicU64>,
    counters: Counters,
    /// For each of the plan's trackers.
    trackers: Vec<(Arc<TrackerCounters>, u64)>,
    left_out: HashMap<String, u64>,
    collector: Option<&'c mut Collector<'c>>,
}

impl<'p, 'c> Stand<'p, 'c> {
    fn new(
        plan: &'p Plan,
        reader: &Reader,
        mut answers: Answers,
        clock: Arc<AtomicU64>,
        collector: Option<&'c mut Collector<'_>>,
    ) -> Result<Self, ReplayError> {
        // A collector outlives the stand that it is lent to.
        let collector = collector.map(|collector| -> &'c mut Collector<'c> { collector });
        let mut stand = Self {
            plan,
            places: Vec::new(),
            chains: Vec::new(),
            clock,
            counters: Counters::default(),
            trackers: plan.trackers.iter().map(|_| Default::default()).collect(),
            left_out: HashMap::new(),
            collector,
        };
        let directory = Directory::default();
        for (number, chain) in (0..).zip(&plan.chains) {
            let mut places = Vec::new();
            for (step, &handler) in chain.through.iter().enumerate() {
                let last = step + 1 == chain.through.len();
                let planned = &plan.handlers[handler];
                let known = stand
                    .places
                    .iter()
                    .position(|place| planned.shared && place.handler == handler);
                if let Some(known) = known {
                    places.push(known);
                    continue;
                }
                let name: Arc<str> = planned.name.as_str().into();
                let counters = Arc::<HandlerCounters>::default();
                let id = ActorId(stand.places.len() as u64);
                stand.counters.add_handler(id, Arc::clone(&name), Arc::clone(&counters));
                let in_chains =
                    (0..).zip(&plan.chains).filter(|(_, c)| c.through.contains(&handler));
                let chains = if planned.shared {
                    in_chains.map(|(number, _)| ChainId(number)).collect()
                } else {
                    vec![ChainId(number)]
                };
                let answers = answers.remove(&planned.name).unwrap_or_default();
                let setup = SeatSetup {
                    name: Arc::clone(&name),
                    host_name: reader.host().into(),
                    directory: directory.clone(),
                    outside: Outside::replay(answers, Arc::clone(&stand.clock)),
                    chains,
                    counters,
                };
                let collected = last && stand.collector.is_some();
                let seat = if collected { None } else { Some(planned.handler.seat(setup)) };
                let seat = seat.transpose().map_err(|message| ReplayError::Build {
                    name: planned.name.clone(),
                    message,
                })?;
                places.push(stand.places.len());
                stand.places.push(Place { name, handler, seat });
            }
            stand.chains.push(places);
        }
        for (number, (planned, (counters, _))) in
            plan.trackers.iter().zip(&stand.trackers).enumerate()
        {
            let id = ActorId((stand.places.len() + number) as u64);
            stand.counters.add_tracker(id, planned.name.as_str().into(), Arc::clone(counters));
        }
        Ok(stand)
    }

    /// Calls a handler, and brings what it gives to those behind it.
    fn call(
        &mut self,
        place: usize,
        call: impl FnOnce(&mut dyn Seated) -> Result<(), Failed>,
    ) -> Result<(), Stopped> {
        let at = &mut self.places[place];
        let Some(seat) = &mut at.seat else { return Ok(()) };
        let result = call(&mut **seat);
        let given = seat.take();
        for (chain, batch) in given {
            let count = batch.len() as u64;
            let through = self.chains.get(chain.0 as usize);
            let next = through.and_then(|through| {
                let step = through.iter().position(|&other| other == place)?;
                through.get(step + 1).copied()
            });
            if let Some(seat) = &self.places[place].seat {
                let (counters, taken) = (seat.counters(), next.is_some() || seat.passes_on());
                let counter = if taken { &counters.output } else { &counters.dropped };
                HandlerCounters::add(counter, count);
            }
            if let Some(next) = next {
                self.bring(chain, next, batch)?;
            }
        }
        result.map_err(|failed| match failed {
            Failed::Closed => Stopped::Closed,
            Failed::For(message) => {
                let name = self.places[place].name.to_string();
                ReplayError::Failed { name, message }.into()
            }
        })
    }

    fn bring(&mut self, chain: ChainId, place: usize, batch: Batch) -> Result<(), Stopped> {
        if self.places[place].seat.is_some() {
            return self.call(place, |seat| seat.handle(chain, batch));
        }
        let name = &self.plan.chains[chain.0 as usize].name;
        if let Some(collector) = &mut self.collector {
            collector(name, &batch);
        }
        Ok(())
    }

    /// Takes what happened next, after all timers that were due before it.
    fn take(&mut self, item: Item) -> Result<(), Stopped> {
        self.advance(item.at.0)?;
        match item.what {
            // They were read before anything else.
            What::Answer => {}
            What::Heard { handler, text } => {
                let heard = |place: &Place| *place.name == *handler;
                if let Some(place) = self.places.iter().position(heard) {
                    let mut read = true;
                    self.call(place, |seat| seat.hear(&text).map(|known| read = known))?;
                    if !read {
                        tracing::warn!(
                            handler,
                            "the recording has a message that this handler does not know"
                        );
                    }
                }
            }
            What::Batch { tracker, type_name, existing, batch } => {
                self.take_batch(&tracker, &type_name, existing, &batch)?;
            }
        }
        self.collect()
    }

    fn take_batch(
        &mut self,
        tracker: &str,
        type_name: &str,
        existing: bool,
        batch: &Batch,
    ) -> Result<(), Stopped> {
        let Some(number) = self.tracker(tracker, type_name) else {
            *self.left_out.entry(tracker.to_owned()).or_default() += batch.len() as u64;
            return Ok(());
        };
        let planned = &self.plan.trackers[number];
        for &handler in &planned.needed_by {
            let fed = self.places.iter().enumerate().filter(|(_, place)| place.handler == handler);
            for place in fed.map(|(place, _)| place).collect::<Vec<_>>() {
                self.call(place, |seat| seat.observe(batch))?;
            }
        }
        if existing {
            return Ok(());
        }
        self.trackers[number].1 += batch.len() as u64;
        for (chain, planned) in (0..).zip(&self.plan.chains) {
            if planned.from.contains(&number) {
                let first = self.chains[chain as usize][0];
                self.bring(ChainId(chain), first, batch.clone())?;
            }
        }
        Ok(())
    }

    /// Which of the plan's trackers a recorded one is: that of its name and type, else the first of
    /// its type.
    fn tracker(&self, name: &str, type_name: &str) -> Option<usize> {
        let trackers = &self.plan.trackers;
        let same = |both: bool| {
            trackers.iter().position(|t| t.type_name == type_name && (!both || t.name == name))
        };
        same(true).or_else(|| same(false))
    }

    /// The clock goes on; timers go off when they are due.
    fn advance(&mut self, to: u64) -> Result<(), Stopped> {
        loop {
            let due =
                |(number, place): (usize, &Place)| Some((place.seat.as_ref()?.due()?, number));
            let next = self.places.iter().enumerate().filter_map(due).min();
            let Some((due, place)) = next.filter(|(due, _)| *due <= to) else { break };
            self.clock.fetch_max(due, Relaxed);
            self.call(place, |seat| seat.fire())?;
        }
        self.clock.fetch_max(to, Relaxed);
        Ok(())
    }

    /// Takes what handlers' own helpers have sent.
    fn collect(&mut self) -> Result<(), Stopped> {
        for place in 0..self.places.len() {
            self.call(place, |seat| seat.collect())?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        self.each(|seat, chain| seat.flush(chain))
    }

    fn end(&mut self) -> Result<(), Stopped> {
        self.each(|seat, chain| seat.end(chain).and_then(|()| seat.flush(chain)))?;
        self.collect()?;
        for place in 0..self.places.len() {
            self.call(place, |seat| seat.finish())?;
        }
        Ok(())
    }

    /// Calls every handler for each chain that it stands in, from the beginning of the chain to its
    /// end.
    fn each(
        &mut self,
        call: impl Fn(&mut dyn Seated, ChainId) -> Result<(), Failed>,
    ) -> Result<(), Stopped> {
        for (chain, through) in (0..).zip(self.chains.clone()) {
            for place in through {
                self.call(place, |seat| call(seat, ChainId(chain)))?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Replayed {
        for (counters, events) in &self.trackers {
            let counts = SourceCounts { generated: *events, ..SourceCounts::default() };
            counters.write(counts, *events);
        }
        Replayed { totals: self.counters.totals(), left_out: self.left_out }
    }
}
