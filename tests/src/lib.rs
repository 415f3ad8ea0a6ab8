//! The base of the end-to-end tests: Whalewatch as a child process, container runtimes that a test
//! starts for itself, the events that were printed, and an oracle that knows which container did
//! what without asking Whalewatch.
//!
//! The tests are in `e2e/` and run with `cargo xtask test`, which sets the machine up and passes
//! the set-up in [`environment`] variables. Nothing here sleeps for a fixed time in the hope that
//! something has happened: every wait is for a condition, with a deadline ([`wait`]).

pub mod beats;
pub mod cargo;
pub mod cgroup;
pub mod config;
pub mod containerd;
#[cfg(feature = "pods")]
pub mod cri;
mod daemon;
pub mod docker;
pub mod dockerd;
pub mod environment;
pub mod marks;
pub mod memory;
pub mod oracle;
pub mod output;
pub mod podman;
pub mod sweep;
pub mod totals;
pub mod tracer;
pub mod wait;
pub mod workload;

/// Code in the documents, compiled and run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/writing-a-handler.md")]
pub struct WritingAHandler;
