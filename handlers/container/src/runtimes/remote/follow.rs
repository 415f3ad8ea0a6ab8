//! The runtime's coming and going.

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

/// The pause before a socket is tried again on which something else answers than was looked for.
const STRANGER: Duration = Duration::from_secs(30);

/// The runtime, to be followed for as long as the actor lives.
pub(super) struct Daemon<R: Remote> {
    pub(super) settings: Settings,
    pub(super) nudge: Arc<Notify>,
    pub(super) actor: Addr<RemoteActor<R>>,
}

/// How it stands, as far as the log has been told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    There,
    Silent,
    Strange,
}

impl<R: Remote> Daemon<R> {
    /// Connects, follows the events, and starts anew whenever the runtime goes; sooner when nudged.
    /// One line is logged each time that it comes or goes.
    pub(super) async fn follow(self) {
        let mut said = Said::Nothing;
        let mut failures = 0;
        loop {
            let status = match self.connect().await {
                Ok((remote, socket)) => {
                    (failures, said) = (0, Said::There);
                    tracing::info!(socket = %socket.display(), "{} is there", R::NAME);
                    self.actor.do_send(Link::Up(remote.clone()));
                    let hand_on = |happened| self.actor.do_send(Link::Event(happened));
                    let status = remote.follow(hand_on).await;
                    self.actor.do_send(Link::Down);
                    status
                }
                Err(status) => status,
            };
            let strange = status.code() == Code::Unimplemented;
            said = self.tell_absence(&status, said);
            if strange {
                sleep(STRANGER).await;
            } else {
                rest(failures, &self.nudge).await;
            }
            failures += 1;
        }
    }

    /// Says that it is not there, once; gives what has been said by now.
    fn tell_absence(&self, status: &Status, said: Said) -> Said {
        let (reason, name) = (status.message(), R::NAME);
        let strange = status.code() == Code::Unimplemented;
        if !self.settings.expected && (strange || self.sockets().is_empty()) {
            self.actor.do_send(Link::Absent);
            if strange && said != Said::Strange {
                tracing::debug!(reason, "{name} is not there");
                return Said::Strange;
            }
            return said;
        }
        if said != Said::Silent {
            tracing::warn!(
                reason,
                "{name} does not answer: new containers have an id and no name until it does"
            );
        }
        Said::Silent
    }

    /// The socket that was named, or those of the usual ones that are there.
    fn sockets(&self) -> Vec<PathBuf> {
        let path = |path: &str| PathBuf::from(path.trim_start_matches("unix://"));
        let sockets: Vec<PathBuf> = match &self.settings.endpoint {
            Some(endpoint) => vec![path(endpoint)],
            None => R::SOCKETS.iter().copied().map(path).collect(),
        };
        sockets.into_iter().filter(|path| path.exists()).collect()
    }

    /// The first runtime that answers as one should, and where.
    async fn connect(&self) -> Result<(R, PathBuf), Status> {
        let named = self.settings.endpoint.as_deref();
        let looked = || named.map_or_else(|| R::SOCKETS.join(", "), str::to_owned);
        let mut why = None;
        for socket in self.sockets() {
            match self.try_one(&socket).await {
                Ok(remote) => return Ok((remote, socket)),
                // That one does not answer is worse than that something else listens there.
                Err(status) if status.code() == Code::Unimplemented => {
                    why.get_or_insert(status);
                }
                Err(status) => why = Some(status),
            }
        }
        Err(why.unwrap_or_else(|| Status::not_found(format!("there is no socket at {}", looked()))))
    }

    async fn try_one(&self, socket: &Path) -> Result<R, Status> {
        R::greet(Caller::connect(socket, self.settings.timeout).await?).await
    }
}
