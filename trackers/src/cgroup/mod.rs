//! The cgroup tracker: cgroups that are made, removed and renamed, and processes that move between
//! them.

mod decode;
mod event;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{Directory, HumanDuration, OpenError, Problem, Source, TrackerSpec};
use whalewatch_trackers_common::{BudgetSettings, CgroupOffsets, CgroupSettings, ScopeSettings};

pub use decode::CgroupDecoder;
pub use event::{CgroupEvent, CgroupWhat};

use crate::options::check_ring;
use crate::program::Setup;
use crate::{Kernel, LoadError, Program, RingSource, Uses, object};

/// The kernel programs of the cgroup tracker.
pub const PROGRAM: Program = Program {
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
    /// Room for events on their way from the kernel, in KiB: a power of two from 64 to 1048576.
    pub ring_kib: u32,
    /// How often events are taken from the kernel, from 1ms to 1s; sooner when the room is half
    /// full.
    pub drain_interval: HumanDuration,
    /// Report the version 1 hierarchies too.
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

/// Watches every cgroup of the host.
#[derive(Clone, Copy, Debug)]
pub struct CgroupTracker;

impl TrackerSpec for CgroupTracker {
    const ABOUT: &'static str = "cgroups that come and go, and processes that move between them";
    type Event = CgroupEvent;
    type Options = CgroupOptions;

    const COST: &'static str = "next to nothing: cgroups change seldom";

    fn attaches(_: &CgroupOptions) -> Vec<&'static str> {
        PROGRAM.attaches()
    }

    fn check(options: &CgroupOptions) -> Vec<Problem> {
        check_ring(options.ring_kib, options.drain_interval)
    }

    fn whole(options: &CgroupOptions) -> bool {
        !options.all_hierarchies // Cgroups of other hierarchies have ids and paths of their own.
    }

    fn open(
        options: &CgroupOptions,
        _: &Directory,
    ) -> Result<Box<dyn Source<CgroupEvent>>, OpenError> {
        Ok(Box::new(open(options).map_err(OpenError::from_error)?))
    }
}

/// Loads and attaches the programs; events may come from now on.
///
/// # Errors
/// If this host cannot run them; the text says what to do.
pub fn open(options: &CgroupOptions) -> Result<RingSource<CgroupDecoder>, LoadError> {
    let kernel = Kernel::shared()?;
    let settings = CgroupSettings {
        all_hierarchies: u32::from(options.all_hierarchies),
        cgroup: kernel.offsets(CgroupOffsets::MEMBERS)?,
        ..CgroupSettings::UNSET
    };
    let (scope, budget) = (ScopeSettings::default(), BudgetSettings::default());
    let setup = Setup { ring_kib: options.ring_kib, scope, budget };
    let attached = PROGRAM.load(&kernel, &settings, &setup)?;
    let drain_interval = options.drain_interval.0;
    Ok(RingSource::new(attached, CgroupDecoder, drain_interval, drain_interval))
}
