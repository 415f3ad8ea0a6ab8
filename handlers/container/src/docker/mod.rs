//! Docker's client: an actor with a thread of its own, so that a daemon that is slow, hung or gone delays nothing.
//!
//! It asks at most so many things at once, gives each a time limit, tries again with growing pauses, and tells what it has
//! learnt to the manager, whenever that is.

mod answers;
mod follow;
mod inspect;
mod refresh;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, AsyncContext as _, Context, Handler, Message, WrapFuture as _};
use bollard::Docker;
use bollard::models::EventMessage;
use tokio::sync::Notify;

use crate::options::ContainerOptions;
use crate::request::{Helper, News, Request};

/// Tells the manager. Never waits.
pub(super) type Tell = Arc<dyn Fn(News) + Send + Sync>;

/// The pause before the first new try, and the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pause after so many tries that failed.
pub(super) fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE)
}

/// Starts the client. Must be called inside an actix system.
pub(crate) fn start(
    options: &ContainerOptions,
    tell: impl Fn(News) + Send + Sync + 'static,
) -> Client {
    let arbiter = Arbiter::new();
    let endpoint = options.endpoint();
    let (timeout, interval) = (options.request_timeout.0, options.refresh_interval.0);
    let actor = DockerActor::start_in_arbiter(&arbiter.handle(), move |_| DockerActor {
        endpoint,
        timeout,
        tell: Arc::new(tell),
        docker: None,
        nudge: Arc::new(Notify::new()),
        refresh: refresh::Refresh::new(interval),
        inspections: inspect::Inspections::default(),
    });
    Client { actor, arbiter }
}

/// The manager's side of the client. Dropping it ends the client.
pub(crate) struct Client {
    actor: Addr<DockerActor>,
    arbiter: Arbiter,
}

impl Helper for Client {
    fn ask(&self, request: Request) {
        self.actor.do_send(request);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.arbiter.stop();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// Owns the client of Docker's API.
pub(super) struct DockerActor {
    endpoint: String,
    timeout: Duration,
    tell: Tell,
    /// There while the daemon is.
    docker: Option<Docker>,
    /// Has the daemon looked for at once.
    nudge: Arc<Notify>,
    refresh: refresh::Refresh,
    inspections: inspect::Inspections,
}

impl Actor for DockerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let daemon = follow::Daemon {
            endpoint: self.endpoint.clone(),
            timeout: self.timeout,
            nudge: Arc::clone(&self.nudge),
            actor: ctx.address(),
        };
        ctx.spawn(daemon.follow().into_actor(self));
    }
}

impl Message for Request {
    type Result = ();
}

impl Handler<Request> for DockerActor {
    type Result = ();

    fn handle(&mut self, request: Request, ctx: &mut Self::Context) {
        if self.docker.is_none() && !matches!(request, Request::Forget(_)) {
            self.nudge.notify_one();
        }
        match request {
            Request::Refresh { processes } => self.refresh(processes, ctx),
            Request::Inspect(id) => self.inspect(&id, ctx),
            Request::Forget(id) => self.inspections.forget(&id),
        }
    }
}

/// What becomes of the daemon.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Link {
    /// It is there: for the first time, or again.
    Up(Docker),
    /// It says that something happened.
    Event(Box<EventMessage>),
    /// It is gone.
    Down,
}

impl Handler<Link> for DockerActor {
    type Result = ();

    fn handle(&mut self, link: Link, ctx: &mut Self::Context) {
        match link {
            Link::Up(docker) => {
                self.docker = Some(docker);
                self.refresh_anew(ctx);
                self.pump(ctx);
            }
            Link::Event(event) => self.happened(*event, ctx),
            Link::Down => self.docker = None,
        }
    }
}

impl DockerActor {
    fn happened(&mut self, event: EventMessage, ctx: &mut Context<Self>) {
        let Some(happened) = answers::happened(event) else { return };
        if let News::Removed { id } = &happened.news {
            self.inspections.forget(id);
        }
        (self.tell)(happened.news);
        if let Some(id) = happened.look_at {
            self.inspect(&id, ctx);
        }
    }
}
