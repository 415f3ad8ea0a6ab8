//! Docker's client: an actor with a thread of its own, so that a daemon that is slow, hung or gone
//! delays nothing.
//!
//! It asks at most so many things at once, gives each a time limit, tries again with growing
//! pauses, and tells what it has learnt to the manager, whenever that is.

mod answers;
mod follow;
mod inspect;
mod refresh;
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
use super::listings::Refresh;
use super::{Client, Settings, Tell};
use crate::request::{News, Request};

/// Starts the client on that thread.
pub(super) fn start(
    thread: &ArbiterHandle,
    settings: Settings,
    runtime: Runtime,
    tell: Tell,
) -> Box<dyn Client> {
    let actor = DockerActor::start_in_arbiter(thread, move |_| DockerActor {
        refresh: Refresh::new(settings.interval),
        settings,
        runtime,
        tell,
        docker: None,
        absent: false,
        nudge: Arc::new(Notify::new()),
        inspections: Inspections::default(),
        past: HashMap::new(),
    });
    Box::new(actor)
}

/// Owns the client of Docker's API.
pub(super) struct DockerActor {
    settings: Settings,
    /// Whose containers these are: podman has a socket that speaks Docker's words.
    runtime: Runtime,
    tell: Tell,
    /// There while the daemon is.
    docker: Option<Docker>,
    /// There is not even a socket, and none is expected.
    absent: bool,
    /// Has the daemon looked for at once.
    nudge: Arc<Notify>,
    refresh: Refresh,
    inspections: Inspections,
    /// What containers are called of which there were events shortly before the daemon was there
    /// for us, until somebody asks.
    past: HashMap<String, Container>,
}

/// Most containers that are known from events of before: the daemon remembers as many events.
const MOST_PAST: usize = 256;

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
            Request::Inspect(id, _) if self.absent => (self.tell)(News::NotKnown { id }),
            Request::Inspect(id, _) => {
                if let Some(past) = self.past.remove(&*id) {
                    (self.tell)(News::Container(Box::new(past)));
                }
                self.inspect(&id, ctx);
            }
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
    /// It says that something happened before it was there for us.
    Past(Box<EventMessage>),
    /// It is gone.
    Down,
    /// It is not there at all, and nobody expects it to be.
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
                self.refresh_anew(ctx);
                self.pump(ctx);
            }
            Link::Event(event) => self.happened(*event, ctx),
            Link::Past(event) => self.happened_before(*event),
            Link::Down => self.docker = None,
            Link::Absent => {
                self.absent = true;
                for id in self.inspections.give_up() {
                    (self.tell)(News::NotKnown { id });
                }
            }
        }
    }
}

impl DockerActor {
    /// Tells what a container was called, or keeps it until somebody asks. The list tells what is
    /// there; nobody but its cgroup tells that one was.
    fn happened_before(&mut self, event: EventMessage) {
        let Some(mut container) = answers::called(event, self.runtime) else { return };
        let before = self.past.remove(&*container.id);
        if let Some(before) = before.filter(|_| container.labels.is_empty()) {
            container.labels = before.labels;
        }
        if self.inspections.wants(&container.id) {
            (self.tell)(News::Container(Box::new(container)));
        } else if self.past.len() < MOST_PAST {
            self.past.insert(container.id.to_string(), container);
        }
    }

    fn happened(&mut self, event: EventMessage, ctx: &mut Context<Self>) {
        let Some(happened) = answers::happened(event, self.runtime) else { return };
        if let News::Removed { id } = &happened.news {
            // Where it was asked for nobody else will tell any more.
            if let Some(called) = happened.called.filter(|_| self.inspections.wants(id)) {
                (self.tell)(News::Container(Box::new(called)));
            }
            self.inspections.forget(id);
        }
        (self.tell)(happened.news);
        if let Some(id) = happened.look_at {
            self.inspect(&id, ctx);
        }
    }
}
