//! The cgroup tracker: cgroups that are created, removed and renamed, and processes that move
//! between them.

mod decode;
mod event;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::HumanDuration;
use whalewatch_trackers_common::CgroupOffsets;
use whalewatch_trackers_common::cgroup::CgroupSettings;

pub use decode::CgroupDecoder;
pub use event::{CgroupEvent, CgroupWhat};

use crate::options::{SharedOptions, TrackerOptions};
use crate::program::Attached;
use crate::{Kernel, KernelTracker, LoadError, Program, Uses, object};

/// The kernel programs of the cgroup tracker.
const PROGRAM: Program = Program {
    object: object!("cgroup"),
    tracepoints: &[
        ("cgroup_mkdir", "cgroup_mkdir"),
        ("cgroup_rmdir", "cgroup_rmdir"),
        ("cgroup_rename", "cgroup_rename"),
        ("cgroup_attach", "cgroup_attach_task"),
    ],
    iterator: None,
    members: &[CgroupOffsets::MEMBERS],
    uses: Uses::NOTHING,
};

/// Options of the cgroup tracker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CgroupOptions {
    /// Size of the ring buffer between kernel and user space, in KiB: a power of two from 64 to
    /// 1048576.
    pub ring_kib: u32,
    /// How often to read the ring buffer, from 1ms to 1s. It is read earlier when it is half full.
    pub drain_interval: HumanDuration,
    /// Also report cgroups of the version 1 hierarchies.
    pub all_hierarchies: bool,
}

impl Default for CgroupOptions {
    fn default() -> Self {
        Self {
            ring_kib: 512,
            drain_interval: HumanDuration(Duration::from_millis(10)),
            all_hierarchies: false,
        }
    }
}

impl TrackerOptions for CgroupOptions {
    fn shared(&self) -> SharedOptions<'_> {
        let &Self { ring_kib, drain_interval, .. } = self;
        SharedOptions { ring_kib, drain_interval, limits: None }
    }
}

/// Watches every cgroup of the host.
#[derive(Clone, Copy, Debug)]
pub struct CgroupTracker;

impl KernelTracker for CgroupTracker {
    const ABOUT: &'static str =
        "cgroups created, removed and renamed, and processes moving between them";
    const COST: &'static str = "next to nothing: cgroups change rarely";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = CgroupOptions;
    type Settings = CgroupSettings;
    type Decoder = CgroupDecoder;

    fn settings(options: &CgroupOptions, kernel: &Kernel) -> Result<CgroupSettings, LoadError> {
        Ok(CgroupSettings {
            all_hierarchies: u32::from(options.all_hierarchies),
            cgroup: kernel.offsets(CgroupOffsets::MEMBERS)?,
            ..CgroupSettings::UNSET
        })
    }

    fn decoder(_: &CgroupOptions, _: &mut Attached) -> Result<CgroupDecoder, LoadError> {
        Ok(CgroupDecoder)
    }

    fn whole(options: &CgroupOptions) -> bool {
        // Ids and paths of other hierarchies would be confused with the default hierarchy's.
        !options.all_hierarchies
    }
}
