//! The process tracker: processes that start, execute a program, and exit.

mod decode;
mod event;

use whalewatch_trackers_common::ExecOffsets;
use whalewatch_trackers_common::process::ProcessSettings;

pub use decode::ProcessDecoder;
pub use event::{Executed, ProcessEvent, What};

use crate::options::tracker_options;
use crate::program::Attached;
use crate::{Kernel, KernelTracker, LoadError, Program, Uses, object};

/// The kernel programs of the process tracker.
const PROGRAM: Program = Program {
    object: object!("process"),
    tracepoints: &[
        ("process_fork", "sched_process_fork"),
        ("process_exec", "sched_process_exec"),
        ("process_exit", "sched_process_exit"),
    ],
    iterator: Some("process_snapshot"),
    members: &[ExecOffsets::MEMBERS],
    uses: Uses::NOTHING,
};

tracker_options! {
    /// Options of the process tracker.
    ProcessOptions { ring_kib: 4096, results: false, }
}

/// Watches every process of the host.
#[derive(Clone, Copy, Debug)]
pub struct ProcessTracker;

impl KernelTracker for ProcessTracker {
    const ABOUT: &'static str = "processes that start, execute a program, and exit";
    const COST: &'static str = "about 0.4 µs per fork, 0.9 µs per exec, 0.6 µs per exit";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = ProcessOptions;
    type Settings = ProcessSettings;
    type Decoder = ProcessDecoder;

    fn settings(_: &ProcessOptions, kernel: &Kernel) -> Result<ProcessSettings, LoadError> {
        let exit = kernel.btf().tracepoint("sched_process_exit")?;
        Ok(ProcessSettings {
            exit_has_group: u32::from(exit.is_some_and(|exit| exit.arguments > 1)),
            exec: kernel.offsets(ExecOffsets::MEMBERS)?,
            ..ProcessSettings::UNSET
        })
    }

    fn decoder(_: &ProcessOptions, _: &mut Attached) -> Result<ProcessDecoder, LoadError> {
        Ok(ProcessDecoder)
    }

    fn whole(options: &ProcessOptions) -> bool {
        options.scope.is_everything() && !options.budget.is_set()
    }
}
