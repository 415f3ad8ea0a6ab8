//! Clients of container runtimes: they know what a container is called.
//!
//! | module | asks | about containers of |
//! |---|---|---|
//! | `docker` | Docker's daemon, or podman's Docker-compatible socket | Docker, podman |
//! | `podman` | the records that podman and CRI-O keep on disk; no daemon | podman, CRI-O |
//! | `containerd` | containerd's own API, in all its namespaces | containerd |
//! | `cri` | the container runtime interface, as a kubelet does | containerd, CRI-O |
//!
//! runc and crun on their own need no client: the manager finds their containers in their state
//! folders.
//!
//! Each client is an actor, and all share one thread. `remote` is the common part of those that
//! speak gRPC; `inspections` and `listings` decide when to ask, for all but podman's. A new client
//! is a module with a `start` function, a variant of [`RuntimeClient`] and a line in [`start_one`].

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

use crate::options::{ContainerOptions, RuntimeClient};
pub(crate) use crate::protocol::Client;
use crate::protocol::{Report, Reported, Request};

/// Hands a client's report to the manager. Never waits.
pub(crate) type Reporter = Arc<dyn Fn(Report) + Send + Sync>;

/// Settings of one client.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where the runtime is; `None`: in its usual places.
    pub(crate) endpoint: Option<String>,
    /// Whether the configuration names this runtime. If so, its absence is logged as a warning, and
    /// events wait for names from it. If not, the client looks for it quietly and reports
    /// [`Report::NotKnown`] at once while it is absent.
    pub(crate) expected: bool,
    /// Time limit for one answer.
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

/// Formats an error with all its causes: hyper's own text, for one, does not say why it could not
/// connect.
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

/// The pause before the first retry, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Returns the pause after this number of failures in a row.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE)
}

/// Waits before the next attempt to reach a runtime. The pause grows with each failure; a nudge
/// cuts it short, but never to nothing.
async fn rest(failures: u32, nudge: &Notify) {
    const SHORTEST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(2);
    sleep(SHORTEST).await;
    // Nudged or not, it is time for the next attempt.
    let _: Result<(), _> = timeout(pause(failures).min(LONGEST), nudge.notified()).await;
}

impl RuntimeClient {
    /// Whether this client may know a container whose cgroup's path points to `runtime`.
    pub(crate) fn may_know(self, runtime: Runtime) -> bool {
        match runtime {
            Runtime::Docker => self == Self::Docker,
            Runtime::Podman => self == Self::Podman,
            Runtime::Containerd => matches!(self, Self::Containerd | Self::Cri),
            Runtime::CriO => matches!(self, Self::Cri | Self::Podman),
            Runtime::Runc | Runtime::Crun => false, // their state folders have said it all
            _ => true,                              // the path does not say
        }
    }
}

/// All clients of a run behind one [`Client`].
pub(crate) struct Clients {
    clients: Vec<(RuntimeClient, Box<dyn Client>)>,
    arbiter: Arbiter,
}

/// Starts the configured clients. Call it inside an actix system.
pub(crate) fn start(
    options: &ContainerOptions,
    deliver: impl Fn(Reported) + Send + Sync + 'static,
) -> Clients {
    let (arbiter, deliver) = (Arbiter::new(), Arc::new(deliver));
    let clients = options.clients().into_iter().map(|client| {
        let deliver = Arc::clone(&deliver);
        let report: Reporter = Arc::new(move |report| deliver(Reported { from: client, report }));
        (client, start_one(client, &arbiter.handle(), options.settings(client), report))
    });
    Clients { clients: clients.collect(), arbiter }
}

fn start_one(
    client: RuntimeClient,
    thread: &ArbiterHandle,
    settings: Settings,
    report: Reporter,
) -> Box<dyn Client> {
    match client {
        RuntimeClient::Docker => docker::start(thread, settings, Runtime::Docker, report),
        RuntimeClient::Podman
            if settings.endpoint.as_ref().is_some_and(|e| e.starts_with("unix:")) =>
        {
            docker::start(thread, settings, Runtime::Podman, report)
        }
        RuntimeClient::Podman => podman::start(thread, settings, report),
        RuntimeClient::Containerd => containerd::start(thread, settings, report),
        RuntimeClient::Cri => cri::start(thread, settings, report),
    }
}

impl Client for Clients {
    fn ask(&self, request: Request) {
        for (name, client) in &self.clients {
            if request.runtime().is_none_or(|runtime| name.may_know(runtime)) {
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
