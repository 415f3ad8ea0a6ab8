//! Whalewatch's trackers: what happens on a Linux host, as events, from programs in the kernel.
//!
//! A tracker is one program file in the kernel (`trackers-ebpf/src/bin/`), with one file of records
//! that both sides compile (`trackers/common/`), one module here with its events, options and the
//! decoding of its records, and one line in [`Trackers`] where it is listed.
//! `docs/writing-a-tracker.md` tells how. What trackers share is here too:
//!
//! * [`btf`]: where the running kernel keeps what the programs read;
//! * [`Kernel`]: type information, read once and shared while trackers are opened;
//! * [`Program`]: one compiled object: what it needs, and how it is loaded and attached;
//! * [`RingSource`]: records from a ring buffer, decoded into events, with every loss counted;
//! * [`options`]: scope and budget, which the kernel keeps to;
//! * [`host`]: what this host allows, for clear errors.

mod budget;
mod calls;
mod clock;
mod errno;
mod error;
mod header;
mod kernel;
mod objects;
mod path;
mod program;
mod ring;
mod scope;
mod sums;
mod tracker;

pub mod btf;
pub mod cgroup;
pub mod files;
pub mod host;
pub mod mounts;
pub mod network;
pub mod oom;
pub mod options;
pub mod privilege;
pub mod process;
pub mod signals;
pub mod syscalls;

pub use error::LoadError;
pub use kernel::Kernel;
pub use path::FilePath;
pub use program::{Attached, Program, Uses};
pub use ring::{Arena, Decode, DecodeError, RingSource};
pub use sums::Epochs;
pub use tracker::{FromKernel, KernelTracker, open};

use objects::object;
use whalewatch_trackers_common as common;

/// Receives each of the built-in trackers in turn, as a registry does.
pub trait Trackers {
    /// Receives one tracker, with its name in configurations.
    fn take<T: whalewatch_core::TrackerSpec>(&mut self, name: &'static str);
}

/// Lists the built-in trackers: one line each, with the module and its type.
macro_rules! trackers {
    ($($module:ident: $tracker:ident,)+) => {
        /// The programs of each built-in tracker, by its name. [`Program::missing`] says what a
        /// kernel lacks for them.
        pub const PROGRAMS: &[(&str, &Program)] = &[
            $((stringify!($module), <$module::$tracker as KernelTracker>::PROGRAM),)+
        ];

        /// The layouts of each built-in tracker's records and settings, by its name: a test
        /// compares them with the compiled objects.
        pub const LAYOUTS: &[(&str, &[common::Layout])] =
            &[$((stringify!($module), common::$module::LAYOUTS),)+];

        /// Passes each built-in tracker to `trackers`.
        pub fn each(trackers: &mut impl Trackers) {
            $(trackers.take::<FromKernel<$module::$tracker>>(stringify!($module));)+
        }
    };
}

trackers! {
    process: ProcessTracker,
    cgroup: CgroupTracker,
    files: FilesTracker,
    mounts: MountsTracker,
    oom: OomTracker,
    signals: SignalsTracker,
    privilege: PrivilegeTracker,
    network: NetworkTracker,
    syscalls: SyscallsTracker,
}

pub use cgroup::{CgroupEvent, CgroupOptions, CgroupTracker};
pub use process::{ProcessEvent, ProcessOptions, ProcessTracker};
