//! What the end-to-end tests stand on: Whalewatch as a child process, a dockerd or a containerd of
//! their own, the lines that came out, and an oracle that knows which container did what without
//! asking Whalewatch.
//!
//! The tests themselves are in `e2e/` and run with `cargo xtask test`, which prepares the machine
//! and tells them by [`environment`] variables what it prepared. Nothing here sleeps for a fixed
//! time in the hope that something has happened: every wait is for a condition, with a deadline
//! ([`wait`]).

pub mod beats;
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

/// The code in the documents is compiled and run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/writing-a-handler.md")]
pub struct WritingAHandler;
