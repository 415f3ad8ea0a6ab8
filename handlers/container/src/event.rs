//! What the manager itself has to tell: containers come, get their names, and go.

use whalewatch_core::{Event, Field, Process, Timestamp};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerEventKind {
    /// A container is known for the first time, or is back after it was gone.
    Found,
    /// The name has arrived of a container of which events went on without it.
    Resolved,
    /// The container's last cgroup was removed, or its runtime removed it.
    Gone,
}

/// Something became known of a container. The container stands in the event's attribution; no
/// process did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    /// What became known.
    pub kind: ContainerEventKind,
    /// When.
    pub time: Timestamp,
}

impl Event for ContainerEvent {
    const NAME: &'static str = "container";
    const KINDS: &'static [&'static str] =
        &["container.found", "container.resolved", "container.gone"];
    const FIELDS: &'static [Field<Self>] = &[];

    fn kind(&self) -> &'static str {
        match self.kind {
            ContainerEventKind::Found => Self::KINDS[0],
            ContainerEventKind::Resolved => Self::KINDS[1],
            ContainerEventKind::Gone => Self::KINDS[2],
        }
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        None
    }
}
