//! What the clients of runtimes that speak gRPC on a Unix socket have in common: an actor on the
//! clients' thread, so that a runtime that is slow, hung or gone delays nothing.
//!
//! It asks at most so many things at once, gives each a time limit, tries again with growing
//! pauses, and tells what it has learnt to the manager, whenever that is. What one runtime is
//! asked, and in which words, is its [`Remote`].

mod ask;
mod follow;
pub(super) mod grpc;
#[cfg(test)]
pub(super) mod testing;

use std::sync::Arc;

use actix::{Actor, ArbiterHandle, AsyncContext as _, Context, Handler, Message, WrapFuture as _};
use tokio::sync::Notify;
use tonic::Status;
use whalewatch_core::{Container, Runtime};

use self::grpc::Caller;
use super::inspections::Inspections;
use super::listings::Refresh;
use super::{Client, Settings, Tell};
use crate::request::{News, Request};

/// A runtime that has answered.
pub(super) trait Remote: Clone + Send + Unpin + 'static {
    /// What it is called in the log.
    const NAME: &'static str;
    /// Where it usually listens, the likeliest place first.
    const SOCKETS: &'static [&'static str];

    /// Says hello. The error `unimplemented` means that something else listens there.
    fn greet(caller: Caller) -> impl Future<Output = Result<Self, Status>>;

    /// Whether a container with this id, which its cgroup's path ascribes to `runtime`, can be one
    /// of its own.
    fn may_have(&self, id: &str, runtime: Runtime) -> bool;

    /// Hands on what happens, until that cannot be known any more; says why.
    fn follow(&self, happened: impl Fn(Happened)) -> impl Future<Output = Status>;

    /// Its containers.
    fn list(&self) -> impl Future<Output = Result<Listed, Status>>;

    /// One container; `None` if it does not know it.
    fn inspect(&self, id: &str) -> impl Future<Output = Result<Option<Container>, Status>>;

    /// The processes of a container, where it can tell.
    fn processes(&self, id: &str) -> impl Future<Output = Vec<u32>>;
}

/// What one of a runtime's events says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) news: Option<News>,
    /// This container is worth an inspection: more has changed than the event tells.
    pub(super) look_at: Option<Arc<str>>,
}

/// All containers of a runtime.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) containers: Vec<Container>,
    /// These are worth an inspection: there is more to know than the list tells.
    pub(super) look_at: Vec<Arc<str>>,
}

/// Whether a container's id is one of those that are unique everywhere: 64 hexadecimal digits in
/// lower case.
pub(super) fn is_long_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Starts a client on that thread.
pub(super) fn start<R: Remote>(
    thread: &ArbiterHandle,
    settings: Settings,
    tell: Tell,
) -> Box<dyn Client> {
    let actor = RemoteActor::<R>::start_in_arbiter(thread, move |_| RemoteActor {
        refresh: Refresh::new(settings.interval),
        settings,
        tell,
        remote: None,
        absent: false,
        nudge: Arc::new(Notify::new()),
        inspections: Inspections::default(),
    });
    Box::new(actor)
}

/// Owns the connection.
pub(super) struct RemoteActor<R: Remote> {
    settings: Settings,
    tell: Tell,
    /// There while the runtime is.
    remote: Option<R>,
    /// It is not there at all, and nobody expects it.
    absent: bool,
    /// Has the runtime looked for at once.
    nudge: Arc<Notify>,
    refresh: Refresh,
    inspections: Inspections,
}

impl<R: Remote> Actor for RemoteActor<R> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let daemon = follow::Daemon {
            settings: self.settings.clone(),
            nudge: Arc::clone(&self.nudge),
            actor: ctx.address(),
        };
        ctx.spawn(daemon.follow().into_actor(self));
    }
}

impl<R: Remote> Handler<Request> for RemoteActor<R> {
    type Result = ();

    fn handle(&mut self, request: Request, ctx: &mut Self::Context) {
        if self.remote.is_none() && !matches!(request, Request::Forget(_)) {
            self.nudge.notify_one();
        }
        match request {
            Request::Refresh { processes } => self.refresh(processes, ctx),
            Request::Inspect(id, runtime) if self.lacks(&id, runtime) => {
                (self.tell)(News::NotKnown { id });
            }
            Request::Inspect(id, _) => self.inspect(&id, ctx),
            Request::Forget(id) => self.inspections.forget(&id),
        }
    }
}

/// What becomes of the runtime.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Link<R: Remote> {
    /// It is there: for the first time, or again.
    Up(R),
    /// Something happened in it.
    Event(Happened),
    /// It is gone.
    Down,
    /// It is not there at all, and nobody expects it to be.
    Absent,
}

impl<R: Remote> Handler<Link<R>> for RemoteActor<R> {
    type Result = ();

    fn handle(&mut self, link: Link<R>, ctx: &mut Self::Context) {
        match link {
            Link::Up(remote) => {
                self.remote = Some(remote);
                self.absent = false;
                self.refresh_anew(ctx);
                self.pump(ctx);
            }
            Link::Event(happened) => self.happened(happened, ctx),
            Link::Down => self.remote = None,
            Link::Absent => {
                self.absent = true;
                for id in self.inspections.give_up() {
                    (self.tell)(News::NotKnown { id });
                }
            }
        }
    }
}

impl<R: Remote> RemoteActor<R> {
    /// Whether the runtime surely does not have this container.
    fn lacks(&self, id: &str, runtime: Runtime) -> bool {
        self.absent || self.remote.as_ref().is_some_and(|remote| !remote.may_have(id, runtime))
    }

    fn happened(&mut self, happened: Happened, ctx: &mut Context<Self>) {
        if let Some(news) = happened.news {
            if let News::Removed { id } = &news {
                self.inspections.forget(id);
            }
            (self.tell)(news);
        }
        if let Some(id) = happened.look_at {
            self.inspect(&id, ctx);
        }
    }
}
