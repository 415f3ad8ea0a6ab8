//! The process tracker: processes that start, run another program, and end.

mod decode;
mod event;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{HumanDuration, OpenError, Problem, Source, TrackerSpec};
use whalewatch_trackers_common::{ExecOffsets, ProcessSettings, TaskOffsets};

pub use decode::ProcessDecoder;
pub use event::{Executed, ProcessEvent, What};

use crate::program::ring_settings;
use crate::ring::check_ring;
use crate::{Kernel, LoadError, Program, RingSource, host, objects};

/// The kernel programs of the process tracker.
pub const PROGRAM: Program = Program {
    object: objects::PROCESS,
    tracepoints: &[
        ("process_fork", "sched_process_fork"),
        ("process_exec", "sched_process_exec"),
        ("process_exit", "sched_process_exit"),
    ],
    iterator: Some("process_snapshot"),
    members: &[TaskOffsets::MEMBERS, ExecOffsets::MEMBERS],
};

/// Options of the process tracker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessOptions {
    /// Room for events on their way from the kernel, in KiB: a power of two from 64 to 1048576.
    pub ring_kib: u32,
    /// How often events are taken from the kernel; sooner when the room is half full.
    pub interval: HumanDuration,
    /// Report Whalewatch's own process and its children too.
    pub include_own: bool,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self {
            ring_kib: 4096,
            interval: HumanDuration(Duration::from_millis(10)),
            include_own: false,
        }
    }
}

/// Watches every process of the host.
#[derive(Clone, Copy, Debug)]
pub struct ProcessTracker;

impl TrackerSpec for ProcessTracker {
    const ABOUT: &'static str = "processes that start, run another program, and end";
    type Event = ProcessEvent;
    type Options = ProcessOptions;

    fn check(options: &ProcessOptions) -> Vec<Problem> {
        check_ring(options.ring_kib, options.interval)
    }

    fn whole(_: &ProcessOptions) -> bool {
        true // No option leaves a process out but Whalewatch itself.
    }

    fn open(options: &ProcessOptions) -> Result<Box<dyn Source<ProcessEvent>>, OpenError> {
        Ok(Box::new(open(options).map_err(OpenError::from_error)?))
    }
}

/// Loads and attaches the programs; events may come from now on.
///
/// # Errors
/// If this host cannot run them; the text says what to do.
pub fn open(options: &ProcessOptions) -> Result<RingSource<ProcessDecoder>, LoadError> {
    let kernel = Kernel::shared()?;
    let ring_bytes = options.ring_kib.saturating_mul(1024);
    // In a pid namespace of its own Whalewatch does not know the pid that the programs see.
    let hide_own = !options.include_own && host::in_initial_pid_namespace();
    let exit = kernel.btf().tracepoint("sched_process_exit")?;
    let settings = ProcessSettings {
        ring: ring_settings(ring_bytes),
        skip_pid: if hide_own { std::process::id() } else { 0 },
        exit_tells_group: u32::from(exit.is_some_and(|exit| exit.arguments > 1)),
        task: kernel.offsets(TaskOffsets::MEMBERS)?,
        exec: kernel.offsets(ExecOffsets::MEMBERS)?,
        ..ProcessSettings::UNSET
    };
    let attached = PROGRAM.load(&kernel, &settings, ring_bytes)?;
    Ok(RingSource::new(attached, ProcessDecoder, options.interval.0))
}
