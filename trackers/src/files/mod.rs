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

use whalewatch_core::Problem;
use whalewatch_trackers_common::files::FilesSettings;

pub use decode::FilesDecoder;
pub use event::{FileEvent, FileWhat, Octal};

use crate::options::tracker_options;
use crate::program::Attached;
use crate::{Kernel, KernelTracker, LoadError, Program, Uses, object};
use calls::Watched;

/// The kernel program of the files tracker.
const PROGRAM: Program = Program {
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

impl KernelTracker for FilesTracker {
    const ABOUT: &'static str = "files that are opened, deleted, renamed, linked, read and written";
    const COST: &'static str =
        "about 50 ns at the end of every system call, some 0.8 µs for an event with its path";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = FilesOptions;
    type Settings = FilesSettings;
    type Decoder = FilesDecoder;

    fn settings(options: &FilesOptions, _: &Kernel) -> Result<FilesSettings, LoadError> {
        let FilesOptions { opens, changes, io, .. } = *options;
        let watched = calls::calls(Watched { opens, changes, io });
        let (actions, calls) = crate::calls::table(watched, calls::NONE);
        Ok(FilesSettings { actions, calls, ..FilesSettings::UNSET })
    }

    fn decoder(options: &FilesOptions, attached: &mut Attached) -> Result<FilesDecoder, LoadError> {
        if options.io { FilesDecoder::with_io(attached) } else { Ok(FilesDecoder::default()) }
    }

    fn check(options: &FilesOptions) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !options.opens && !options.changes && !options.io {
            let hint = "set opens, changes or io to true";
            problems.push(Problem::new("", "nothing is left to be watched").hint(hint));
        }
        problems
    }
}
