//! The container manager: which container did it, for every event.
//!
//! Trackers tell of processes and cgroups, the container runtime tells of names;
//! [`ContainerManager`] puts both together and gives every event its attribution: by cgroup first,
//! then by pid, parent, namespaces, and what the runtime says. An event whose container's name is
//! not there yet waits for it, at most `hold`; one that had to go on without is completed by a
//! `container.resolved` event when the name comes. What cannot be told is *unknown*, never *host*.
//!
//! The manager never waits for anything: its helper, an actor with a thread of its own, talks to
//! Docker.

mod cgroups;
mod clock;
mod containers;
mod event;
mod hold;
mod kernel;
mod manager;
mod options;
mod pids;
mod proc;
mod request;
mod runtimes;

#[cfg(test)]
mod tests;

pub use event::{ContainerEvent, ContainerEventKind};
pub use manager::{ContainerManager, Message};
pub use options::{ContainerOptions, Endpoints, RuntimeChoice, RuntimeKind, RuntimeWord};
