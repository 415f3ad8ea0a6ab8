//! A manager with scripted events, a scripted helper and a clock that only tests move. No root, no
//! Docker, no kernel.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use whalewatch_core::{
    Batch, ChainId, Change, Container, Context, Directory, Event, Evidence, Field, Handler as _,
    HandlerCounters, HumanDuration, Namespaces, Process, ProcessKey, Runtime, State, Status,
    Timestamp,
};

use crate::clock::Clock;
use crate::kernel::KernelView;
use crate::manager::{ContainerManager, Inner, Message, Running, World};
use crate::options::{ContainerOptions, RuntimeChoice, RuntimeKind, RuntimeWord};
use crate::proc::Proc;
use crate::request::{Client, Heard, News, Request};

/// The host's namespaces in scripts.
pub(crate) const HOST: Namespaces = Namespaces { user: 1, pid: 2, mnt: 3, net: 4 };

/// Full id of a container for short.
pub(crate) fn id(short: u32) -> String {
    format!("{short:064x}")
}

/// A process on the host.
pub(crate) fn process(pid: u32, start_time: u64, cgroup_id: u64) -> Process {
    Process { pid, tid: pid, start_time, cgroup_id, namespaces: HOST, ..Process::default() }
}

/// What an event says, owned.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    Nothing,
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
    pub(crate) says: Says,
    pub(crate) number: u64,
    /// Whom it was done to.
    pub(crate) target: Option<Process>,
    /// The cgroup that it is about, if no process did it.
    pub(crate) cgroup: Option<u64>,
}

impl Scripted {
    pub(crate) fn new(process: Option<Process>, says: Says) -> Self {
        Self { process, says, number: 0, target: None, cgroup: None }
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
        Some(match &self.says {
            Says::Nothing => return None,
            Says::Existing => Change::Existing,
            Says::Forked(parent) => Change::Forked { parent: *parent },
            Says::Executed => Change::Executed,
            Says::Exited => Change::Exited,
            Says::Made(id, path) => Change::CgroupMade { id: *id, path: path.as_bytes() },
            Says::Removed(id, path) => Change::CgroupRemoved { id: *id, path: path.as_bytes() },
            Says::Moved(process, to) => Change::Moved { process: *process, to: *to },
        })
    }
}

pub(crate) fn event(process: Process, says: Says) -> Scripted {
    Scripted::new(Some(process), says)
}

pub(crate) fn act(process: Process) -> Scripted {
    event(process, Says::Nothing)
}

/// Something that was done to another process.
pub(crate) fn act_on(process: Process, target: Process) -> Scripted {
    Scripted { target: Some(target), ..act(process) }
}

/// Something that no process did, of a cgroup.
pub(crate) fn of_cgroup(cgroup: u64) -> Scripted {
    Scripted { cgroup: Some(cgroup), ..Scripted::new(None, Says::Nothing) }
}

pub(crate) fn made(cgroup: u64, container: u32) -> Scripted {
    let path = format!("/docker/{}", id(container));
    Scripted::new(None, Says::Made(cgroup, path))
}

pub(crate) fn made_host(cgroup: u64) -> Scripted {
    Scripted::new(None, Says::Made(cgroup, "/system.slice".into()))
}

pub(crate) fn removed(cgroup: u64) -> Scripted {
    Scripted::new(None, Says::Removed(cgroup, String::new()))
}

/// A container's cgroup is removed, and with that is told whose it was.
pub(crate) fn removed_of(cgroup: u64, container: u32) -> Scripted {
    let path = format!("/docker/{}", id(container));
    Scripted::new(None, Says::Removed(cgroup, path))
}

pub(crate) fn moved(process: &Process, to: u64) -> Scripted {
    Scripted::new(None, Says::Moved(process.key(), to))
}

/// An event that went on.
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
struct Notes(Arc<Mutex<Vec<Request>>>);

impl Client for Notes {
    fn ask(&self, request: Request) {
        self.0.lock().unwrap().push(request);
    }
}

pub(crate) struct Rig {
    pub(crate) manager: ContainerManager,
    pub(crate) counters: HandlerCounters,
    pub(crate) out: Vec<Out>,
    pub(crate) directory: Directory,
    notes: Notes,
    ms: Arc<AtomicU64>,
    timers: Vec<(u64, Message)>,
    outgoing: Vec<(ChainId, Batch)>,
    number: u64,
    behind: bool,
    root: tempfile::TempDir,
}

/// The options that scripts begin with: no lifecycle events, so that what comes out is what went
/// in.
pub(crate) fn options() -> ContainerOptions {
    let runtime = RuntimeChoice::Word(RuntimeWord::Docker);
    ContainerOptions { runtime, lifecycle: false, ..ContainerOptions::default() }
}

impl Rig {
    /// With cgroups that answer, and two chains.
    pub(crate) fn new() -> Self {
        Self::with(options(), true)
    }

    /// On a host without cgroup2.
    pub(crate) fn silent() -> Self {
        Self::with(options(), false)
    }

    pub(crate) fn with(options: ContainerOptions, cgroups_answer: bool) -> Self {
        let (notes, ms) = (Notes::default(), Arc::new(AtomicU64::new(0)));
        let (proc, directory) = (tempfile::tempdir().unwrap(), Directory::default());
        let clock = ms.clone();
        let world = World {
            clock: Clock::new(move || Duration::from_millis(clock.load(Relaxed))),
            kernel: KernelView::scripted(Proc::at(proc.path()), cgroups_answer),
            helper: Box::new(notes.clone()),
            directory: directory.clone(),
        };
        let chains = vec![ChainId(0), ChainId(1)];
        let mut manager = ContainerManager::new(options, "container".into(), chains, world);
        manager.set_host(HOST);
        Self {
            manager,
            counters: HandlerCounters::default(),
            out: Vec::new(),
            directory,
            notes,
            ms,
            timers: Vec::new(),
            outgoing: Vec::new(),
            number: 0,
            behind: false,
            root: proc,
        }
    }

    fn call(
        &mut self,
        chain: u32,
        call: impl FnOnce(&mut ContainerManager, &mut Context<'_, Message>),
    ) {
        let mut timers = Vec::new();
        let cx = Context::new(ChainId(chain), &self.counters, &mut self.outgoing, &mut timers);
        let mut cx = cx.with_behind(self.behind);
        call(&mut self.manager, &mut cx);
        let now = self.ms.load(Relaxed);
        let due = |after: Duration| now + after.as_millis() as u64;
        self.timers.extend(timers.into_iter().map(|(after, message)| (due(after), message)));
        for (chain, batch) in self.outgoing.drain(..) {
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
                    chain: chain.0,
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

    fn batch(&mut self, mut events: Vec<Scripted>) -> Batch {
        for event in &mut events {
            self.number += 1;
            event.number = self.number;
        }
        Batch::new("script".into(), events)
    }

    /// A runtime keeps state in this folder.
    pub(crate) fn keep_state(&self, folder: &str) {
        std::fs::create_dir_all(self.root.path().join(folder)).unwrap();
    }

    /// A batch of a tracker that the manager lives on, in no chain.
    pub(crate) fn observe(&mut self, events: Vec<Scripted>) {
        let batch = self.batch(events);
        self.call(9, |m, cx| m.observe(&batch, cx).unwrap());
    }

    /// A batch in a chain that the manager does not observe.
    pub(crate) fn handle(&mut self, chain: u32, events: Vec<Scripted>) {
        let batch = self.batch(events);
        self.call(chain, |m, cx| m.handle(batch, cx).unwrap());
    }

    /// A batch as it comes from the process tracker: observed, then brought by chain 0.
    pub(crate) fn track(&mut self, events: Vec<Scripted>) {
        let batch = self.batch(events);
        self.call(9, |m, cx| m.observe(&batch, cx).unwrap());
        self.call(0, |m, cx| m.handle(batch, cx).unwrap());
    }

    /// From now on, whether a slow reader holds events up.
    pub(crate) fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    /// Docker's client has news.
    pub(crate) fn hear(&mut self, news: News) {
        self.hear_from(RuntimeKind::Docker, news);
    }

    pub(crate) fn hear_from(&mut self, from: RuntimeKind, news: News) {
        let heard = Heard { from, news };
        self.call(9, |m, cx| m.message(Message(Inner::News(heard)), cx).unwrap());
    }

    /// Processes that ran were read.
    pub(crate) fn hear_running(&mut self, running: Vec<Running>) {
        self.call(9, |m, cx| m.message(Message(Inner::Running(running)), cx).unwrap());
    }

    /// The daemon says that this container has this name, and runs.
    pub(crate) fn hear_name(&mut self, container: u32, name: &str) {
        self.hear(News::Container(Box::new(named(container, name))));
    }

    pub(crate) fn end(&mut self, chain: u32) {
        self.call(chain, |m, cx| m.end(cx).unwrap());
    }

    /// Time passes; timers come when they are due.
    pub(crate) fn advance(&mut self, ms: u64) {
        let until = self.ms.load(Relaxed) + ms;
        loop {
            let next = self.timers.iter().enumerate().min_by_key(|(_, (due, _))| *due);
            let Some((at, _)) = next.filter(|(_, (due, _))| *due <= until) else { break };
            let (due, message) = self.timers.remove(at);
            self.ms.store(due.max(self.ms.load(Relaxed)), Relaxed);
            self.call(9, |m, cx| m.message(message, cx).unwrap());
        }
        self.ms.store(until, Relaxed);
    }

    /// The number of the last event.
    pub(crate) fn numbers(&self) -> u64 {
        self.number
    }

    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// What was asked for since this was called last.
    pub(crate) fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.notes.0.lock().unwrap())
    }

    /// What went on since this was called last.
    pub(crate) fn take(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// As [`Rig::take`], shorter: `resolved web`, `pending 7`, `host`.
    pub(crate) fn told(&mut self) -> Vec<String> {
        let number = |id: &str| u32::from_str_radix(&id[56..], 16).unwrap();
        let tell = |o: Out| {
            let kind =
                o.kind.strip_prefix("container.").map(|k| format!("{k}: ")).unwrap_or_default();
            let state = o.state.as_str().unwrap_or("unset");
            let who = o.name.or(o.id.map(|id| number(&id).to_string()));
            format!("{kind}{state} {}", who.unwrap_or_default()).trim_end().to_owned()
        };
        self.take().into_iter().map(tell).collect()
    }
}

/// What is asked of a container in one of Docker's cgroups.
pub(crate) fn inspect(container: u32) -> Request {
    Request::Inspect(id(container).into(), Runtime::Docker)
}

/// A socket that takes so many callers in and answers none, and then is gone.
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
