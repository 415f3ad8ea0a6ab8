//! Events, and the changes of processes and cgroups that they stand for.

use crate::field::Field;
use crate::process::{Process, ProcessKey};
use crate::time::Timestamp;

/// Something that happened. A tracker yields events of one type, which may have several kinds.
///
/// Chains share events, so an event in a [`Batch`](crate::Batch) is immutable: a handler that
/// changes one creates a new batch.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "does not implement `Event`",
    note = "implement `whalewatch_core::Event` for it: \
            its name, kinds and fields, when it happened and who did it"
)]
pub trait Event: Clone + Send + Sync + 'static {
    /// Name of the type, unique in the program: `process`.
    const NAME: &'static str;
    /// All kinds of the type: `process.fork`, …
    const KINDS: &'static [&'static str];
    /// The type's own fields, in addition to those of every event. Names are dotted paths:
    /// `process.executable.path`.
    const FIELDS: &'static [Field<Self>];

    /// Returns the event's kind, one of [`Event::KINDS`].
    fn kind(&self) -> &'static str;
    /// Returns when it happened.
    fn time(&self) -> Timestamp;
    /// Returns the process that acted; `None` if no process did.
    fn process(&self) -> Option<&Process>;
    /// Returns a second process, which the action affected: the receiver of a signal, for example.
    fn target(&self) -> Option<&Process> {
        None
    }
    /// Returns the cgroup of an event without a process: a count for a whole cgroup, for example.
    fn cgroup(&self) -> Option<u64> {
        None
    }
    /// Returns the change of a process or cgroup that the event reports; by default none. The
    /// container manager follows these changes, and so does not need to know the event's type.
    fn change(&self) -> Option<Change<'_>> {
        None
    }
}

/// A change of a process or cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The event's process was already running when the tracker was opened.
    Existing,
    /// `parent` created the event's process.
    Forked {
        /// The process that called `fork` or `clone`.
        parent: ProcessKey,
    },
    /// The event's process replaced its program.
    Executed,
    /// The event's process exited, with all of its threads.
    Exited,
    /// A process moved to another cgroup.
    Moved {
        /// The process.
        process: ProcessKey,
        /// The cgroup that it moved to.
        to: u64,
    },
    /// A cgroup was created.
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
        /// The path that it had below the root of its hierarchy, for readers that have not seen the
        /// cgroup before. Empty if not known.
        path: &'a [u8],
    },
    /// A cgroup has a new path.
    CgroupRenamed {
        /// Its id.
        id: u64,
        /// Its new path.
        path: &'a [u8],
    },
}
