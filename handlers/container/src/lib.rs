//! The container manager: for every event, the container that caused it.
//!
//! Three kinds of facts come together in [`ContainerManager`]:
//!
//! * **trackers** report processes and cgroups as they come and go (`observe`),
//! * **runtimes** report names, images and states of containers, through a client each
//!   (`runtimes`),
//! * the **kernel's file systems** show what was there before (`cgroups`, `proc`).
//!
//! From them the manager keeps three tables: cgroups, containers and processes (the pid map). Each
//! event is attributed by the first evidence that answers: its cgroup, its pid, its parent, its
//! namespaces, its runtime. `manager/attribute.rs` is that law, on one page. An event without
//! evidence is *unknown*, never *host*.
//!
//! An event whose container has no name yet waits for it, at most `hold`. If the name comes later,
//! a `container.resolved` event follows down the same chain.
//!
//! The manager never waits for I/O. Clients are actors on a separate thread, so a runtime that
//! is slow, hung or gone delays no event.

mod cgroups;
mod clock;
mod containers;
mod event;
mod hold;
mod ids;
mod kernel_view;
mod manager;
mod options;
mod pids;
mod proc;
mod protocol;
mod runtimes;

#[cfg(test)]
mod tests;

pub use event::{ContainerEvent, ContainerEventKind};
pub use manager::{ContainerManager, Message};
pub use options::{ContainerOptions, Endpoints, RuntimeChoice, RuntimeClient};
