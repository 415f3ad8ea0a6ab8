//! The process tracker: processes that start, run another program, and end.

mod decode;
mod event;

use whalewatch_core::{Directory, OpenError, Problem, Source, TrackerSpec};
use whalewatch_trackers_common::{ExecOffsets, ProcessSettings};

pub use decode::ProcessDecoder;
pub use event::{Executed, ProcessEvent, What};

use crate::options::{self, TrackerOptions as _, tracker_options};
use crate::{LoadError, Program, RingSource, Uses, object};

/// The kernel programs of the process tracker.
pub const PROGRAM: Program = Program {
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

impl TrackerSpec for ProcessTracker {
    const ABOUT: &'static str = "processes that start, run another program, and end";
    type Event = ProcessEvent;
    type Options = ProcessOptions;

    const COST: &'static str = "about 0.4 µs a fork, 0.9 µs an exec, 0.6 µs an exit";

    fn attaches(_: &ProcessOptions) -> Vec<&'static str> {
        PROGRAM.attaches()
    }

    fn check(options: &ProcessOptions) -> Vec<Problem> {
        options::check(options)
    }

    fn whole(options: &ProcessOptions) -> bool {
        options.scope.is_everything() && !options.budget.is_set()
    }

    fn needs_directory(options: &ProcessOptions) -> bool {
        options.scope().by_cgroup()
    }

    fn has_budget(options: &ProcessOptions) -> bool {
        options.budget().is_set()
    }

    fn open(
        options: &ProcessOptions,
        directory: &Directory,
    ) -> Result<Box<dyn Source<ProcessEvent>>, OpenError> {
        Ok(Box::new(open(options, directory).map_err(OpenError::from_error)?))
    }
}

/// Loads and attaches the programs; events may come from now on.
///
/// # Errors
/// If this host cannot run them; the text says what to do.
pub fn open(
    options: &ProcessOptions,
    directory: &Directory,
) -> Result<RingSource<ProcessDecoder>, LoadError> {
    crate::open::open(
        &PROGRAM,
        options,
        directory,
        |kernel| {
            let exit = kernel.btf().tracepoint("sched_process_exit")?;
            Ok(ProcessSettings {
                exit_tells_group: u32::from(exit.is_some_and(|exit| exit.arguments > 1)),
                exec: kernel.offsets(ExecOffsets::MEMBERS)?,
                ..ProcessSettings::UNSET
            })
        },
        |_| Ok(ProcessDecoder),
    )
}
