//! Opening a spool, whatever a crash has left of it.

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
    /// Somebody else has it.
    #[error("the spool {} is in use by another handler or another whalewatch: give each a folder of its own with spool.dir", .dir.display())]
    InUse {
        /// Its folder.
        dir: PathBuf,
    },
    /// A file of it cannot be used.
    #[error("the spool cannot be used: {}: {source}: name a folder with spool.dir that can be written to", .path.display())]
    Io {
        /// The file, or the folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A spool, and what was in it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) spool: Spool,
    /// Place of the first record that is not settled; the last one's is the spool's end.
    pub(crate) settled: u64,
    /// Bytes that a crash had damaged, and that were cut off.
    pub(crate) cut: u64,
}

/// Opens the spool in `dir`, which is made if it is not there.
///
/// # Errors
/// If another process has it, or a file cannot be used.
pub(crate) fn open(dir: &Path, max: u64) -> Result<Opened, SpoolError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SpoolError::Io { path, source }
    };
    // What programs were started with is nobody else's business.
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

/// Takes a segment as far as it is whole, and cuts off what is not. Says how many bytes were cut.
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
