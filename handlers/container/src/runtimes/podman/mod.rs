//! Podman's and CRI-O's records on disk: no daemon is needed, and none is asked.
//!
//! Both keep a record of each container in one file for all, written when it is made (`records`),
//! and beside it the configuration for its runtime and the pid of its first process (`details`).
//! The actor here only keeps the order: files are read elsewhere (`store`), one job at a time, when
//! a folder stirs (`watch`), when somebody asks, and now and then.

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
use super::{Client, Settings, Tell};
use crate::request::{News, Request};

/// How often folders are looked for that nobody has asked for: a user's first container makes them.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often records are read for one that they do not have. They are written before it has a
/// process: once would do, but for a file that is just being replaced.
const DENIALS: u32 = 3;
/// How many containers may wait to be found; those beyond it are told when their records change.
const MOST_WANTED: usize = 4096;
/// How often in a row something half there is looked at again.
const MOST_AGAIN: u32 = 6;

/// Starts the client on that thread.
pub(super) fn start(thread: &ArbiterHandle, settings: Settings, tell: Tell) -> Box<dyn Client> {
    let actor = PodmanActor::start_in_arbiter(thread, move |_| PodmanActor::new(settings, tell));
    Box::new(actor)
}

/// What is to be done next.
#[derive(Default)]
struct Work {
    /// Look for folders, too.
    everywhere: bool,
    stirs: FxHashSet<Stir>,
    inspect: FxHashSet<Arc<str>>,
    /// List all, with or without processes.
    list: Option<bool>,
    ended: Vec<(Arc<str>, u32)>,
    /// Look again at what was half there.
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
    tell: Tell,
    watcher: Option<Watcher>,
    /// There while no job has it.
    store: Option<Box<Store>>,
    absent: bool,
    work: Work,
    /// Containers to be found, with how often they were not.
    wanted: FxHashMap<Arc<str>, u32>,
    /// When folders were looked for last, and all were listed last.
    looked: Option<Instant>,
    listed: Option<Instant>,
    list_waits: bool,
    /// How often in a row something was half there.
    agains: u32,
}

impl PodmanActor {
    fn new(settings: Settings, tell: Tell) -> Self {
        let watcher = Watcher::new();
        if let Err(error) = &watcher {
            tracing::warn!(%error, "podman's records cannot be watched: they are read now and then");
        }
        let mut actor = Self {
            settings,
            tell,
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
        Box::new(Store::new(endpoint, self.watcher.clone(), Arc::clone(&self.tell)))
    }
}

impl Actor for PodmanActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(watcher) = self.watcher.clone() {
            let actor = ctx.address();
            let follow = watcher.follow(move |stirs| actor.do_send(Stirred(stirs)));
            ctx.spawn(follow.into_actor(self).map(|error, this, _| {
                tracing::warn!(%error, "podman's records are watched no more, and read now and then");
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
                    return (self.tell)(News::NotKnown { id });
                }
                self.work.everywhere |= !fresh;
                if self.wanted.len() < MOST_WANTED && !self.wanted.contains_key(&id) {
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
        const MOST: usize = 16_384;
        self.work.stirs.extend(stirs);
        if self.work.stirs.len() > MOST {
            self.work.stirs = [Stir::Much].into_iter().collect();
        }
        self.agains = 0;
        self.run(ctx);
    }
}

impl PodmanActor {
    /// Does what is to be done, unless a job is at it: that goes on here when it is done.
    fn run(&mut self, ctx: &mut Context<Self>) {
        self.postpone_list(ctx);
        let list = if self.list_waits { self.work.list.take() } else { None };
        if self.store.is_some() && !self.work.is_none() {
            let work = std::mem::take(&mut self.work);
            self.begin(work, ctx);
        }
        self.work.list = self.work.list.or(list);
    }

    /// No two listings are closer than the interval.
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
        // Before folders were looked for once nothing can be said of any container.
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
                this.store = Some(this.new_store()); // all is read anew
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
        } else if self.agains < MOST_AGAIN {
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
            return (self.tell)(News::NotKnown { id });
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

/// The job.
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

/// Waits for the end of a process.
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
