//! The manager: owns every table, attributes events, and never waits for anything.
//!
//! | file | what it does |
//! |---|---|
//! | `attribute` | decides which container caused an event: the law of attribution |
//! | `observe` | learns processes and cgroups from trackers' events |
//! | `reports` | learns names and states from runtimes' clients |
//! | `emit` | sends held events and the manager's own events down the chains |
//! | `counts` | counts events by container |
//! | `message` | messages from timers and clients, and their form in recordings |
//! | `invariants` | what must hold between the tables |
//!
//! A call takes something in (a batch, an observed batch, a message), updates the tables, emits
//! what no longer has to wait, and ends with `conclude`, which sets timers for the rest.

mod attribute;
mod counts;
mod emit;
#[cfg(debug_assertions)]
mod invariants;
mod message;
mod observe;
mod reports;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use whalewatch_core::{
    Batch, BuildError, ChainContext, ChainId, Container, ContainerCounts, Context, Declaration,
    Directory, EarlyWork, Event, Handler, HandlerError, Lifecycle, Mailbox, Observe, Owner,
    Problem, Replay, Schema, Setup,
};

use self::counts::Counts;
pub use self::message::Message;
pub(crate) use self::message::{Payload, RunningProcess};
use crate::cgroups::{Cgroups, Hierarchy};
use crate::clock::Clock;
use crate::containers::{Containers, Naming, Serial};
use crate::event::ContainerEvent;
use crate::hold::{Missing, WaitingRoom};
use crate::kernel_view::KernelView;
use crate::options::{ContainerOptions, RuntimeClient};
use crate::pids::{Pids, Spaces};
use crate::proc::Proc;
use crate::protocol::{Client, NoClients};
use crate::runtimes;

/// Everything outside the manager that it uses.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Clock,
    /// `/proc` and the cgroup file system.
    pub(crate) kernel: KernelView,
    /// The runtimes' clients.
    pub(crate) runtimes: Box<dyn Client>,
    /// Where the manager publishes which container each cgroup belongs to.
    pub(crate) directory: Directory,
}

/// Attributes each event to the container that caused it. The crate's documentation has the
/// overview.
#[derive(Debug)]
pub struct ContainerManager {
    options: ContainerOptions,
    /// The clients that were started.
    clients: Vec<RuntimeClient>,
    name: Arc<str>,
    world: World,
    /// The host's namespaces.
    host: Spaces,
    cgroups: Cgroups,
    containers: Containers,
    pids: Pids,
    room: WaitingRoom,
    chains: Vec<ChainId>,
    /// Whether the containers of the first scan were announced.
    started: bool,
    counts: Counts,
    /// Counts of forgotten containers.
    former: BTreeMap<Owner, ContainerCounts>,
    /// Number of the last batch that had to wait.
    arrivals: u64,
    /// What each event of the current batch waits for. A field only so that a batch allocates
    /// nothing.
    waits: Vec<Option<Missing>>,
    /// The last cgroup of the current batch whose path nobody knows: the kernel is asked for it
    /// once.
    unknown_cgroup: u64,
    /// When the timer for held events fires.
    release_at: Option<Duration>,
    /// When the timer for forgetting fires.
    sweep_at: Option<Duration>,
    /// When the counts were last published.
    counted_at: Option<Duration>,
    /// When a listing was last requested.
    refreshed_at: Option<Duration>,
    /// Whether the timer for the next listing is set.
    refresh_waits: bool,
    /// Entries that may be checked before the next check of invariants.
    #[cfg(debug_assertions)]
    unchecked: usize,
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
            room: WaitingRoom::default(),
            chains,
            started: false,
            counts: Counts::default(),
            former: BTreeMap::new(),
            arrivals: 0,
            waits: Vec::new(),
            unknown_cgroup: 0,
            release_at: None,
            sweep_at: None,
            counted_at: None,
            refreshed_at: None,
            refresh_waits: false,
            #[cfg(debug_assertions)]
            unchecked: 0,
            clients: options.clients(),
            options,
            name,
            world,
        };
        manager.scan();
        manager
    }

    /// Learns the cgroups that exist. Trackers are open by now, so any later change is reported.
    /// The first call that can emit events announces the containers.
    fn scan(&mut self) {
        for (id, path) in self.world.kernel.cgroups(self.options.max_cgroups as usize) {
            self.take_in_cgroup(id, &path);
        }
    }

    /// Returns how many containers, processes, cgroups and held events there are.
    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize, usize, usize) {
        (self.containers.len(), self.pids.len(), self.cgroups.len(), self.room.len())
    }

    #[cfg(test)]
    pub(crate) fn status(&self, id: &str) -> Option<whalewatch_core::Status> {
        Some(self.containers.get(self.containers.by_id(id)?)?.snapshot.status)
    }

    /// Returns how many of the manager's own events are held.
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

    /// Ends a call: publishes counts, releases events beyond `max_held`, and sets timers for what
    /// waits and for what will be forgotten. No timer runs while there is neither.
    fn conclude(&mut self, cx: &mut Context<'_, Message>) {
        self.publish_counts(cx);
        self.release_beyond(cx);
        self.set_timers(cx);
        #[cfg(debug_assertions)]
        self.check_invariants_sometimes();
    }

    fn set_timers(&mut self, cx: &mut Context<'_, Message>) {
        const SHORTEST_SWEEP: Duration = Duration::from_millis(250);
        let release = self.room.next().filter(|&at| self.release_at.is_none_or(|set| at < set));
        let sweep = if self.sweep_at.is_none() { self.next_sweep() } else { None };
        if release.is_none() && sweep.is_none() {
            return; // the usual case: the clock is not read
        }
        let now = self.now();
        if let Some(at) = release {
            self.release_at = Some(at);
            cx.after(at.saturating_sub(now), Message(Payload::Release));
        }
        if let Some(at) = sweep {
            self.sweep_at = Some(at);
            cx.after(at.saturating_sub(now).max(SHORTEST_SWEEP), Message(Payload::Sweep));
        }
    }

    fn next_sweep(&self) -> Option<Duration> {
        let all = [self.pids.next_sweep(), self.cgroups.next_sweep(), self.containers.next_sweep()];
        all.into_iter().flatten().min()
    }

    /// Forgets everything whose grace period is over; nothing while a slow reader delays events,
    /// which may then be older than the grace period.
    fn sweep(&mut self, cx: &mut Context<'_, Message>) {
        let now = self.now();
        self.sweep_at = None;
        if cx.behind() {
            return; // `conclude` sets the next timer
        }
        self.pids.sweep(now);
        self.cgroups.sweep(now);
        while let Some((serial, known)) = self.containers.sweep(now) {
            for &id in &known.cgroups {
                self.cgroups.forget(id);
                self.world.directory.retract(id);
            }
            self.forgotten(known);
            self.release(Missing::Name(serial), cx);
        }
    }

    /// Adds a container; `None` if there is no room. Makes room by forgetting an idle container.
    fn insert_container(&mut self, container: Container, naming: Naming) -> Option<Serial> {
        if self.containers.is_full()
            && let Some(evicted) = self.containers.evict()
        {
            self.forgotten(evicted);
        }
        self.containers.insert(container, naming, self.now())
    }

    fn message_inner(&mut self, message: Payload, cx: &mut Context<'_, Message>) {
        match message {
            Payload::Start => {}
            Payload::Report(reported) => self.take_in_report(reported, cx),
            Payload::Running(running) => self.take_in_running(running, cx),
            Payload::Release => {
                self.release_at = None;
                self.release_due(cx);
            }
            Payload::Sweep => self.sweep(cx),
            Payload::Refresh => {
                self.refresh_waits = false;
                self.want_refresh(cx);
            }
        }
    }
}

impl Handler for ContainerManager {
    const ABOUT: &'static str = "determines which container caused each event";
    type Options = ContainerOptions;
    type Message = Message;
    /// Cgroups come first, so that the manager knows every cgroup in which the other trackers can
    /// see an event: it hears when the cgroup is made, finds it, or hears its path when it is
    /// removed.
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
            Box::new(NoClients) // the recording has their reports
        } else {
            let reports = mailbox.clone();
            Box::new(runtimes::start(options, move |reported| {
                reports.send(Message(Payload::Report(reported)));
            }))
        };
        let proc = begun(&setup.early_work);
        let clock = outside.clone();
        let replay = outside.is_replay();
        let world = World {
            clock: Clock::new(move || clock.elapsed()),
            kernel: KernelView::new(outside, proc.clone(), Hierarchy::version_2),
            runtimes: helper,
            directory: setup.directory.clone(),
        };
        let manager =
            Self::new(options.clone(), Arc::clone(&setup.name), setup.chains.clone(), world);
        mailbox.send(Message(Payload::Start));
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
        // The manager's own events say nothing about processes.
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
        message::record(&message.0)
    }

    fn recall(recorded: &str) -> Option<Message> {
        message::recall(recorded).map(Message)
    }
}

impl ContainerManager {
    /// Watches the folders in which runtimes keep state. A folder can be gone before all trackers
    /// are open.
    fn start_early_work(_: &ContainerOptions) -> EarlyWork {
        let proc = Proc::default();
        proc.watch();
        EarlyWork::new(proc)
    }
}

/// Returns the `/proc` whose state folders were watched before trackers opened; in a replay none
/// was.
fn begun(early_work: &EarlyWork) -> Proc {
    early_work.get::<Proc>().cloned().unwrap_or_default()
}

/// Reads the running processes on a separate thread. The process tracker reports them too, but
/// not again to a manager that was rebuilt after a failure.
fn read_running(proc: Proc, max: usize, mailbox: Mailbox<Message>) {
    const CHUNK: usize = 256;
    let read = move || {
        let mut chunk = Vec::new();
        for pid in proc.pids().take(max) {
            let Some(entry) = proc.see(pid) else { continue };
            let Some(membership) = proc.membership(entry.key) else { continue };
            chunk.push(RunningProcess { entry, membership });
            if chunk.len() == CHUNK {
                mailbox.send(Message(Payload::Running(std::mem::take(&mut chunk))));
            }
        }
        mailbox.send(Message(Payload::Running(chunk)));
    };
    if let Err(error) = thread::Builder::new().name("running".into()).spawn(read) {
        tracing::warn!(%error, "cannot start a thread to read running processes");
    }
}
