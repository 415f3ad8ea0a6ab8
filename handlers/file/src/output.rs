//! The open file: locks, writes, syncs and rotates it.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, OFlags, RenameFlags, fcntl_getfl, fcntl_setfl, renameat_with};

use crate::keeper::Keeper;
use crate::lines::{Lines, PAGE, Piece, whole};
use crate::options::{FileOptions, Rotate, Sync};
use crate::repair::{Repair, repair};
use crate::rotated;

/// The longest wait for the lock at the start. The previous owner may be about to end.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// The pause before a failed rotation is retried.
const ROTATE_RETRY: Duration = Duration::from_secs(1);

/// Writes lines to the file, and rotates it.
#[derive(Debug)]
pub(crate) struct Output {
    handler: Arc<str>,
    options: FileOptions,
    open: Option<Open>,
    /// The number of files opened so far. It identifies the file that a timer was set for.
    generation: u64,
    /// Number of the next rotated file.
    number: u64,
    rotation_failed: Option<Instant>,
    /// `None` if files are not rotated.
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct Open {
    /// Open in append mode, so that no hole is left if another program truncates the file
    /// (logrotate's `copytruncate`).
    file: File,
    /// Device and inode.
    id: (u64, u64),
    /// The size of the file.
    end: u64,
    /// The time of the first line.
    began: SystemTime,
    unsynced: bool,
}

impl Output {
    pub(crate) fn new(handler: &Arc<str>, options: &FileOptions) -> io::Result<Self> {
        let mut output = Self {
            handler: Arc::clone(handler),
            options: options.clone(),
            open: None,
            generation: 0,
            number: 1,
            rotation_failed: None,
            keeper: None,
        };
        output.open(LOCK_WAIT)?;
        if options.rotate != Rotate::default() {
            let last = rotated::list(&options.path)?.last().map_or(0, |rotated| rotated.number);
            output.number = last.saturating_add(1);
            output.keeper = Some(Keeper::start(Arc::clone(handler), options)?);
        }
        Ok(output)
    }

    /// Writes all waiting lines. Adds to `written` the number of lines that are in the file as a
    /// whole, also if it fails after some of them.
    pub(crate) fn write(&mut self, lines: &mut Lines, written: &mut u64) -> io::Result<()> {
        self.close_if_renamed()?;
        while !lines.is_empty() {
            let Some(open) = &mut self.open else {
                self.open(Duration::ZERO)?;
                continue;
            };
            if self.options.pad {
                open.fill_page_before(lines.next_len())?;
            }
            let limit = self.options.rotate.size.map_or(u64::MAX, |size| size.0);
            let room = limit.saturating_sub(open.end);
            let piece = if self.options.pad {
                lines.padded_piece(open.end, room)
            } else {
                lines.piece(room)
            };
            if piece.bytes.len() as u64 > room && open.end > 0 && self.may_rotate() {
                self.rotate();
                continue;
            }
            let Some(open) = &mut self.open else { continue };
            let count = open.append(&piece)?;
            *written += count as u64;
            lines.take(count);
        }
        Ok(())
    }

    /// Returns whether the file has lines that were not synced.
    pub(crate) fn unsynced(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.unsynced)
    }

    /// Syncs written lines to the disk.
    pub(crate) fn sync(&mut self) {
        if let Some(open) = self.open.as_mut().filter(|open| open.unsynced) {
            // Also if it fails: the kernel reports an error only once, and the next sync would
            // succeed although lines are lost.
            open.unsynced = false;
            if let Err(error) = open.file.sync_data() {
                tracing::warn!(
                    handler = %self.handler, path = %self.options.path.display(), %error,
                    "cannot sync the file: lines may be lost in a power cut",
                );
            }
        }
    }

    /// Returns the generation of the file and the time until it reaches its maximum age; `None` if
    /// the file is empty or has no maximum age.
    pub(crate) fn age(&self) -> Option<(u64, Duration)> {
        let (age, open) = (self.options.rotate.age?, self.open.as_ref()?);
        let old = open.began.elapsed().unwrap_or_default();
        (open.end > 0).then(|| (self.generation, age.0.saturating_sub(old)))
    }

    /// Rotates the file if it is still the one of `generation` and not empty. Returns whether that
    /// failed and must be retried.
    pub(crate) fn rotate_by_age(&mut self, generation: u64) -> bool {
        if generation == self.generation && self.open.as_ref().is_some_and(|open| open.end > 0) {
            self.rotate();
            return self.open.is_some();
        }
        false
    }

    /// Waits until rotated files are compressed and the oldest deleted, at most for `limit`.
    /// Nothing is written after that.
    pub(crate) fn finish(&mut self, limit: Duration) {
        if let Some(mut keeper) = self.keeper.take()
            && !keeper.finish(limit)
        {
            tracing::warn!(
                handler = %self.handler, path = %self.options.path.display(),
                "not all rotated files could be compressed within {limit:?}: the next start \
                 compresses the rest",
            );
        }
    }

    /// Returns whether the file may be rotated now. It may not for a while after that failed.
    fn may_rotate(&self) -> bool {
        self.rotation_failed.is_none_or(|at| at.elapsed() >= ROTATE_RETRY)
    }

    /// Renames the file and closes it. If renaming fails, the file stays open.
    fn rotate(&mut self) {
        if self.options.sync != Sync::Never {
            self.sync();
        }
        match rename_free(&self.options.path, &mut self.number) {
            Ok(()) => {
                self.rotation_failed = None;
                self.open = None;
                if let Some(keeper) = &self.keeper {
                    keeper.wake();
                }
            }
            Err(error) => {
                if self.rotation_failed.replace(Instant::now()).is_none() {
                    tracing::warn!(
                        handler = %self.handler, path = %self.options.path.display(), %error,
                        "cannot rotate the file: it keeps growing, retrying every {ROTATE_RETRY:?}",
                    );
                }
            }
        }
    }

    /// Closes the file if another program has renamed or removed it (logrotate). Otherwise updates
    /// its size.
    fn close_if_renamed(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        match self.options.path.metadata() {
            Ok(there) if id(&there) == open.id => {
                if there.len() < open.end {
                    open.began = SystemTime::now();
                }
                open.end = there.len();
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        tracing::info!(
            handler = %self.handler, path = %self.options.path.display(),
            "the file was renamed or removed by another program: starting a new one",
        );
        if self.options.sync != Sync::Never {
            self.sync();
        }
        self.open = None;
        Ok(())
    }

    fn open(&mut self, lock_wait: Duration) -> io::Result<()> {
        let path = &self.options.path;
        DirBuilder::new().recursive(true).mode(0o750).create(rotated::folder(path))?;
        let deadline = Instant::now() + lock_wait;
        let (file, metadata) = loop {
            let mut how = OpenOptions::new();
            let file = how.read(true).append(true).create(true).mode(0o640).open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                let message = "not a regular file: name another path";
                return Err(io::Error::new(ErrorKind::InvalidInput, message));
            }
            match file.try_lock() {
                // The previous owner may have rotated the file since it was opened here.
                Ok(()) if path.metadata().is_ok_and(|there| id(&there) == id(&metadata)) => {
                    break (file, metadata);
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {}
                Err(TryLockError::WouldBlock) => {
                    let message = "another handler or another Whalewatch writes to it: give each \
                                   its own path, or let chains name the same handler";
                    return Err(io::Error::new(ErrorKind::ResourceBusy, message));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            thread::sleep(Duration::from_millis(20));
        };
        self.repair(&file, metadata.len())?;
        let end = file.metadata()?.len();
        // If the file system does not know, the time of the last line is the closest.
        let began = metadata.created().or_else(|_| metadata.modified());
        let began = began.unwrap_or_else(|_| SystemTime::now());
        let id = id(&metadata);
        self.open = Some(Open { file, id, end, began, unsynced: false });
        self.generation += 1;
        Ok(())
    }

    fn repair(&self, file: &File, size: u64) -> io::Result<()> {
        let path = self.options.path.display();
        match repair(file, size)? {
            Repair::Whole => {}
            Repair::Ended => {
                tracing::warn!(
                    handler = %self.handler, %path,
                    "the last line of the file had no newline: added one",
                );
            }
            Repair::Cut(bytes) => {
                tracing::warn!(
                    handler = %self.handler, %path, bytes,
                    "the file ended in half a line, now removed: the program was killed or the \
                     machine went down",
                );
            }
        }
        Ok(())
    }
}

impl Open {
    /// Writes whole lines with one call. Returns how many of them are in the file.
    fn append(&mut self, piece: &Piece<'_>) -> io::Result<usize> {
        if self.end == 0 {
            self.began = SystemTime::now();
        }
        let count = retry_interrupted(|| self.file.write(piece.bytes))?;
        self.unsynced = true;
        self.end += count as u64;
        if count == piece.bytes.len() {
            return Ok(piece.lines);
        }
        // A short write: the disk is full.
        let (lines, length) = whole(&piece.bytes[..count]);
        self.cut((count - length) as u64)?;
        if lines == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(lines) }
    }

    /// Removes the last bytes, a partial line, unless another program has truncated the file.
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > 0 && self.file.metadata()?.len() == self.end {
            self.end -= bytes;
            self.file.set_len(self.end)?;
        }
        Ok(())
    }

    /// Fills the page with spaces, before the newline of its last line, if a line of this length
    /// would cross the end of the page.
    fn fill_page_before(&mut self, length: usize) -> io::Result<()> {
        let used = (self.end % PAGE as u64) as usize;
        if used == 0 || used + length <= PAGE || length > PAGE {
            return Ok(());
        }
        let at = self.end - 1;
        let mut last = [0];
        if retry_interrupted(|| self.file.read_at(&mut last, at))? != 1 || last != *b"\n" {
            // Another program has changed the file.
            return Ok(());
        }
        let mut filling = [b' '; PAGE];
        let filling = &mut filling[..=PAGE - used];
        filling[PAGE - used] = b'\n';
        let count = self.overwrite(filling, at)?;
        if count != filling.len() {
            // Never seen, since the kernel writes a page as a whole or not at all. Restores the
            // newline.
            self.file.set_len(self.end)?;
            self.overwrite(b"\n", at)?;
            return Err(ErrorKind::StorageFull.into());
        }
        self.end += (PAGE - used) as u64;
        Ok(())
    }

    /// Writes at offset `at`. Linux ignores the offset in append mode, so that is switched off
    /// meanwhile.
    fn overwrite(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let flags = fcntl_getfl(&self.file)?;
        fcntl_setfl(&self.file, flags.difference(OFlags::APPEND))?;
        let result = retry_interrupted(|| self.file.write_at(bytes, at));
        fcntl_setfl(&self.file, flags)?;
        result
    }
}

/// Renames the file at `path` to the first free name of a rotated file, from `number` on. Sets
/// `number` to the next one.
fn rename_free(path: &Path, number: &mut u64) -> io::Result<()> {
    loop {
        let name = rotated::name(path, *number);
        *number = number.saturating_add(1);
        match renameat_with(CWD, path, CWD, &name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::EXIST) => {}
            // Some file systems do not support the flag.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !name.exists() => {
                return std::fs::rename(path, name);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Repeats a call that a signal interrupted.
fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
