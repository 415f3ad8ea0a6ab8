//! Whalewatch's trackers: programs in the kernel that report what happens on a Linux host, as
//! events.
//!
//! A tracker consists of a program file for the kernel (`trackers-ebpf/src/bin/`), a file of
//! records that both sides compile (`trackers/common/`), a module here with its options, events and
//! decoder, and a line in `trackers!` below. `docs/writing-a-tracker.md` explains how to add one.
//! Trackers share:
//!
//! * [`btf`]: the layout of the running kernel's structs, which the programs need;
//! * [`Kernel`]: the kernel's type information, read once and shared while trackers are opened;
//! * [`KernelTracker`]: what a tracker states about itself;
//! * [`Program`]: a compiled object, its needs, and how it is loaded and attached;
//! * [`RingSource`]: reads records from a ring buffer, decodes them, and counts every loss;
//! * [`options`]: scope and budget, which the programs enforce;
//! * [`host`]: what this host permits, for clear errors.

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
#[cfg(test)]
mod testing;
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
