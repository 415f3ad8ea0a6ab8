//! The cgroup tracker: cgroups that are made, removed and renamed, and processes that move between them.

mod decode;
mod event;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, OpenError, Problem, Source, TrackerSpec};
use whalewatch_trackers_common::{CgroupOffsets, CgroupSettings};

pub use decode::CgroupDecoder;
pub use event::{CgroupEvent, CgroupWhat};

use crate::program::ring_settings;
use crate::ring::check_ring;
use crate::{Kernel, LoadError, Program, RingSource, objects};

/// The kernel programs of the cgroup tracker.
pub const PROGRAM: Program = Program {
    object: objects::CGROUP,
    tracepoints: &[
        ("cgroup_mkdir", "cgroup_mkdir"),
        ("cgroup_rmdir", "cgroup_rmdir"),
        ("cgroup_rename", "cgroup_rename"),
        ("cgroup_attach", "cgroup_attach_task"),
    ],
    iterator: None,
    members: &[CgroupOffsets::MEMBERS],
};

/// Options of the cgroup tracker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CgroupOptions {
    /// Room for events on their way from the kernel, in KiB: a power of two from 64 to 1048576.
    pub ring_kib: u32,
    /// How often events are taken from the kernel; sooner when the room is half full.
    pub interval: HumanDuration,
    /// Report the version 1 hierarchies too.
    pub all_hierarchies: bool,
}

impl Default for CgroupOptions {
    fn default() -> Self {
        Self {
            ring_kib: 512,
            interval: HumanDuration(Duration::from_millis(10)),
            all_hierarchies: false,
        }
    }
}

/// Watches every cgroup of the host.
#[derive(Clone, Copy, Debug)]
pub struct CgroupTracker;

impl TrackerSpec for CgroupTracker {
    const ABOUT: &'static str = "cgroups that come and go, and processes that move between them";
    type Event = CgroupEvent;
    type Options = CgroupOptions;

    fn check(options: &CgroupOptions) -> Vec<Problem> {
        check_ring(options.ring_kib, options.interval)
    }

    fn whole(options: &CgroupOptions) -> bool {
        !options.all_hierarchies // Cgroups of other hierarchies have ids and paths of their own.
    }

    fn open(options: &CgroupOptions) -> Result<Box<dyn Source<CgroupEvent>>, OpenError> {
        Ok(Box::new(open(options).map_err(OpenError::from_error)?))
    }
}

/// Loads and attaches the programs; events may come from now on.
///
/// # Errors
/// If this host cannot run them; the text says what to do.
pub fn open(options: &CgroupOptions) -> Result<RingSource<CgroupDecoder>, LoadError> {
    let kernel = Kernel::shared()?;
    let ring_bytes = options.ring_kib.saturating_mul(1024);
    let settings = CgroupSettings {
        ring: ring_settings(ring_bytes),
        all_hierarchies: u32::from(options.all_hierarchies),
        cgroup: kernel.offsets(CgroupOffsets::MEMBERS)?,
        ..CgroupSettings::UNSET
    };
    let attached = PROGRAM.load(&kernel, &settings, ring_bytes)?;
    Ok(RingSource::new(attached, CgroupDecoder, options.interval.0))
}
