//! The files tracker: files that are opened, deleted, renamed, linked, read and written.
//!
//! It reports system calls when they return. The path of an opened file is the kernel's: it is
//! collected from the open file up to the root of its mount namespace, so it is the true one,
//! whatever path the process used. Where there is no open file (a failed call, a deleted name), the
//! path is the one that the process gave, and `file.path_source` says so.
//!
//! Not reported: files opened through `io_uring`, and calls of 32-bit programs.

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
        /// Report opened files.
        opens: bool = true,
        /// Report files that are deleted, renamed or linked, and changes of permissions and owners.
        changes: bool = true,
        /// Sum the bytes that each process reads from and writes to each regular file, and report
        /// the sums every `interval`.
        io: bool = false,
    }
}

/// Watches what processes do with files.
#[derive(Clone, Copy, Debug)]
pub struct FilesTracker;

impl KernelTracker for FilesTracker {
    const ABOUT: &'static str = "files that are opened, deleted, renamed, linked, read and written";
    const COST: &'static str =
        "about 50 ns per system call, plus about 0.8 µs per event with its path";
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
            problems.push(Problem::new("", "all kinds of events are disabled").hint(hint));
        }
        problems
    }
}
