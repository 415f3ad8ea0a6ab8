//! The end-to-end tests: the program on this kernel, with real container runtimes.
//!
//! One binary holds them all, so that they link once. Each module has one subject.

mod aggregate;
mod command_line;
mod containerd;
mod containers;
mod cri;
mod daemon;
mod exec;
mod file;
mod files;
mod mounts;
mod nats;
mod network;
mod oom;
mod otlp;
mod podman;
mod privilege;
mod prometheus;
mod recording;
mod reload;
mod rules;
mod scope;
mod signals;
mod sqlite;
mod stopping;
mod syscalls;
mod third_party;
mod throttle;
mod webhook;
