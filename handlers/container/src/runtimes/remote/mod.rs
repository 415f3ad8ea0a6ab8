//! The common part of the clients whose runtimes speak gRPC on a Unix socket: an actor on the
//! clients' thread, so a runtime that is slow, hung or gone delays nothing.
//!
//! It asks a bounded number of questions at once, each with a time limit, repeats failed ones with
//! growing pauses, and reports to the manager whenever an answer comes. The questions themselves
//! are each runtime's [`Remote`].

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
use super::listings::Listings;
use super::{Client, Reporter, Settings};
use crate::protocol::{Report, Request};

/// A connection to a runtime that has answered.
pub(super) trait Remote: Clone + Send + Unpin + 'static {
    /// The runtime's name in the log.
    const NAME: &'static str;
    /// Where it usually listens, the likeliest place first.
    const SOCKETS: &'static [&'static str];

    /// Checks that this runtime answers. The error `unimplemented` means that something else
    /// listens there.
    fn greet(caller: Caller) -> impl Future<Output = Result<Self, Status>>;

    /// Whether the runtime may have a container with this id, whose cgroup's path points to
    /// `runtime`.
    fn may_have(&self, id: &str, runtime: Runtime) -> bool;

    /// Forwards the runtime's events until the connection is lost; returns why it was.
    fn follow(&self, happened: impl Fn(Happened)) -> impl Future<Output = Status>;

    /// Lists all containers.
    fn list(&self) -> impl Future<Output = Result<Listed, Status>>;

    /// Inspects a container; `None` if the runtime does not know it.
    fn inspect(&self, id: &str) -> impl Future<Output = Result<Option<Container>, Status>>;

    /// Returns the processes of a container, if the runtime can list them.
    fn processes(&self, id: &str) -> impl Future<Output = Vec<u32>>;
}

/// An event of a runtime.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) report: Option<Report>,
    /// A container to inspect, because more has changed than the event says.
    pub(super) look_at: Option<Arc<str>>,
}

/// The answer to a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) containers: Vec<Container>,
    /// Containers to inspect, because the list lacks something.
    pub(super) look_at: Vec<Arc<str>>,
}

/// Starts a client on this thread.
pub(super) fn start<R: Remote>(
    thread: &ArbiterHandle,
    settings: Settings,
    report: Reporter,
) -> Box<dyn Client> {
    let actor = RemoteActor::<R>::start_in_arbiter(thread, move |_| RemoteActor {
        listings: Listings::new(settings.interval),
        settings,
        report,
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
    report: Reporter,
    /// The connection, while the runtime is there.
    remote: Option<R>,
    /// Whether there is no such runtime, and none is expected.
    absent: bool,
    /// Cuts the pause before the next attempt to connect short.
    nudge: Arc<Notify>,
    listings: Listings,
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
                (self.report)(Report::NotKnown { id });
            }
            Request::Inspect(id, _) => self.inspect(&id, ctx),
            Request::Forget(id) => self.inspections.forget(&id),
        }
    }
}

/// What happens to the connection.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Link<R: Remote> {
    /// The runtime has answered, for the first time or again.
    Up(R),
    /// The runtime reports an event.
    Event(Happened),
    /// The connection is lost.
    Down,
    /// There is no such runtime, and none is expected.
    Absent,
}

impl<R: Remote> Handler<Link<R>> for RemoteActor<R> {
    type Result = ();

    fn handle(&mut self, link: Link<R>, ctx: &mut Self::Context) {
        match link {
            Link::Up(remote) => {
                self.remote = Some(remote);
                self.absent = false;
                self.refresh_at_once(ctx);
                self.pump(ctx);
            }
            Link::Event(happened) => self.happened(happened, ctx),
            Link::Down => self.remote = None,
            Link::Absent => {
                self.absent = true;
                for id in self.inspections.give_up() {
                    (self.report)(Report::NotKnown { id });
                }
            }
        }
    }
}

impl<R: Remote> RemoteActor<R> {
    /// Whether the runtime certainly does not have this container.
    fn lacks(&self, id: &str, runtime: Runtime) -> bool {
        self.absent || self.remote.as_ref().is_some_and(|remote| !remote.may_have(id, runtime))
    }

    fn happened(&mut self, happened: Happened, ctx: &mut Context<Self>) {
        if let Some(report) = happened.report {
            if let Report::Removed { id } = &report {
                self.inspections.forget(id);
            }
            (self.report)(report);
        }
        if let Some(id) = happened.look_at {
            self.inspect(&id, ctx);
        }
    }
}
