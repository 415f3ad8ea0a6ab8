//! The files tracker: files that are opened, deleted, renamed, linked, read and written.
//!
//! It sees system calls when they return. An opened file's path is the kernel's own, walked from
//! the file that the descriptor stands for up to the root of its mount namespace; so it is the true
//! one, whatever the process asked for. Where there is no file to ask (a call that failed, a name
//! that is gone), the path is the one that was asked for, and marked so.
//!
//! Not seen: what `io_uring` opens, and calls of 32-bit programs.

mod calls;
mod decode;
mod event;

use whalewatch_core::{Directory, OpenError, Problem, Source, TrackerSpec};
use whalewatch_trackers_common::files::FilesSettings;

pub use decode::FilesDecoder;
pub use event::{FileEvent, FileWhat, Octal};

use crate::options::{self, TrackerOptions as _, tracker_options};
use crate::{LoadError, Program, RingSource, Uses, object};
use calls::Watched;

/// The kernel program of the files tracker.
pub const PROGRAM: Program = Program {
    object: object!("files"),
    tracepoints: &[("files_exit", "sys_exit")],
    iterator: None,
    members: &[],
    uses: Uses { paths: true, syscalls: true },
};

tracker_options! {
    /// Options of the files tracker.
    FilesOptions { ring_kib: 8192, results: true,
        /// Report files that are opened.
        opens: bool = true,
        /// Report files that are deleted, renamed and linked, and permissions and owners that are
        /// changed.
        changes: bool = true,
        /// Sum what each process reads from and writes to each regular file, and report it each
        /// `interval`.
        io: bool = false,
    }
}

/// Watches what processes do with files.
#[derive(Clone, Copy, Debug)]
pub struct FilesTracker;

impl TrackerSpec for FilesTracker {
    const ABOUT: &'static str = "files that are opened, deleted, renamed, linked, read and written";
    type Event = FileEvent;
    type Options = FilesOptions;

    const COST: &'static str =
        "about 50 ns at the end of every system call, some 0.8 µs for an event with its path";

    fn attaches(_: &FilesOptions) -> Vec<&'static str> {
        PROGRAM.attaches()
    }

    fn check(options: &FilesOptions) -> Vec<Problem> {
        let mut problems = options::check(options);
        if !options.opens && !options.changes && !options.io {
            let hint = "set opens, changes or io to true";
            problems.push(Problem::new("", "nothing is left to be watched").hint(hint));
        }
        problems
    }

    fn needs_directory(options: &FilesOptions) -> bool {
        options.scope().by_cgroup()
    }

    fn has_budget(options: &FilesOptions) -> bool {
        options.budget().is_set()
    }

    fn open(
        options: &FilesOptions,
        directory: &Directory,
    ) -> Result<Box<dyn Source<FileEvent>>, OpenError> {
        Ok(Box::new(open(options, directory).map_err(OpenError::from_error)?))
    }
}

/// Loads and attaches the program; events may come from now on.
///
/// # Errors
/// If this host cannot run it; the text says what to do.
pub fn open(
    options: &FilesOptions,
    directory: &Directory,
) -> Result<RingSource<FilesDecoder>, LoadError> {
    let FilesOptions { opens, changes, io, .. } = *options;
    crate::open::open(
        &PROGRAM,
        options,
        directory,
        |_| {
            let watched = calls::calls(Watched { opens, changes, io });
            let (actions, calls) = crate::calls::table(watched, calls::NONE);
            Ok(FilesSettings { actions, calls, ..FilesSettings::UNSET })
        },
        |attached| if io { FilesDecoder::with_io(attached) } else { Ok(FilesDecoder::default()) },
    )
}
