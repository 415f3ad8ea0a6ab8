//! Opens a spool, also after a crash.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::files::{self, Slots};
use super::{Segment, Spool};
use crate::record;

/// A spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another handler or process has locked the spool.
    #[error(
        "the spool {} is in use by another handler or another Whalewatch: \
         set a different spool.dir",
        .dir.display()
    )]
    InUse {
        /// The folder of the spool.
        dir: PathBuf,
    },
    /// A file or folder of the spool cannot be used.
    #[error(
        "cannot use the spool: {}: {source}: set spool.dir to a folder that can be written to",
        .path.display()
    )]
    Io {
        /// The file, or the folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// An open spool, and its state at the start.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) spool: Spool,
    /// Place of the first record that is not settled.
    pub(crate) settled: u64,
    /// Damaged bytes that were cut off.
    pub(crate) cut: u64,
}

/// Opens the spool in `dir`, which is created if it does not exist.
///
/// # Errors
/// If the spool is in use, or a file cannot be used.
pub(crate) fn open(dir: &Path, max: u64) -> Result<Opened, SpoolError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SpoolError::Io { path, source }
    };
    // Events contain command lines, so only the owner may read them.
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
    let lock = lock(dir)?;
    let slots = Slots::open(dir).map_err(io(&dir.join("settled")))?;
    let mut numbers: Vec<u64> = fs::read_dir(dir)
        .map_err(io(dir))?
        .filter_map(|entry| files::number(entry.ok()?.file_name().to_str()?))
        .collect();
    numbers.sort_unstable();

    let (settled_segment, settled_count) = slots.last();
    let next_number = numbers.last().copied().unwrap_or(0).max(settled_segment) + 1;
    let (mut segments, mut cut, mut end, mut settled) = (VecDeque::new(), 0, 0, 0);
    for number in numbers {
        let path = files::segment(dir, number);
        let (segment, damaged) = recover(number, end, path.clone()).map_err(io(&path))?;
        cut += damaged;
        if number < settled_segment || segment.count == 0 {
            fs::remove_file(&path).map_err(io(&path))?;
            continue;
        }
        if number == settled_segment {
            settled = settled_count.min(segment.count);
        }
        end = segment.end();
        segments.push_back(segment);
    }
    let bytes = segments.iter().map(|segment| segment.bytes).sum();
    let spool = Spool {
        dir: dir.to_owned(),
        _lock: lock,
        slots,
        segments,
        active: None,
        next_number,
        bytes,
        max,
        end,
        position: None,
    };
    Ok(Opened { spool, settled, cut })
}

fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let io = |source| SpoolError::Io { path: path.clone(), source };
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Reads a segment and cuts off everything after its last whole record. Returns the number of bytes
/// that were cut.
fn recover(number: u64, first: u64, path: PathBuf) -> io::Result<(Segment, u64)> {
    let bytes = fs::read(&path)?;
    let (count, len) = record::scan(&bytes);
    let cut = (bytes.len() - len) as u64;
    if cut > 0 {
        File::options().write(true).open(&path)?.set_len(len as u64)?;
    }
    let segment = Segment { number, first, count, bytes: len as u64, path, unsynced: None };
    Ok((segment, cut))
}
