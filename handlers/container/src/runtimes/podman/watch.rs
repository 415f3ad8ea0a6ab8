//! Changes in folders, by inotify.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::details;
use super::records;

/// A change in the folder with this watch descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stir {
    /// This file or folder appeared, or was replaced.
    Name(i32, String),
    /// The folder itself is gone.
    Gone(i32),
    /// Changes were lost.
    Overflow,
}

/// Watches folders.
#[derive(Clone, Debug)]
pub(super) struct Watcher(Arc<OwnedFd>);

impl Watcher {
    pub(super) fn new() -> io::Result<Self> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        Ok(Self(Arc::new(inotify::init(flags)?)))
    }

    /// Watches a folder for written files. Returns its watch descriptor, the same one each time.
    pub(super) fn files_in(&self, folder: &Path) -> io::Result<i32> {
        self.add(folder, WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE)
    }

    /// Watches a folder for new folders.
    pub(super) fn folders_in(&self, folder: &Path) -> io::Result<i32> {
        self.add(folder, WatchFlags::MOVED_TO | WatchFlags::CREATE)
    }

    fn add(&self, folder: &Path, what: WatchFlags) -> io::Result<i32> {
        Ok(inotify::add_watch(&self.0, folder, what | WatchFlags::ONLYDIR)?)
    }

    /// Stops to watch a folder. It may be gone already.
    pub(super) fn drop(&self, number: i32) {
        let _gone = inotify::remove_watch(&self.0, number);
    }

    /// Reports changes for as long as it is polled; returns why it cannot go on.
    pub(super) async fn follow(self, report: impl Fn(FxHashSet<Stir>)) -> io::Error {
        let watched = match self.0.try_clone().and_then(readable) {
            Ok(watched) => watched,
            Err(error) => return error,
        };
        loop {
            let mut ready = match watched.readable().await {
                Ok(ready) => ready,
                Err(error) => return error,
            };
            let stirs = read(watched.get_ref());
            ready.clear_ready();
            if !stirs.is_empty() {
                report(stirs);
            }
        }
    }
}

/// Wraps a descriptor so that a task can wait until it is readable.
pub(super) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(unsafe_code, reason = "tokio offers no other way to wait for a descriptor")]
    // SAFETY: the `AsyncFd` alone owns the descriptor, and deregisters it before it closes it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(Into::into)
}

/// Reads all pending changes. The kernel's queue bounds their number.
fn read(watched: &OwnedFd) -> FxHashSet<Stir> {
    const MAX_STIRS: usize = 4096;
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(watched, &mut space);
    let mut stirs = FxHashSet::default();
    loop {
        match reader.next() {
            Ok(event) => {
                stirs.extend(stir(event.wd(), event.events(), event.file_name()));
                if stirs.len() > MAX_STIRS {
                    stirs = [Stir::Overflow].into_iter().collect();
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return stirs, // nothing more for now
        }
    }
}

fn stir(number: i32, flags: ReadFlags, name: Option<&CStr>) -> Option<Stir> {
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        return Some(Stir::Overflow);
    }
    if flags.contains(ReadFlags::IGNORED) {
        return Some(Stir::Gone(number));
    }
    let name = name?.to_str().ok()?;
    let files = records::FILES.into_iter().chain(details::FILES);
    // Locks and logs change all the time.
    let ours = is_records_folder(name) || files.into_iter().any(|file| file == name);
    ours.then(|| Stir::Name(number, name.to_owned()))
}

/// Whether a folder of this name has records: `DRIVER-containers`, such as `overlay-containers`.
pub(super) fn is_records_folder(name: &str) -> bool {
    name.len() <= 64 && name.strip_suffix("-containers").is_some_and(|driver| !driver.is_empty())
}
