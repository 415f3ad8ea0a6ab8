//! Whalewatch's trackers: what happens on a Linux host, as events, from programs in the kernel.
//!
//! A tracker is one program file in the kernel (`trackers-ebpf/`), one module here with its events, options and the
//! decoding of its records, and one line where it is registered. What trackers share is here too:
//!
//! * [`btf`]: where the running kernel keeps what the programs read;
//! * [`Kernel`]: type information, read once and shared while trackers are opened;
//! * [`Program`]: one compiled object: what it needs, and how it is loaded and attached;
//! * [`RingSource`]: records from a ring buffer, decoded into events, with every loss counted;
//! * [`host`]: what this host allows, for clear errors.

mod clock;
mod error;
mod kernel;
mod objects;
mod program;
mod ring;

pub mod btf;
pub mod cgroup;
pub mod host;
pub mod process;

pub use cgroup::{CgroupEvent, CgroupOptions, CgroupTracker};
pub use error::LoadError;
pub use kernel::Kernel;
pub use process::{ProcessEvent, ProcessOptions, ProcessTracker};
pub use program::{Attached, Program};
pub use ring::{Arena, Decode, DecodeError, RingSource};
