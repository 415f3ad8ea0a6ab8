//! What a handler is built with.

use std::fmt;
use std::sync::Arc;

use super::{ChainId, EarlyWork, Never};
use crate::directory::Directory;
use crate::field::Schema;
use crate::health::Health;
use crate::outside::Outside;

/// What a handler is built with.
#[non_exhaustive]
pub struct Setup<M = Never> {
    /// The handler's name in the configuration.
    pub name: Arc<str>,
    /// The name of this machine, as events report it in `host.name`.
    pub host_name: Arc<str>,
    /// The schemas of the events that reach the handler, as [`Handler::check`] got them. A handler
    /// that builds something from them declares [`Declaration::built_for_input`].
    ///
    /// [`Handler::check`]: super::Handler::check
    /// [`Declaration::built_for_input`]: super::Declaration::built_for_input
    pub input: Vec<Schema>,
    /// The chains that the handler is in from the start. A reload can add others: see
    /// [`Lifecycle::begin`](super::Lifecycle::begin).
    pub chains: Vec<ChainId>,
    /// Sends messages to the handler itself, from helper threads.
    pub mailbox: Mailbox<M>,
    /// Where handlers publish, and trackers learn, which container lives in which cgroup.
    pub directory: Directory,
    /// Reports how every part of the run is doing.
    pub health: Health,
    /// The outside world and the clock. A handler that reads the world by other means is not
    /// reproducible in a replay.
    pub outside: Outside,
    /// What [`Declaration::early_work`](super::Declaration::early_work) started. It is the same
    /// each time the handler is built, and empty in a replay.
    pub early_work: EarlyWork,
}

impl<M> Setup<M> {
    /// A setup for the handler `name` on the machine `host_name`, with `mailbox`, and without
    /// anything else: no chains, no known input, an empty directory, the live world. For hosts of
    /// handlers, which set the fields that they have more for.
    pub fn new(
        name: impl Into<Arc<str>>,
        host_name: impl Into<Arc<str>>,
        mailbox: Mailbox<M>,
    ) -> Self {
        Self {
            name: name.into(),
            host_name: host_name.into(),
            input: Vec::new(),
            chains: Vec::new(),
            mailbox,
            directory: Directory::default(),
            health: Health::default(),
            outside: Outside::default(),
            early_work: EarlyWork::default(),
        }
    }
}

/// Sends messages to a handler from any thread. Never blocks. Messages to a handler that has ended
/// are dropped.
pub struct Mailbox<M>(Arc<dyn Fn(M) + Send + Sync>);

impl<M> Mailbox<M> {
    /// A mailbox that hands each message to `deliver`. For hosts of handlers.
    pub fn new(deliver: impl Fn(M) + Send + Sync + 'static) -> Self {
        Self(Arc::new(deliver))
    }

    /// Sends a message.
    pub fn send(&self, message: M) {
        (self.0)(message);
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}
