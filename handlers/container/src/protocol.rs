//! What the manager and the runtimes' clients say to each other.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use whalewatch_core::{Container, Runtime, Status};

use crate::options::RuntimeClient;
use crate::proc::ProcEntry;

/// A request of the manager. Asking never waits; answers come as [`Report`]s, if at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// List all containers.
    Refresh {
        /// Also list the processes of each, where cgroups do not answer.
        processes: bool,
    },
    /// Report one container, which according to its cgroup's path belongs to this runtime.
    Inspect(Arc<str>, Runtime),
    /// Stop looking for one container.
    Forget(Arc<str>),
}

impl Request {
    /// Returns the runtime whose clients can answer; `None` for all.
    pub(crate) fn runtime(&self) -> Option<Runtime> {
        match self {
            Self::Inspect(_, runtime) => Some(*runtime),
            Self::Refresh { .. } | Self::Forget(_) => None,
        }
    }
}

/// A report, and the client that it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Reported {
    pub(crate) from: RuntimeClient,
    pub(crate) report: Report,
}

/// What a client reports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Report {
    /// A container, with everything that the client knows about it.
    Container(Box<Container>),
    /// A container has another name.
    Renamed {
        /// Its id.
        id: String,
        /// The new name.
        name: String,
    },
    /// A container has another status.
    Status {
        /// Its id.
        id: String,
        /// The new status.
        status: Status,
    },
    /// The runtime has removed a container.
    Removed {
        /// Its id.
        id: String,
    },
    /// The runtime does not know a container, although it was asked more than once.
    NotKnown {
        /// Its id.
        id: Arc<str>,
    },
    /// Processes of a container.
    Processes {
        /// Its id.
        id: String,
        /// Some of its processes.
        processes: Vec<ProcEntry>,
    },
    /// A listing is complete: every container of the runtime has been reported.
    Refreshed {
        /// The ids of the listed containers.
        running: Vec<String>,
    },
}

impl Report {
    /// Returns the id of the one container that this is about.
    pub(crate) fn about(&self) -> Option<&str> {
        Some(match self {
            Self::Container(container) => &container.id,
            Self::Renamed { id, .. }
            | Self::Status { id, .. }
            | Self::Removed { id }
            | Self::Processes { id, .. } => id,
            Self::NotKnown { id } => id,
            Self::Refreshed { .. } => return None,
        })
    }
}

/// The other end of a [`Request`]: one runtime's client, all clients, or a script in tests.
pub(crate) trait Client: Send + fmt::Debug {
    /// Takes a request. Never waits; answers come as [`Report`]s. A [`Request::Inspect`] is
    /// answered in the end by [`Report::Container`] or, if the runtime certainly does not know the
    /// container, by [`Report::NotKnown`].
    fn ask(&self, request: Request);
}

/// No client at all: in a replay, which brings the recorded reports by itself.
#[derive(Debug)]
pub(crate) struct NoClients;

impl Client for NoClients {
    fn ask(&self, _: Request) {}
}
