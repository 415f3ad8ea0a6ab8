//! Events.

use crate::field::Field;
use crate::process::{Process, ProcessKey};
use crate::time::Timestamp;

/// Something that happened. One tracker yields events of one type, which may have several kinds.
///
/// Events are shared between chains, so they are immutable once they stand in a
/// [`Batch`](crate::Batch): a handler that changes one makes a new batch.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event",
    label = "does not implement `Event`",
    note = "implement `whalewatch_core::Event` for it: its name, kinds and fields, when it happened and who did it"
)]
pub trait Event: Clone + Send + Sync + 'static {
    /// Name of the type, unique in a program: `process`.
    const NAME: &'static str;
    /// Every kind that it can have: `process.fork`, …
    const KINDS: &'static [&'static str];
    /// Its own fields, beyond those that every event has. Names are dotted paths:
    /// `process.executable.path`.
    const FIELDS: &'static [Field<Self>];

    /// Which of [`Event::KINDS`] this is.
    fn kind(&self) -> &'static str;
    /// When it happened.
    fn time(&self) -> Timestamp;
    /// Who did it; `None` for what no process did.
    fn process(&self) -> Option<&Process>;
    /// The process that it was done to, where there is one besides: who got a signal, say.
    fn target(&self) -> Option<&Process> {
        None
    }
    /// The cgroup that it is about, of an event that no process did: what was counted for a whole
    /// cgroup, say.
    fn cgroup(&self) -> Option<u64> {
        None
    }
    /// What it says of processes and cgroups themselves; by default nothing. Handlers that keep a
    /// picture of the host (the container manager) live on this and need not know the event's type.
    fn change(&self) -> Option<Change<'_>> {
        None
    }
}

/// What an event says of processes and cgroups themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The event's process was running before watching began.
    Existing,
    /// The event's process was started by `parent`.
    Forked {
        /// The process that forked.
        parent: ProcessKey,
    },
    /// The event's process replaced its program.
    Executed,
    /// The event's process ended, with all of its threads.
    Exited,
    /// A process went to another cgroup.
    Moved {
        /// The process.
        process: ProcessKey,
        /// The cgroup it went to.
        to: u64,
    },
    /// A cgroup was made.
    CgroupMade {
        /// Its id.
        id: u64,
        /// Its path below the root of its hierarchy.
        path: &'a [u8],
    },
    /// A cgroup was removed.
    CgroupRemoved {
        /// Its id.
        id: u64,
        /// The path that it had below the root of its hierarchy: nobody may have told of it before.
        /// Empty if that is not known.
        path: &'a [u8],
    },
    /// A cgroup got another path.
    CgroupRenamed {
        /// Its id.
        id: u64,
        /// Its new path.
        path: &'a [u8],
    },
}
