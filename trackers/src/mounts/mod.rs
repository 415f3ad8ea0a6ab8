//! The mounts tracker: file systems that are mounted, moved and unmounted.
//!
//! It reports system calls when they return. Sources and targets are as the process gave them, made
//! absolute by the directory that they are relative to. A mount made with the newer calls
//! (`fsopen`, `fsmount`) is reported when `move_mount` attaches it, with its type from the kernel.

mod decode;
mod event;

use libc::c_long;
use whalewatch_trackers_common::kinds::{
    KIND_MOUNT, KIND_MOVE_MOUNT, KIND_PIVOT_ROOT, KIND_UMOUNT,
};
use whalewatch_trackers_common::mounts::{MountCall, MountOffsets, MountsSettings};
use whalewatch_trackers_common::{NO_ARGUMENT, WORKING_DIRECTORY};

pub use decode::MountsDecoder;
pub use event::{MountEvent, Operation};

use crate::options::tracker_options;
use crate::program::Attached;
use crate::{Kernel, KernelTracker, LoadError, Program, Uses, object};

/// The kernel program of the mounts tracker.
const PROGRAM: Program = Program {
    object: object!("mounts"),
    tracepoints: &[("mounts_exit", "sys_exit")],
    iterator: None,
    members: &[MountOffsets::MEMBERS],
    uses: Uses { paths: true, syscalls: true },
};

tracker_options! {
    /// Options of the mounts tracker.
    MountsOptions { ring_kib: 512, results: true, }
}

/// Watches mounts.
#[derive(Clone, Copy, Debug)]
pub struct MountsTracker;

impl KernelTracker for MountsTracker {
    const ABOUT: &'static str = "file systems that are mounted, moved and unmounted";
    const COST: &'static str = "about 50 ns per system call";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = MountsOptions;
    type Settings = MountsSettings;
    type Decoder = MountsDecoder;

    fn settings(_: &MountsOptions, kernel: &Kernel) -> Result<MountsSettings, LoadError> {
        let [super_block, fs_type, name]: [u32; 3] = kernel.offsets(MountOffsets::MEMBERS)?;
        let offsets = MountOffsets { super_block, fs_type, name, padding: 0 };
        let (actions, calls) = crate::calls::table(calls(), NONE);
        Ok(MountsSettings { offsets, actions, calls, ..MountsSettings::UNSET })
    }

    fn decoder(_: &MountsOptions, _: &mut Attached) -> Result<MountsDecoder, LoadError> {
        Ok(MountsDecoder)
    }
}

/// A call without arguments.
const NONE: MountCall = MountCall {
    kind: 0,
    source_base: WORKING_DIRECTORY,
    source: NO_ARGUMENT,
    target_base: WORKING_DIRECTORY,
    target: NO_ARGUMENT,
    fs_type: NO_ARGUMENT,
    flags: NO_ARGUMENT,
};

fn calls() -> [(c_long, MountCall); 4] {
    let mount = MountCall { kind: KIND_MOUNT, source: 0, target: 1, fs_type: 2, flags: 3, ..NONE };
    let unmount = MountCall { kind: KIND_UMOUNT, target: 0, flags: 1, ..NONE };
    let move_mount = MountCall {
        kind: KIND_MOVE_MOUNT,
        source_base: 0,
        source: 1,
        target_base: 2,
        target: 3,
        flags: 4,
        ..NONE
    };
    let pivot_root = MountCall { kind: KIND_PIVOT_ROOT, source: 0, target: 1, ..NONE };
    [
        (libc::SYS_mount, mount),
        (libc::SYS_umount2, unmount),
        (libc::SYS_move_mount, move_mount),
        (libc::SYS_pivot_root, pivot_root),
    ]
}
