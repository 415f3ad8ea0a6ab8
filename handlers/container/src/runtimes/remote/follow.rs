//! Connecting to the runtime, and following its events.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use tokio::sync::Notify;
use tokio::time::sleep;
use tonic::{Code, Status};

use super::grpc::Caller;
use super::{Link, Remote, RemoteActor};
use crate::runtimes::{Settings, rest};

/// The pause before the next attempt on a socket where something other than the runtime answers.
const OTHER_SERVICE_PAUSE: Duration = Duration::from_secs(30);

/// The runtime, followed for as long as the actor lives.
pub(super) struct Daemon<R: Remote> {
    pub(super) settings: Settings,
    pub(super) nudge: Arc<Notify>,
    pub(super) actor: Addr<RemoteActor<R>>,
}

/// The state of the connection that was logged last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Logged {
    Nothing,
    Connected,
    NoAnswer,
    OtherService,
}

impl<R: Remote> Daemon<R> {
    /// Connects, follows the events, and starts again whenever the runtime goes; sooner when
    /// nudged. Logs one line each time that it comes or goes.
    pub(super) async fn follow(self) {
        let mut logged = Logged::Nothing;
        let mut failures = 0;
        loop {
            let status = match self.connect().await {
                Ok((remote, socket)) => {
                    (failures, logged) = (0, Logged::Connected);
                    tracing::info!(socket = %socket.display(), "connected to {}", R::NAME);
                    self.actor.do_send(Link::Up(remote.clone()));
                    let forward = |happened| self.actor.do_send(Link::Event(happened));
                    let status = remote.follow(forward).await;
                    self.actor.do_send(Link::Down);
                    status
                }
                Err(status) => status,
            };
            let other_service = status.code() == Code::Unimplemented;
            logged = self.log_absence(&status, logged);
            if other_service {
                sleep(OTHER_SERVICE_PAUSE).await;
            } else {
                rest(failures, &self.nudge).await;
            }
            failures += 1;
        }
    }

    /// Logs, once, that the runtime is not there; returns the state that is logged now.
    fn log_absence(&self, status: &Status, logged: Logged) -> Logged {
        let (reason, name) = (status.message(), R::NAME);
        let other_service = status.code() == Code::Unimplemented;
        if !self.settings.expected && (other_service || self.sockets().is_empty()) {
            self.actor.do_send(Link::Absent);
            if other_service && logged != Logged::OtherService {
                tracing::debug!(reason, "{name} is not on its usual socket");
                return Logged::OtherService;
            }
            return logged;
        }
        if logged != Logged::NoAnswer {
            tracing::warn!(
                reason,
                "{name} does not answer; new containers have no name until it does"
            );
        }
        Logged::NoAnswer
    }

    /// Returns the configured socket, or the usual ones; only those that exist.
    fn sockets(&self) -> Vec<PathBuf> {
        let path = |path: &str| PathBuf::from(path.trim_start_matches("unix://"));
        let sockets: Vec<PathBuf> = match &self.settings.endpoint {
            Some(endpoint) => vec![path(endpoint)],
            None => R::SOCKETS.iter().copied().map(path).collect(),
        };
        sockets.into_iter().filter(|path| path.exists()).collect()
    }

    /// Connects to the first socket where the runtime answers; returns the connection and the
    /// socket.
    async fn connect(&self) -> Result<(R, PathBuf), Status> {
        let named = self.settings.endpoint.as_deref();
        let looked = || named.map_or_else(|| R::SOCKETS.join(", "), str::to_owned);
        let mut reason = None;
        for socket in self.sockets() {
            match self.connect_to(&socket).await {
                Ok(remote) => return Ok((remote, socket)),
                // A runtime that does not answer matters more than another service that does.
                Err(status) if status.code() == Code::Unimplemented => {
                    reason.get_or_insert(status);
                }
                Err(status) => reason = Some(status),
            }
        }
        Err(reason.unwrap_or_else(|| Status::not_found(format!("no socket at {}", looked()))))
    }

    async fn connect_to(&self, socket: &Path) -> Result<R, Status> {
        R::greet(Caller::connect(socket, self.settings.timeout).await?).await
    }
}
