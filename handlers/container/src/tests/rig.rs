//! A manager with scripted events, scripted runtimes and a clock that only tests move. It needs no
//! root, no Docker and no kernel.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use whalewatch_core::{
    Batch, ChainId, Change, Container, Directory, Event, Evidence, Field, HandlerCounters, Hosted,
    HumanDuration, Namespaces, Process, ProcessKey, Runtime, State, Status, Timestamp,
};

use crate::clock::Clock;
use crate::kernel_view::KernelView;
use crate::manager::{ContainerManager, Message, Payload, RunningProcess, World};
use crate::options::{ContainerOptions, RuntimeChoice, RuntimeClient};
use crate::proc::Proc;
use crate::protocol::{Client, Report, Reported, Request};

/// The host's namespaces in scripts.
pub(crate) const HOST: Namespaces = Namespaces { user: 1, pid: 2, mnt: 3, net: 4 };

/// The namespaces of a container in scripts.
pub(crate) const INNER: Namespaces = Namespaces { user: 1, pid: 92, mnt: 93, net: 94 };

/// Returns the full id for a short number.
pub(crate) fn id(short: u32) -> String {
    format!("{short:064x}")
}

/// A process with the host's namespaces.
pub(crate) fn process(pid: u32, start_time: u64, cgroup_id: u64) -> Process {
    Process { pid, tid: pid, start_time, cgroup_id, namespaces: HOST, ..Process::default() }
}

/// What an event means for processes and cgroups: an owned `Change`, or none.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    None,
    Existing,
    Forked(ProcessKey),
    Executed,
    Exited,
    Made(u64, String),
    Removed(u64, String),
    Moved(ProcessKey, u64),
}

/// A scripted event.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    pub(crate) process: Option<Process>,
    pub(crate) effect: Effect,
    pub(crate) number: u64,
    /// The process that it was done to.
    pub(crate) target: Option<Process>,
    /// The cgroup that it is about, if no process caused it.
    pub(crate) cgroup: Option<u64>,
}

impl Scripted {
    pub(crate) fn new(process: Option<Process>, effect: Effect) -> Self {
        Self { process, effect, number: 0, target: None, cgroup: None }
    }
}

impl Event for Scripted {
    const NAME: &'static str = "scripted";
    const KINDS: &'static [&'static str] = &["scripted"];
    const FIELDS: &'static [Field<Self>] = &[];

    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn time(&self) -> Timestamp {
        Timestamp(self.number)
    }

    fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn target(&self) -> Option<&Process> {
        self.target.as_ref()
    }

    fn cgroup(&self) -> Option<u64> {
        self.cgroup
    }

    fn change(&self) -> Option<Change<'_>> {
        Some(match &self.effect {
            Effect::None => return None,
            Effect::Existing => Change::Existing,
            Effect::Forked(parent) => Change::Forked { parent: *parent },
            Effect::Executed => Change::Executed,
            Effect::Exited => Change::Exited,
            Effect::Made(id, path) => Change::CgroupMade { id: *id, path: path.as_bytes() },
            Effect::Removed(id, path) => Change::CgroupRemoved { id: *id, path: path.as_bytes() },
            Effect::Moved(process, to) => Change::Moved { process: *process, to: *to },
        })
    }
}

pub(crate) fn event(process: Process, effect: Effect) -> Scripted {
    Scripted::new(Some(process), effect)
}

pub(crate) fn act(process: Process) -> Scripted {
    event(process, Effect::None)
}

/// Something that was done to another process.
pub(crate) fn act_on(process: Process, target: Process) -> Scripted {
    Scripted { target: Some(target), ..act(process) }
}

/// An event of a cgroup that no process caused.
pub(crate) fn of_cgroup(cgroup: u64) -> Scripted {
    Scripted { cgroup: Some(cgroup), ..Scripted::new(None, Effect::None) }
}

pub(crate) fn forked(child: Process, parent: ProcessKey) -> Scripted {
    let child = Process { parent_pid: parent.pid, parent_start_time: parent.start_time, ..child };
    event(child, Effect::Forked(parent))
}

pub(crate) fn made_at(cgroup: u64, path: String) -> Scripted {
    Scripted::new(None, Effect::Made(cgroup, path))
}

pub(crate) fn made(cgroup: u64, container: u32) -> Scripted {
    let path = format!("/docker/{}", id(container));
    Scripted::new(None, Effect::Made(cgroup, path))
}

pub(crate) fn made_host(cgroup: u64) -> Scripted {
    Scripted::new(None, Effect::Made(cgroup, "/system.slice".into()))
}

pub(crate) fn removed(cgroup: u64) -> Scripted {
    Scripted::new(None, Effect::Removed(cgroup, String::new()))
}

/// The removal of a container's cgroup, with its path.
pub(crate) fn removed_of(cgroup: u64, container: u32) -> Scripted {
    let path = format!("/docker/{}", id(container));
    Scripted::new(None, Effect::Removed(cgroup, path))
}

pub(crate) fn moved(process: &Process, to: u64) -> Scripted {
    Scripted::new(None, Effect::Moved(process.key(), to))
}

/// An event that the manager emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) chain: u32,
    pub(crate) kind: &'static str,
    pub(crate) number: u64,
    pub(crate) state: State,
    pub(crate) evidence: Evidence,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) target: (State, Option<String>),
    pub(crate) parents: Vec<String>,
    pub(crate) entered: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct RequestLog(Arc<Mutex<Vec<Request>>>);

impl Client for RequestLog {
    fn ask(&self, request: Request) {
        self.0.lock().unwrap().push(request);
    }
}

pub(crate) struct Rig {
    hosted: Hosted<ContainerManager>,
    pub(crate) counters: Arc<HandlerCounters>,
    pub(crate) out: Vec<Out>,
    pub(crate) directory: Directory,
    log: RequestLog,
    ms: Arc<AtomicU64>,
    timers: Vec<(u64, Message)>,
    number: u64,
    behind: bool,
    root: tempfile::TempDir,
}

/// The options that scripts start with: Docker's client alone, and no lifecycle events, so that the
/// output is the input.
pub(crate) fn options() -> ContainerOptions {
    let runtime = RuntimeChoice::only(RuntimeClient::Docker);
    ContainerOptions { runtime, lifecycle: false, ..ContainerOptions::default() }
}

impl Rig {
    /// A manager in two chains on a host whose cgroups answer.
    pub(crate) fn new() -> Self {
        Self::with(options(), true)
    }

    /// The same on a host without cgroup2.
    pub(crate) fn without_cgroups() -> Self {
        Self::with(options(), false)
    }

    pub(crate) fn with(options: ContainerOptions, cgroups_answer: bool) -> Self {
        let (log, ms) = (RequestLog::default(), Arc::new(AtomicU64::new(0)));
        let (proc, directory) = (tempfile::tempdir().unwrap(), Directory::default());
        let clock = ms.clone();
        let world = World {
            clock: Clock::new(move || Duration::from_millis(clock.load(Relaxed))),
            kernel: KernelView::scripted(Proc::at(proc.path()), cgroups_answer),
            runtimes: Box::new(log.clone()),
            directory: directory.clone(),
        };
        let chains = vec![ChainId::new(0), ChainId::new(1)];
        let mut manager = ContainerManager::new(options, "container".into(), chains, world);
        manager.set_host(HOST);
        let counters = Arc::<HandlerCounters>::default();
        Self {
            hosted: Hosted::new(manager, Arc::clone(&counters)),
            counters,
            out: Vec::new(),
            directory,
            log,
            ms,
            timers: Vec::new(),
            number: 0,
            behind: false,
            root: proc,
        }
    }

    /// Keeps what the last call of the manager emitted, and the timers that it set.
    fn collect(&mut self) {
        let now = self.ms.load(Relaxed);
        let due = |after: Duration| now + after.as_millis() as u64;
        self.timers
            .extend(self.hosted.timers.drain(..).map(|(after, message)| (due(after), message)));
        for (chain, batch) in self.hosted.outgoing.drain(..) {
            let text = |text: &Arc<str>| text.to_string();
            self.out.extend(batch.iter().map(|e| {
                let attribution = e.attribution();
                let (container, target) = (&attribution.container, &attribution.target);
                let parents = |of: &Option<Arc<Container>>| {
                    let ids = of.iter().flat_map(|c| c.parents.ids());
                    ids.map(str::to_owned).collect()
                };
                let name = |of: &Option<Arc<Container>>| of.as_ref()?.name.as_ref().map(text);
                Out {
                    chain: chain.number(),
                    kind: e.kind(),
                    number: e.time().0,
                    state: attribution.state,
                    evidence: attribution.evidence,
                    id: container.as_ref().map(|c| text(&c.id)),
                    name: name(container),
                    target: (attribution.target_state, name(target)),
                    parents: parents(container),
                    entered: name(&attribution.entered),
                }
            }));
        }
    }

    fn message(&mut self, message: Message) {
        self.hosted.message(message, self.behind).unwrap();
        self.collect();
    }

    /// The manager itself.
    pub(crate) fn manager(&self) -> &ContainerManager {
        self.hosted.handler()
    }

    fn batch(&mut self, mut events: Vec<Scripted>) -> Batch {
        for event in &mut events {
            self.number += 1;
            event.number = self.number;
        }
        Batch::new("script".into(), events)
    }

    /// Makes a folder in which a runtime keeps a container's state.
    pub(crate) fn make_state_folder(&self, folder: &str) {
        std::fs::create_dir_all(self.root.path().join(folder)).unwrap();
    }

    /// Lets the manager observe a batch of a tracker that is in no chain.
    pub(crate) fn observe(&mut self, events: Vec<Scripted>) {
        let batch = self.batch(events);
        self.hosted.observe(&batch).unwrap();
        self.collect();
    }

    /// Sends a batch down a chain, from a tracker that the manager does not observe.
    pub(crate) fn handle(&mut self, chain: u32, events: Vec<Scripted>) {
        let batch = self.batch(events);
        self.hosted.handle(ChainId::new(chain), batch).unwrap();
        self.collect();
    }

    /// Takes a batch as the process tracker sends it: observed first, then down chain 0.
    pub(crate) fn track(&mut self, events: Vec<Scripted>) {
        let batch = self.batch(events);
        self.hosted.observe(&batch).unwrap();
        self.collect();
        self.hosted.handle(ChainId::new(0), batch).unwrap();
        self.collect();
    }

    /// Sets whether a slow reader delays events.
    pub(crate) fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    /// Lets Docker's client report something.
    pub(crate) fn report(&mut self, report: Report) {
        self.report_from(RuntimeClient::Docker, report);
    }

    pub(crate) fn report_from(&mut self, from: RuntimeClient, report: Report) {
        let reported = Reported { from, report };
        self.message(Message(Payload::Report(reported)));
    }

    /// Reports processes that were running at start.
    pub(crate) fn report_running(&mut self, running: Vec<RunningProcess>) {
        self.message(Message(Payload::Running(running)));
    }

    /// Lets Docker's client report that a container has this name and runs.
    pub(crate) fn report_name(&mut self, container: u32, name: &str) {
        self.report(Report::Container(Box::new(named(container, name))));
    }

    pub(crate) fn end(&mut self, chain: u32) {
        self.hosted.end(ChainId::new(chain)).unwrap();
        self.collect();
    }

    /// Lets time pass; timers fire when they are due.
    pub(crate) fn advance(&mut self, ms: u64) {
        let until = self.ms.load(Relaxed) + ms;
        loop {
            let next = self.timers.iter().enumerate().min_by_key(|(_, (due, _))| *due);
            let Some((at, _)) = next.filter(|(_, (due, _))| *due <= until) else { break };
            let (due, message) = self.timers.remove(at);
            self.ms.store(due.max(self.ms.load(Relaxed)), Relaxed);
            self.message(message);
        }
        self.ms.store(until, Relaxed);
    }

    /// Returns the number of the last event.
    pub(crate) fn last_number(&self) -> u64 {
        self.number
    }

    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Returns the requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.log.0.lock().unwrap())
    }

    /// Returns the emitted events since the last call.
    pub(crate) fn take(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// Returns the emitted events since the last call in short: `resolved web`, `pending 7`,
    /// `host`.
    pub(crate) fn summary(&mut self) -> Vec<String> {
        let number = |id: &str| u32::from_str_radix(&id[56..], 16).unwrap();
        let short = |o: Out| {
            let kind =
                o.kind.strip_prefix("container.").map(|k| format!("{k}: ")).unwrap_or_default();
            let state = o.state.as_str().unwrap_or("unset");
            let who = o.name.or(o.id.map(|id| number(&id).to_string()));
            format!("{kind}{state} {}", who.unwrap_or_default()).trim_end().to_owned()
        };
        self.take().into_iter().map(short).collect()
    }
}

/// The request for a container in one of Docker's cgroups.
pub(crate) fn inspect(container: u32) -> Request {
    Request::Inspect(id(container).into(), Runtime::Docker)
}

/// Waits until a condition holds; panics after ten seconds.
#[track_caller]
pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "it does not come");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Accepts this many connections on a socket, answers none, and removes the socket.
pub(crate) fn refuse(socket: &std::path::Path, callers: usize) {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    listener.incoming().take(callers).for_each(drop);
    std::fs::remove_file(socket).unwrap();
}

pub(crate) fn named(container: u32, name: &str) -> Container {
    Container {
        name: Some(name.into()),
        status: Status::Running,
        ..Container::bare(id(container), Runtime::Docker)
    }
}

pub(crate) fn ms(ms: u64) -> HumanDuration {
    HumanDuration(Duration::from_millis(ms))
}
