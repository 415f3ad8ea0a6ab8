//! Docker's client: an actor on the clients' thread, so a daemon that is slow, hung or gone delays
//! nothing.
//!
//! It asks a bounded number of questions at once, each with a time limit, repeats failed ones with
//! growing pauses, and reports to the manager whenever an answer comes.

mod answers;
mod follow;
mod inspect;
mod list;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, ArbiterHandle, AsyncContext as _, Context, Handler, Message, WrapFuture as _};
use bollard::Docker;
use bollard::models::EventMessage;
use tokio::sync::Notify;
use whalewatch_core::{Container, Runtime};

use super::inspections::Inspections;
use super::listings::Listings;
use super::{Client, Reporter, Settings};
use crate::protocol::{Report, Request};

/// Starts the client on this thread.
pub(super) fn start(
    thread: &ArbiterHandle,
    settings: Settings,
    runtime: Runtime,
    report: Reporter,
) -> Box<dyn Client> {
    let actor = DockerActor::start_in_arbiter(thread, move |_| DockerActor {
        listings: Listings::new(settings.interval),
        settings,
        runtime,
        report,
        docker: None,
        absent: false,
        nudge: Arc::new(Notify::new()),
        inspections: Inspections::default(),
        past: HashMap::new(),
    });
    Box::new(actor)
}

/// Owns the connection to Docker's API.
pub(super) struct DockerActor {
    settings: Settings,
    /// The runtime whose containers these are: podman has a Docker-compatible socket.
    runtime: Runtime,
    report: Reporter,
    /// The connection, while the daemon is there.
    docker: Option<Docker>,
    /// Whether there is no socket, and none is expected.
    absent: bool,
    /// Cuts the pause before the next attempt to connect short.
    nudge: Arc<Notify>,
    listings: Listings,
    inspections: Inspections,
    /// Containers with events from shortly before we connected, until the manager asks about them.
    past: HashMap<String, Container>,
}

/// Bound on the containers known from earlier events. The daemon remembers as many events.
const MAX_PAST: usize = 256;

impl Actor for DockerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let daemon = follow::Daemon {
            settings: self.settings.clone(),
            runtime: self.runtime,
            nudge: Arc::clone(&self.nudge),
            actor: ctx.address(),
        };
        ctx.spawn(daemon.follow().into_actor(self));
    }
}

impl Handler<Request> for DockerActor {
    type Result = ();

    fn handle(&mut self, request: Request, ctx: &mut Self::Context) {
        if self.docker.is_none() && !matches!(request, Request::Forget(_)) {
            self.nudge.notify_one();
        }
        match request {
            Request::Refresh { processes } => self.refresh(processes, ctx),
            Request::Inspect(id, _) if self.absent => (self.report)(Report::NotKnown { id }),
            Request::Inspect(id, _) => {
                if let Some(past) = self.past.remove(&*id) {
                    (self.report)(Report::Container(Box::new(past)));
                }
                self.inspect(&id, ctx);
            }
            Request::Forget(id) => self.inspections.forget(&id),
        }
    }
}

/// What happens to the connection.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Link {
    /// The daemon has answered, for the first time or again.
    Up(Docker),
    /// The daemon reports an event.
    Event(Box<EventMessage>),
    /// The daemon reports an event from before we connected.
    Past(Box<EventMessage>),
    /// The connection is lost.
    Down,
    /// There is no daemon, and none is expected.
    Absent,
}

impl Handler<Link> for DockerActor {
    type Result = ();

    fn handle(&mut self, link: Link, ctx: &mut Self::Context) {
        match link {
            Link::Up(docker) => {
                self.docker = Some(docker);
                self.absent = false;
                self.past.clear();
                self.refresh_at_once(ctx);
                self.pump(ctx);
            }
            Link::Event(event) => self.happened(*event, ctx),
            Link::Past(event) => self.happened_before(*event),
            Link::Down => self.docker = None,
            Link::Absent => {
                self.absent = true;
                for id in self.inspections.give_up() {
                    (self.report)(Report::NotKnown { id });
                }
            }
        }
    }
}

impl DockerActor {
    /// Reports the name from an earlier event, or keeps it until the manager asks. Listings have
    /// existing containers only; one that has ended is known from its cgroup and from such events.
    fn happened_before(&mut self, event: EventMessage) {
        let Some(mut container) = answers::name_in(event, self.runtime) else { return };
        let before = self.past.remove(&*container.id);
        if let Some(before) = before.filter(|_| container.labels.is_empty()) {
            container.labels = before.labels;
        }
        if self.inspections.wants(&container.id) {
            (self.report)(Report::Container(Box::new(container)));
        } else if self.past.len() < MAX_PAST {
            self.past.insert(container.id.to_string(), container);
        }
    }

    fn happened(&mut self, event: EventMessage, ctx: &mut Context<Self>) {
        let Some(happened) = answers::happened(event, self.runtime) else { return };
        if let Report::Removed { id } = &happened.report {
            // If the manager has asked, nobody else can answer any more.
            if let Some(named) = happened.named.filter(|_| self.inspections.wants(id)) {
                (self.report)(Report::Container(Box::new(named)));
            }
            self.inspections.forget(id);
        }
        (self.report)(happened.report);
        if let Some(id) = happened.look_at {
            self.inspect(&id, ctx);
        }
    }
}
