//! The file: opened, locked, written to, put aside.

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

/// How long the lock is waited for at the start: the one before may be about to end.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long after a rotation that failed the next is tried.
const ROTATE_AGAIN: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Output {
    handler: Arc<str>,
    options: FileOptions,
    open: Option<Open>,
    /// Counts the files that were begun, so that a timer for one is not taken for another's.
    begun: u64,
    /// Number of the next rotated file.
    number: u64,
    rotation_failed: Option<Instant>,
    /// Only where files are rotated.
    keeper: Option<Keeper>,
}

#[derive(Debug)]
struct Open {
    /// Opened to append, so that whoever empties the file (logrotate's `copytruncate`) does not
    /// leave a hole.
    file: File,
    /// Device and inode.
    id: (u64, u64),
    /// Its size.
    end: u64,
    /// When its first line came.
    began: SystemTime,
    unsynced: bool,
}

impl Output {
    pub(crate) fn new(handler: &Arc<str>, options: &FileOptions) -> io::Result<Self> {
        let mut output = Self {
            handler: Arc::clone(handler),
            options: options.clone(),
            open: None,
            begun: 0,
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

    /// Writes all lines that wait. `written` grows by each that is in the file whole, also when it
    /// fails in the middle.
    pub(crate) fn write(&mut self, lines: &mut Lines, written: &mut u64) -> io::Result<()> {
        self.see_whether_it_is_ours()?;
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
                self.put_aside();
                continue;
            }
            let Some(open) = &mut self.open else { continue };
            let count = open.append(&piece)?;
            *written += count as u64;
            lines.take(count);
        }
        Ok(())
    }

    /// Whether there is something that was not synced.
    pub(crate) fn unsynced(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.unsynced)
    }

    /// Has the disk take what was written.
    pub(crate) fn sync(&mut self) {
        if let Some(open) = self.open.as_mut().filter(|open| open.unsynced) {
            // Also if it fails: the kernel tells an error once, and would say that all is well the
            // next time.
            open.unsynced = false;
            if let Err(error) = open.file.sync_data() {
                tracing::warn!(
                    handler = %self.handler, path = %self.options.path.display(), %error,
                    "the disk may not have taken what was written to the file",
                );
            }
        }
    }

    /// Which file this is, and how long until it is too old; `None` while it is empty or if age
    /// does not matter.
    pub(crate) fn age(&self) -> Option<(u64, Duration)> {
        let (age, open) = (self.options.rotate.age?, self.open.as_ref()?);
        let old = open.began.elapsed().unwrap_or_default();
        (open.end > 0).then(|| (self.begun, age.0.saturating_sub(old)))
    }

    /// Puts the file aside because of its age, if it still is that one. Whether that has to be
    /// tried again.
    pub(crate) fn too_old(&mut self, begun: u64) -> bool {
        if begun == self.begun && self.open.as_ref().is_some_and(|open| open.end > 0) {
            self.put_aside();
            return self.open.is_some();
        }
        false
    }

    /// Nothing more is written: waits for rotated files to be dealt with, at most so long.
    pub(crate) fn finish(&mut self, limit: Duration) {
        if let Some(mut keeper) = self.keeper.take()
            && !keeper.finish(limit)
        {
            tracing::warn!(
                handler = %self.handler, path = %self.options.path.display(),
                "not all rotated files could be compressed within {limit:?}: the next start goes on with them",
            );
        }
    }

    /// Whether the file may be put aside now: not right after that failed.
    fn may_rotate(&self) -> bool {
        self.rotation_failed.is_none_or(|at| at.elapsed() >= ROTATE_AGAIN)
    }

    /// Gives the file another name and closes it. If that fails it stays the file that is written
    /// to.
    fn put_aside(&mut self) {
        if self.options.sync != Sync::Never {
            self.sync();
        }
        match rename_free(&self.options.path, &mut self.number) {
            Ok(()) => {
                self.rotation_failed = None;
                self.open = None;
                if let Some(keeper) = &self.keeper {
                    keeper.kick();
                }
            }
            Err(error) => {
                if self.rotation_failed.replace(Instant::now()).is_none() {
                    tracing::warn!(
                        handler = %self.handler, path = %self.options.path.display(), %error,
                        "the file cannot be rotated: it grows on, and is tried again every {ROTATE_AGAIN:?}",
                    );
                }
            }
        }
    }

    /// Lets go of the file if its name is another's by now (logrotate), and looks how large it is.
    fn see_whether_it_is_ours(&mut self) -> io::Result<()> {
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
            "the file was renamed or removed: a new one is begun",
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
                let message = "it is no regular file: name another path";
                return Err(io::Error::new(ErrorKind::InvalidInput, message));
            }
            match file.try_lock() {
                // Whoever had it may have put it aside meanwhile.
                Ok(()) if path.metadata().is_ok_and(|there| id(&there) == id(&metadata)) => {
                    break (file, metadata);
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {}
                Err(TryLockError::WouldBlock) => {
                    let message = "another handler or another Whalewatch writes to it: give each a path of its own, or let \
                                   chains name the same handler";
                    return Err(io::Error::new(ErrorKind::ResourceBusy, message));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            thread::sleep(Duration::from_millis(20));
        };
        self.mend(&file, metadata.len())?;
        let end = file.metadata()?.len();
        // Where the file system does not know, its last line's time is the closest.
        let began = metadata.created().or_else(|_| metadata.modified());
        let began = began.unwrap_or_else(|_| SystemTime::now());
        let id = id(&metadata);
        self.open = Some(Open { file, id, end, began, unsynced: false });
        self.begun += 1;
        Ok(())
    }

    fn mend(&self, file: &File, size: u64) -> io::Result<()> {
        let path = self.options.path.display();
        match repair(file, size)? {
            Repair::Whole => {}
            Repair::Ended => {
                tracing::warn!(handler = %self.handler, %path, "the file's last line had no end: it has one now");
            }
            Repair::Cut(bytes) => {
                tracing::warn!(
                    handler = %self.handler, %path, bytes,
                    "the file ended in half a line, which was taken away: the writer was killed, or the machine went down",
                );
            }
        }
        Ok(())
    }
}

impl Open {
    /// Writes whole lines with one call; says how many of them are in the file.
    fn append(&mut self, piece: &Piece<'_>) -> io::Result<usize> {
        if self.end == 0 {
            self.began = SystemTime::now();
        }
        let count = again(|| self.file.write(piece.bytes))?;
        self.unsynced = true;
        self.end += count as u64;
        if count == piece.bytes.len() {
            return Ok(piece.lines);
        }
        // There was no room for all of it.
        let (lines, length) = whole(&piece.bytes[..count]);
        self.cut((count - length) as u64)?;
        if lines == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(lines) }
    }

    /// Takes the last bytes away, half a line; but not if the file was emptied meanwhile.
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > 0 && self.file.metadata()?.len() == self.end {
            self.end -= bytes;
            self.file.set_len(self.end)?;
        }
        Ok(())
    }

    /// Fills a page up with spaces, put before the end of its last line, if a line of that length
    /// would cross its end.
    fn fill_page_before(&mut self, length: usize) -> io::Result<()> {
        let used = (self.end % PAGE as u64) as usize;
        if used == 0 || used + length <= PAGE || length > PAGE {
            return Ok(());
        }
        let at = self.end - 1;
        let mut last = [0];
        if again(|| self.file.read_at(&mut last, at))? != 1 || last != *b"\n" {
            // The file is not as we left it.
            return Ok(());
        }
        let mut filling = [b' '; PAGE];
        let filling = &mut filling[..=PAGE - used];
        filling[PAGE - used] = b'\n';
        let count = self.overwrite(filling, at)?;
        if count != filling.len() {
            // Never seen, as a page is taken whole or not at all; the line is to have its end in
            // any case.
            self.file.set_len(self.end)?;
            self.overwrite(b"\n", at)?;
            return Err(ErrorKind::StorageFull.into());
        }
        self.end += (PAGE - used) as u64;
        Ok(())
    }

    /// Writes at `at`, which a file that is open to append does only while it is not.
    fn overwrite(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let flags = fcntl_getfl(&self.file)?;
        fcntl_setfl(&self.file, flags.difference(OFlags::APPEND))?;
        let result = again(|| self.file.write_at(bytes, at));
        fcntl_setfl(&self.file, flags)?;
        result
    }
}

/// Renames the file at `path` to a name for rotated files that is free, from `number` on; `number`
/// is the next after that.
fn rename_free(path: &Path, number: &mut u64) -> io::Result<()> {
    loop {
        let name = rotated::name(path, *number);
        *number = number.saturating_add(1);
        match renameat_with(CWD, path, CWD, &name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::EXIST) => {}
            // Some file systems do not know the flag.
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

/// Calls again what a signal broke off.
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
