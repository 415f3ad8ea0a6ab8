//! The manager: owns the pid map, says of each event which container did it, and never waits for
//! anything.
//!
//! | file | what it does |
//! |---|---|
//! | `learn` | what trackers tell of processes and cgroups |
//! | `news` | what the runtime's client tells of containers |
//! | `attribute` | which container did it |
//! | `tell` | what goes down the chains: what was held, and the manager's own events |

mod attribute;
mod learn;
mod news;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whalewatch_core::{
    Batch, BuildError, ChainContext, ChainId, ContainerCounts, Context, Declaration, Directory,
    EarlyWork, Event, Handler, HandlerError, Lifecycle, Mailbox, Observe, Problem, Replay, Schema,
    Setup,
};

use crate::cgroups::{Answer, Cgroups, Hierarchy};
use crate::clock::Clock;
use crate::containers::{Containers, Known};
use crate::event::ContainerEvent;
use crate::hold::{For, Room};
use crate::kernel::{self, KernelView};
use crate::options::{ContainerOptions, RuntimeKind};
use crate::pids::{Pids, Spaces};
use crate::proc::{Proc, Seen, Told};
use crate::request::{Client, Heard, Nobody, Request};
use crate::runtimes;

/// A message to the manager, from its timers and helpers. Nobody else makes one.
#[derive(Debug)]
pub struct Message(pub(crate) Inner);

#[derive(Debug)]
pub(crate) enum Inner {
    /// Tell of the containers that were there before.
    Start,
    /// A runtime's client has learnt something.
    News(Heard),
    /// Processes that run, read from `/proc` at start.
    Running(Vec<Running>),
    /// Something may have waited long enough.
    Release,
    /// Something may be forgotten.
    Sweep,
    /// A refresh was wanted too soon after the last.
    Refresh,
}

/// A process that runs, and its container as its cgroups tell it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Running {
    pub(crate) seen: Seen,
    pub(crate) home: Told,
}

/// What the manager needs of the world around it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Clock,
    /// The kernel, by way of its file systems.
    pub(crate) kernel: KernelView,
    pub(crate) helper: Box<dyn Client>,
    /// Where it is published who lives in which cgroup.
    pub(crate) directory: Directory,
}

/// Says of each event which container did it. See the crate's own page.
#[derive(Debug)]
pub struct ContainerManager {
    options: ContainerOptions,
    /// The runtimes that are asked.
    kinds: Vec<RuntimeKind>,
    name: Arc<str>,
    world: World,
    host: Spaces,
    cgroups: Cgroups,
    containers: Containers,
    pids: Pids,
    room: Room,
    chains: Vec<ChainId>,
    started: bool,
    counts: Counts,
    arrivals: u64,
    /// What each event of the batch at hand is to wait for. Kept, so that a batch allocates
    /// nothing.
    waits: Vec<Option<For>>,
    /// The last cgroup id that nobody could tell, so that it is asked for once a batch.
    untold: u64,
    release_at: Option<Duration>,
    /// When the counts by container were told last.
    counted_at: Option<Duration>,
    sweep_at: Option<Duration>,
    refreshed_at: Option<Duration>,
    refresh_waits: bool,
    /// What containers that are forgotten had.
    former: BTreeMap<Arc<str>, ContainerCounts>,
}

/// Containers long gone whose counts are kept for the statistics: about 300 bytes each, twice.
const MOST_FORMER: usize = 1024;
/// Former cgroups that are remembered of one container: what was lost is known by cgroup.
pub(crate) const MOST_FORMER_CGROUPS: usize = 16;

/// Events that were attributed to no container; those of containers are counted with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    host: u64,
    unknown: u64,
    /// Of containers that are known no more.
    forgotten: u64,
}

impl ContainerManager {
    pub(crate) fn new(
        options: ContainerOptions,
        name: Arc<str>,
        chains: Vec<ChainId>,
        world: World,
    ) -> Self {
        let grace = options.grace.0;
        let mut manager = Self {
            host: world.kernel.host().into(),
            cgroups: Cgroups::new(options.max_cgroups as usize, grace),
            containers: Containers::new(options.max_containers as usize),
            pids: Pids::new(options.max_processes as usize, grace),
            room: Room::default(),
            chains,
            started: false,
            counts: Counts::default(),
            arrivals: 0,
            waits: Vec::new(),
            untold: 0,
            release_at: None,
            counted_at: None,
            sweep_at: None,
            refreshed_at: None,
            refresh_waits: false,
            former: BTreeMap::new(),
            kinds: options.runtimes(),
            options,
            name,
            world,
        };
        manager.scan();
        manager
    }

    /// Takes in the cgroups that are there: trackers are open by now, so what goes from here on is
    /// told of. Their containers are told of at the first call that can tell.
    fn scan(&mut self) {
        for (id, path) in self.world.kernel.cgroups(self.options.max_cgroups as usize) {
            self.take_in_cgroup(id, &path);
        }
    }

    /// How many events went to whom, by container id, and with which cgroups; `host` and `unknown`
    /// stand beside the ids, and `forgotten` for containers beyond those that there is room to tell
    /// of.
    pub fn counts(&self) -> BTreeMap<Arc<str>, ContainerCounts> {
        let mut all = self.former.clone();
        let counts = &self.counts;
        let words =
            [("host", counts.host), ("unknown", counts.unknown), ("forgotten", counts.forgotten)];
        for (word, events) in words.into_iter().filter(|(word, n)| *word == "host" || *n > 0) {
            all.entry(word.into()).or_default().events += events;
        }
        for (_, known) in self.containers.iter() {
            let container = all.entry(Arc::clone(&known.snapshot.id)).or_default();
            container.name.clone_from(&known.snapshot.name);
            container.events += known.events;
        }
        for (cgroup, answer) in self.cgroups.iter() {
            let owner = match answer {
                Answer::Container(serial) | Answer::Doubtful(serial) => {
                    self.containers.get(serial).map(|known| Arc::clone(&known.snapshot.id))
                }
                Answer::Host => Some("host".into()),
                Answer::Silent => None,
            };
            if let Some(owner) = owner {
                all.entry(owner).or_default().cgroups.push(cgroup);
            }
        }
        all
    }

    /// Keeps a container's counts beyond its own end.
    fn remember_counts(&mut self, known: Known) {
        let id = known.snapshot.id.clone();
        if self.former.len() >= MOST_FORMER && !self.former.contains_key(&id) {
            self.counts.forgotten += known.events;
            return;
        }
        let former = self.former.entry(id).or_default();
        former.name = known.snapshot.name.clone().or(former.name.take());
        former.events += known.events;
        former.cgroups.extend(known.former_cgroups);
    }

    /// How many containers, processes, cgroups and held events there are.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize, usize, usize) {
        (self.containers.len(), self.pids.len(), self.cgroups.len(), self.room.len())
    }

    #[cfg(test)]
    pub(crate) fn status(&self, id: &str) -> Option<whalewatch_core::Status> {
        Some(self.containers.get(self.containers.by_id(id)?)?.snapshot.status)
    }

    /// How many events of the manager's own are held.
    #[cfg(test)]
    pub(crate) fn held_own(&self) -> usize {
        self.room.own()
    }

    #[cfg(test)]
    pub(crate) fn set_host(&mut self, host: whalewatch_core::Namespaces) {
        self.host = host.into();
    }

    fn now(&self) -> Duration {
        self.world.clock.now()
    }

    /// Ends a call: what waits beyond the bound goes on, and timers are set for what waits and what
    /// is to be forgotten. No timer runs while there is neither.
    fn conclude(&mut self, cx: &mut Context<'_, Message>) {
        const LEAST: Duration = Duration::from_millis(250);
        // To make the counts of ten thousand containers takes milliseconds.
        const COUNTS: Duration = Duration::from_secs(5);
        let counted = self.counted_at;
        if counted.is_none_or(|at| self.now().saturating_sub(at) >= COUNTS) {
            self.counted_at = Some(self.now());
            cx.count_containers(self.counts());
        }
        self.release_beyond(cx);
        let release = self.room.next().filter(|&at| self.release_at.is_none_or(|set| at < set));
        let sweep = match self.sweep_at {
            None => self.next_sweep(),
            Some(_) => None,
        };
        if release.is_none() && sweep.is_none() {
            return;
        }
        let now = self.now();
        if let Some(at) = release {
            self.release_at = Some(at);
            cx.after(at.saturating_sub(now), Message(Inner::Release));
        }
        if let Some(at) = sweep {
            self.sweep_at = Some(at);
            cx.after(at.saturating_sub(now).max(LEAST), Message(Inner::Sweep));
        }
    }

    fn next_sweep(&self) -> Option<Duration> {
        let all = [self.pids.next_sweep(), self.cgroups.next_sweep(), self.containers.next_sweep()];
        all.into_iter().flatten().min()
    }

    /// Forgets what is gone for longer than the grace period. Not while a slow reader holds events
    /// up: those that come then may be older than that.
    fn sweep(&mut self, cx: &mut Context<'_, Message>) {
        let now = self.now();
        self.sweep_at = None;
        if cx.behind() {
            return; // `conclude` sets the next timer.
        }
        self.pids.sweep(now);
        self.cgroups.sweep(now);
        while let Some((serial, known)) = self.containers.sweep(now) {
            for &id in &known.cgroups {
                self.cgroups.forget(id);
                self.world.directory.retract(id);
            }
            self.release(For::Name(serial), cx);
            let id = Arc::clone(&known.snapshot.id);
            tracing::debug!(%id, events = known.events, "container is forgotten");
            self.world.helper.ask(Request::Forget(id));
            self.remember_counts(known);
        }
    }

    fn message_inner(&mut self, message: Inner, cx: &mut Context<'_, Message>) {
        match message {
            Inner::Start => {}
            Inner::News(heard) => self.hear(heard, cx),
            Inner::Running(running) => self.take_in_running(running, cx),
            Inner::Release => {
                self.release_at = None;
                self.release_due(cx);
            }
            Inner::Sweep => self.sweep(cx),
            Inner::Refresh => {
                self.refresh_waits = false;
                self.want_refresh(cx);
            }
        }
    }

    fn log_counts(&self) {
        tracing::debug!(
            host = self.counts.host,
            unknown = self.counts.unknown,
            containers = self.containers.len(),
            containers_refused = self.containers.refused(),
            processes = self.pids.len(),
            processes_evicted = self.pids.evicted(),
            cgroups = self.cgroups.len(),
            cgroups_refused = self.cgroups.refused(),
            held = self.room.len(),
            "container manager"
        );
    }
}

impl Handler for ContainerManager {
    const ABOUT: &'static str = "says of each event which container did it";
    type Options = ContainerOptions;
    type Message = Message;
    /// Cgroups first: one that was there before the others watch is there when the manager looks,
    /// or is told of when it goes.
    const DECLARATION: Declaration<Self> = Declaration::new()
        .shared()
        .publishes()
        .observes(&["cgroup", "process"])
        .adds(|_| vec![Schema::of::<ContainerEvent>()])
        .early_work(Self::start_early_work)
        .lifecycle()
        .replays();

    fn check(options: &ContainerOptions, _: &[Schema]) -> Vec<Problem> {
        options.problems()
    }

    fn build(options: &ContainerOptions, setup: &Setup<Message>) -> Result<Self, BuildError> {
        let mailbox = setup.mailbox.clone();
        let outside = setup.outside.clone();
        let helper: Box<dyn Client> = if outside.is_replay() {
            Box::new(Nobody) // what was told comes again by itself
        } else {
            let news = mailbox.clone();
            Box::new(runtimes::start(options, move |heard| news.send(Message(Inner::News(heard)))))
        };
        let proc = begun(&setup.early_work);
        let clock = outside.clone();
        let replay = outside.is_replay();
        let world = World {
            clock: Clock::new(move || clock.elapsed()),
            kernel: KernelView::new(outside, proc.clone(), Hierarchy::version_2),
            helper,
            directory: setup.directory.clone(),
        };
        let manager =
            Self::new(options.clone(), Arc::clone(&setup.name), setup.chains.clone(), world);
        mailbox.send(Message(Inner::Start));
        if !replay {
            read_running(proc, options.max_processes as usize, mailbox);
        }
        Ok(manager)
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Message>,
    ) -> Result<(), HandlerError> {
        self.start(cx);
        self.attribute_batch(batch, cx);
        self.conclude(cx);
        Ok(())
    }

    fn message(
        &mut self,
        message: Message,
        cx: &mut Context<'_, Message>,
    ) -> Result<(), HandlerError> {
        self.start(cx);
        self.message_inner(message.0, cx);
        self.conclude(cx);
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_, Message>) -> Result<(), HandlerError> {
        let chain = cx.chain();
        self.release_chain(chain, cx);
        self.chains.retain(|&c| c != chain);
        self.log_counts();
        cx.count_containers(self.counts());
        Ok(())
    }
}

impl Observe for ContainerManager {
    fn observe(
        &mut self,
        batch: &Batch,
        cx: &mut Context<'_, Message>,
    ) -> Result<(), HandlerError> {
        self.start(cx);
        // Our own events say nothing of processes.
        if batch.event_name() != ContainerEvent::NAME {
            let now = self.now();
            for event in batch.iter() {
                self.learn(event, now, cx);
            }
        }
        self.conclude(cx);
        Ok(())
    }
}

impl Lifecycle for ContainerManager {
    fn begin(&mut self, cx: &mut ChainContext<'_, Message>) -> Result<(), HandlerError> {
        self.chains.push(cx.chain());
        Ok(())
    }
}

impl Replay for ContainerManager {
    fn record(message: &Message) -> Option<String> {
        kernel::record(&message.0)
    }

    fn recall(recorded: &str) -> Option<Message> {
        kernel::recall(recorded).map(Message)
    }
}

impl ContainerManager {
    /// The state that runtimes keep of a container may be gone before all trackers are open.
    fn start_early_work(_: &ContainerOptions) -> EarlyWork {
        let proc = Proc::default();
        proc.watch();
        EarlyWork::new(proc)
    }
}

/// What watches since before trackers were open; in a replay nothing does.
fn begun(ahead: &EarlyWork) -> Proc {
    ahead.get::<Proc>().cloned().unwrap_or_default()
}

/// Reads the processes that run, on a thread of its own: the manager needs them even where no
/// tracker tells of them again, after it was built anew.
fn read_running(proc: Proc, most: usize, mailbox: Mailbox<Message>) {
    let read = move || {
        let mut chunk = Vec::new();
        for pid in proc.pids().take(most) {
            let Some(seen) = proc.see(pid) else { continue };
            let Some(home) = proc.container(seen.key) else { continue };
            chunk.push(Running { seen, home });
            if chunk.len() == 256 {
                mailbox.send(Message(Inner::Running(std::mem::take(&mut chunk))));
            }
        }
        mailbox.send(Message(Inner::Running(chunk)));
    };
    if let Err(error) = thread::Builder::new().name("running".into()).spawn(read) {
        tracing::warn!(%error, "running processes could not be read: no thread");
    }
}
