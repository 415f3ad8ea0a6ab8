//! What the manager and its helper, the runtimes' clients, say to each other.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use whalewatch_core::{Container, Runtime, Status};

use crate::options::RuntimeKind;
use crate::proc::Seen;

/// What the manager asks for. Asking never waits; answers come as [`News`], or never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// List all containers.
    Refresh {
        /// And the processes of each: where cgroups do not answer.
        processes: bool,
    },
    /// Tell of one, which its cgroup's path ascribes to that runtime.
    Inspect(Arc<str>, Runtime),
    /// No more interest in one.
    Forget(Arc<str>),
}

impl Request {
    /// Whose client can answer, if not everybody's.
    pub(crate) fn runtime(&self) -> Option<Runtime> {
        match self {
            Self::Inspect(_, runtime) => Some(*runtime),
            Self::Refresh { .. } | Self::Forget(_) => None,
        }
    }
}

/// What a client has learnt, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Heard {
    pub(crate) from: RuntimeKind,
    pub(crate) news: News,
}

/// What a client has learnt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum News {
    /// A container and what is known of it.
    Container(Box<Container>),
    /// It has another name.
    Renamed {
        /// Which.
        id: String,
        /// The new one.
        name: String,
    },
    /// It has another state.
    Status {
        /// Which.
        id: String,
        /// The new one.
        status: Status,
    },
    /// The runtime has removed it.
    Removed {
        /// Which.
        id: String,
    },
    /// The runtime does not know it, though asked more than once.
    NotKnown {
        /// Which.
        id: Arc<str>,
    },
    /// Processes of a container.
    Processes {
        /// Which.
        id: String,
        /// Some of them.
        seen: Vec<Seen>,
    },
    /// All containers that its runtime has have been told.
    Refreshed {
        /// Their ids.
        running: Vec<String>,
    },
}

impl News {
    /// The one container that this is about.
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

/// Who can be asked: one runtime's client, all of them behind one, or a script in tests.
pub(crate) trait Client: Send + fmt::Debug {
    /// Asks for something. Never waits; answers come as [`News`]: for each [`Request::Inspect`] in
    /// the end [`News::Container`] or, where the runtime surely does not know it,
    /// [`News::NotKnown`].
    fn ask(&self, request: Request);
}

/// Nobody to ask: in a replay.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Client for Nobody {
    fn ask(&self, _: Request) {}
}
