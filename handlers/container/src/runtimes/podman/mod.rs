//! The records of podman and CRI-O on disk. No daemon is needed, and none is asked.
//!
//! Both write a record of each new container into one file for all (`records`), and keep beside it
//! the configuration for the low-level runtime and the pid of the first process (`details`). The
//! actor here only schedules: files are read by `store`, one job at a time on a blocking thread,
//! when a folder changes (`watch`), when the manager asks, and every now and then.

mod details;
mod records;
mod roots;
mod store;
#[cfg(test)]
mod tests;
mod watch;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt as _, Addr, ArbiterHandle, AsyncContext as _, Context, Handler, Message,
    WrapFuture as _,
};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use self::store::{Outcome, Store};
use self::watch::{Stir, Watcher};
use super::{Client, Reporter, Settings};
use crate::protocol::{Report, Request};

/// How often to look for new folders: a user's first container makes them.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often to read the records for a container that they lack. They are written before it has a
/// process, so once would do, were it not for a file that is being replaced.
const DENIALS: u32 = 3;
/// Bound on the containers that are looked for. Those beyond it are reported when their records
/// change.
const MAX_WANTED: usize = 4096;
/// How often in a row to look again at something incomplete.
const MAX_AGAIN: u32 = 6;

/// Starts the client on this thread.
pub(super) fn start(
    thread: &ArbiterHandle,
    settings: Settings,
    report: Reporter,
) -> Box<dyn Client> {
    let actor = PodmanActor::start_in_arbiter(thread, move |_| PodmanActor::new(settings, report));
    Box::new(actor)
}

/// The work of the next job.
#[derive(Default)]
struct Work {
    /// Look for new folders, too.
    everywhere: bool,
    stirs: FxHashSet<Stir>,
    inspect: FxHashSet<Arc<str>>,
    /// List all containers, and if so whether with processes.
    list: Option<bool>,
    ended: Vec<(Arc<str>, u32)>,
    /// Look again at what was incomplete.
    again: bool,
}

impl Work {
    fn is_none(&self) -> bool {
        let Self { everywhere, stirs, inspect, list, ended, again } = self;
        let none = stirs.is_empty() && inspect.is_empty() && list.is_none() && ended.is_empty();
        none && !everywhere && !again
    }
}

struct PodmanActor {
    settings: Settings,
    report: Reporter,
    watcher: Option<Watcher>,
    /// The store, while no job has it.
    store: Option<Box<Store>>,
    absent: bool,
    work: Work,
    /// The containers to find, with the number of failed attempts.
    wanted: FxHashMap<Arc<str>, u32>,
    /// When folders were last looked for, and when all containers were last listed.
    looked: Option<Instant>,
    listed: Option<Instant>,
    list_waits: bool,
    /// How often in a row something was incomplete.
    agains: u32,
}

impl PodmanActor {
    fn new(settings: Settings, report: Reporter) -> Self {
        let watcher = Watcher::new();
        if let Err(error) = &watcher {
            tracing::warn!(%error, "cannot watch podman's records; reading them every 30 s");
        }
        let mut actor = Self {
            settings,
            report,
            watcher: watcher.ok(),
            store: None,
            absent: false,
            work: Work { everywhere: true, ..Work::default() },
            wanted: FxHashMap::default(),
            looked: None,
            listed: None,
            list_waits: false,
            agains: 0,
        };
        actor.store = Some(actor.new_store());
        actor
    }

    fn new_store(&self) -> Box<Store> {
        let endpoint = self.settings.endpoint.as_ref().map(PathBuf::from);
        Box::new(Store::new(endpoint, self.watcher.clone(), Arc::clone(&self.report)))
    }
}

impl Actor for PodmanActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(watcher) = self.watcher.clone() {
            let actor = ctx.address();
            let follow = watcher.follow(move |stirs| actor.do_send(Stirred(stirs)));
            ctx.spawn(follow.into_actor(self).map(|error, this, _| {
                tracing::warn!(
                    %error,
                    "podman's records are no longer watched; reading them every 30 s"
                );
                this.watcher = None;
            }));
        }
        ctx.run_interval(LOOK_EVERY, |this, ctx| {
            this.work.everywhere = true;
            this.run(ctx);
        });
        self.run(ctx);
    }
}

impl Handler<Request> for PodmanActor {
    type Result = ();

    fn handle(&mut self, request: Request, ctx: &mut Self::Context) {
        match request {
            Request::Refresh { processes } => {
                self.work.list = Some(processes | self.work.list.unwrap_or(false));
            }
            Request::Inspect(id, _) => {
                let fresh = self.looked.is_some_and(|at| at.elapsed() < self.settings.interval);
                if self.absent && fresh && !self.settings.expected {
                    return (self.report)(Report::NotKnown { id });
                }
                self.work.everywhere |= !fresh;
                if self.wanted.len() < MAX_WANTED && !self.wanted.contains_key(&id) {
                    self.wanted.insert(Arc::clone(&id), 0);
                    self.work.inspect.insert(id);
                }
            }
            Request::Forget(id) => {
                self.wanted.remove(&id);
            }
        }
        self.run(ctx);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stirred(FxHashSet<Stir>);

impl Handler<Stirred> for PodmanActor {
    type Result = ();

    fn handle(&mut self, Stirred(stirs): Stirred, ctx: &mut Self::Context) {
        const MAX_STIRS: usize = 16_384;
        self.work.stirs.extend(stirs);
        if self.work.stirs.len() > MAX_STIRS {
            self.work.stirs = [Stir::Overflow].into_iter().collect();
        }
        self.agains = 0;
        self.run(ctx);
    }
}

impl PodmanActor {
    /// Starts a job for the pending work, unless one runs: that one calls this again when done.
    fn run(&mut self, ctx: &mut Context<Self>) {
        self.postpone_list(ctx);
        let list = if self.list_waits { self.work.list.take() } else { None };
        if self.store.is_some() && !self.work.is_none() {
            let work = std::mem::take(&mut self.work);
            self.begin(work, ctx);
        }
        self.work.list = self.work.list.or(list);
    }

    /// Puts a listing off that would come within the interval after the last one.
    fn postpone_list(&mut self, ctx: &mut Context<Self>) {
        let since = self.listed.map_or(self.settings.interval, |at| at.elapsed());
        let wait = self.settings.interval.saturating_sub(since);
        if self.work.list.is_some() && !self.list_waits && !wait.is_zero() {
            self.list_waits = true;
            ctx.run_later(wait, |this, ctx| {
                this.list_waits = false;
                this.run(ctx);
            });
        }
    }

    fn begin(&mut self, mut work: Work, ctx: &mut Context<Self>) {
        let Some(mut store) = self.store.take() else { return };
        // Nothing is known about any container before the first look for folders.
        work.everywhere |= self.looked.is_none();
        let now = Instant::now();
        self.looked = if work.everywhere { Some(now) } else { self.looked };
        self.listed = if work.list.is_some() { Some(now) } else { self.listed };
        let job = spawn_blocking(move || {
            let outcome = do_work(&mut store, work);
            (store, outcome)
        });
        ctx.spawn(job.into_actor(self).map(|done, this, ctx| {
            if let Ok((store, outcome)) = done {
                this.absent = store.is_absent();
                this.store = Some(store);
                this.done(outcome, ctx);
            } else {
                this.store = Some(this.new_store()); // everything is read again
                this.work.everywhere = true;
            }
            this.run(ctx);
        }));
    }

    fn done(&mut self, outcome: Outcome, ctx: &mut Context<Self>) {
        for id in outcome.found {
            self.wanted.remove(&id);
        }
        for id in outcome.missing {
            self.deny(id, ctx);
        }
        for (id, pid, end) in outcome.ends {
            let actor = ctx.address();
            ctx.spawn(wait(id, pid, end, actor).into_actor(self));
        }
        if !outcome.again {
            self.agains = 0;
        } else if self.agains < MAX_AGAIN {
            self.agains += 1;
            ctx.run_later(pause(self.agains), |this, ctx| {
                this.work.again = true;
                this.run(ctx);
            });
        }
    }

    fn deny(&mut self, id: Arc<str>, ctx: &mut Context<Self>) {
        let Some(denials) = self.wanted.get_mut(&id) else { return };
        *denials += 1;
        let denials = *denials;
        if denials >= DENIALS || (self.absent && !self.settings.expected) {
            self.wanted.remove(&id);
            return (self.report)(Report::NotKnown { id });
        }
        ctx.run_later(pause(denials), move |this, ctx| {
            if this.wanted.contains_key(&id) {
                this.work.inspect.insert(id);
                this.run(ctx);
            }
        });
    }
}

fn pause(tries: u32) -> Duration {
    Duration::from_millis(5 << (2 * tries.min(6)))
}

/// Does the work of one job.
fn do_work(store: &mut Store, work: Work) -> Outcome {
    let mut outcome = Outcome::default();
    if work.everywhere {
        store.look_everywhere(&mut outcome);
    }
    for (id, pid) in work.ended {
        store.ended(&id, pid);
    }
    store.stirred(work.stirs, &mut outcome);
    if work.everywhere || work.again || work.list.is_some() || !work.inspect.is_empty() {
        store.look(&mut outcome);
    }
    let wanted = work.inspect.into_iter();
    let (found, missing) = wanted.partition(|id| store.knows(id));
    (outcome.found, outcome.missing) = (found, missing);
    for id in outcome.found.clone() {
        store.inspect(&id, &mut outcome);
    }
    if let Some(processes) = work.list {
        store.list(processes, &mut outcome);
    }
    outcome
}

/// Waits until a process ends.
async fn wait(id: Arc<str>, pid: u32, end: OwnedFd, actor: Addr<PodmanActor>) {
    if let Ok(end) = watch::readable(end)
        && end.readable().await.is_ok()
    {
        actor.do_send(Ended(id, pid));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Ended(Arc<str>, u32);

impl Handler<Ended> for PodmanActor {
    type Result = ();

    fn handle(&mut self, Ended(id, pid): Ended, ctx: &mut Self::Context) {
        self.work.ended.push((id, pid));
        self.run(ctx);
    }
}
