//! The manager's own events: containers come, get their names, and go.

use whalewatch_core::{Event, Field, Process, Timestamp};

/// What became known about a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerEventKind {
    /// The container is known for the first time, or is back after it was gone.
    Found,
    /// The container's name arrived after events had passed without it.
    Resolved,
    /// The container's last cgroup was removed, or its runtime removed the container.
    Gone,
}

/// Something became known about a container. The event's attribution names the container; no
/// process caused the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    /// What became known.
    pub kind: ContainerEventKind,
    /// When it became known.
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
