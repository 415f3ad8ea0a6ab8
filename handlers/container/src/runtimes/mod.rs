//! Clients of container runtimes: those who know what a container is called.
//!
//! | module | asks | for containers of |
//! |---|---|---|
//! | `docker` | Docker's daemon, or podman's socket in its words | Docker, podman |
//! | `podman` | the records that podman and CRI-O keep on disk, no daemon | podman, CRI-O |
//! | `containerd` | containerd's own interface, all its namespaces | containerd |
//! | `cri` | what a kubelet asks: the container runtime interface | containerd, CRI-O |
//!
//! Bare runc and crun need none: the manager finds their containers in the folders where they keep
//! state.
//!
//! All clients share one thread; `remote` is what those that speak gRPC have in common. One more is
//! a module with a `start`, a word in [`RuntimeKind`] and a line in [`start`].

mod containerd;
mod cri;
mod docker;
mod inspections;
mod listings;
mod podman;
mod processes;
mod remote;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, Context, Handler, Message};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use whalewatch_core::Runtime;

use crate::options::{ContainerOptions, RuntimeKind};
pub(crate) use crate::request::Client;
use crate::request::{Heard, News, Request};

/// Tells the manager what a client has learnt. Never waits.
pub(crate) type Tell = Arc<dyn Fn(News) + Send + Sync>;

/// How a client is to behave.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the runtime is to be found; not set: where it usually is.
    pub(crate) endpoint: Option<String>,
    /// The runtime was asked for by its name: its absence is worth a warning, and what it could
    /// tell is waited for. Else it is looked for, quietly, and while it is not there its containers
    /// are [`News::NotKnown`] at once.
    pub(crate) expected: bool,
    /// How long one answer may take.
    pub(crate) timeout: Duration,
    /// Least time between two listings of all containers.
    pub(crate) interval: Duration,
}

impl Message for Request {
    type Result = ();
}

/// Each client is an actor.
impl<A> Client for Addr<A>
where
    A: Actor<Context = Context<A>> + Handler<Request>,
{
    fn ask(&self, request: Request) {
        self.do_send(request);
    }
}

/// An error with all that lies behind it: a client's own words do not say why it could not connect.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The pause before the first new try, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pause after so many tries that failed.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE)
}

/// Waits before the next try to reach a runtime: growing with each failure, cut short by a nudge,
/// but never none at all.
async fn rest(failures: u32, nudge: &Notify) {
    const LEAST: Duration = Duration::from_millis(10);
    const MOST: Duration = Duration::from_secs(2);
    sleep(LEAST).await;
    // Either way it is time to try again.
    let _: Result<(), _> = timeout(pause(failures).min(MOST), nudge.notified()).await;
}

impl RuntimeKind {
    /// Every one.
    pub(crate) const ALL: [Self; 4] = [Self::Docker, Self::Podman, Self::Containerd, Self::Cri];

    /// Whether it may know a container that its cgroup's path ascribes to `runtime`.
    pub(crate) fn may_know(self, runtime: Runtime) -> bool {
        match runtime {
            Runtime::Docker => self == Self::Docker,
            Runtime::Podman => self == Self::Podman,
            Runtime::Containerd => matches!(self, Self::Containerd | Self::Cri),
            Runtime::CriO => matches!(self, Self::Cri | Self::Podman),
            Runtime::Runc | Runtime::Crun => false, // their state has told all
            _ => true,                              // the path does not say
        }
    }
}

/// All clients of a run, behind one.
pub(crate) struct Clients {
    clients: Vec<(RuntimeKind, Box<dyn Client>)>,
    arbiter: Arbiter,
}

/// Starts the clients that the options want. Must be called inside an actix system.
pub(crate) fn start(
    options: &ContainerOptions,
    tell: impl Fn(Heard) + Send + Sync + 'static,
) -> Clients {
    let (arbiter, tell) = (Arbiter::new(), Arc::new(tell));
    let clients = options.runtimes().into_iter().map(|kind| {
        let tell = Arc::clone(&tell);
        let tell: Tell = Arc::new(move |news| tell(Heard { from: kind, news }));
        (kind, start_one(kind, &arbiter.handle(), options.settings(kind), tell))
    });
    Clients { clients: clients.collect(), arbiter }
}

fn start_one(
    kind: RuntimeKind,
    thread: &ArbiterHandle,
    settings: Settings,
    tell: Tell,
) -> Box<dyn Client> {
    match kind {
        RuntimeKind::Docker => docker::start(thread, settings, Runtime::Docker, tell),
        RuntimeKind::Podman
            if settings.endpoint.as_ref().is_some_and(|e| e.starts_with("unix:")) =>
        {
            docker::start(thread, settings, Runtime::Podman, tell)
        }
        RuntimeKind::Podman => podman::start(thread, settings, tell),
        RuntimeKind::Containerd => containerd::start(thread, settings, tell),
        RuntimeKind::Cri => cri::start(thread, settings, tell),
    }
}

impl Client for Clients {
    fn ask(&self, request: Request) {
        for (kind, client) in &self.clients {
            if request.runtime().is_none_or(|runtime| kind.may_know(runtime)) {
                client.ask(request.clone());
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.arbiter.stop();
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.clients).finish()
    }
}
