//! The spool: keeps records in files, in order, until they are settled.
//!
//! A spool is a folder of segments (`0000000000000001.segment`, numbered upwards), each a sequence
//! of [records](crate::record). Records are appended to the newest segment only, and the oldest is
//! removed when all its records are settled. Each start cuts off the partial record that a crash
//! may have left, and writes to a new segment. The file `settled` has the place up to which records
//! are settled, in two slots that are written in turn, so that one of them is always whole.

mod files;
mod open;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::record::{self, Found};
use files::Slots;
pub(crate) use files::epoch;
pub use open::SpoolError;
pub(crate) use open::open;

/// The largest size of a segment in bytes, unless one record is larger.
const MAX_SEGMENT: u64 = 8 << 20;
/// The number of segments in a full spool, which has more if they would exceed [`MAX_SEGMENT`].
const SEGMENTS: u64 = 8;
/// The size of a read in bytes.
const READ: usize = 256 * 1024;

/// A sequence of records.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    /// Place of the first record.
    pub(crate) first: u64,
    /// The number of records.
    pub(crate) count: u64,
    /// The encoded records.
    pub(crate) bytes: Bytes,
}

impl Chunk {
    /// Returns the place after the last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// The result of [`Spool::read`].
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    Chunk(Chunk),
    /// The records before this place are lost.
    Damage(u64),
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// Place of the first record.
    first: u64,
    count: u64,
    bytes: u64,
    path: PathBuf,
    /// Set if the segment has records that were not synced.
    unsynced: Option<File>,
}

impl Segment {
    fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// The position after the last read.
#[derive(Clone, Copy, Debug)]
struct Position {
    place: u64,
    number: u64,
    offset: u64,
}

/// The files of a spool.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    /// Locked while the spool is open.
    _lock: File,
    slots: Slots,
    segments: VecDeque<Segment>,
    /// The newest segment, if this run created it and it has room.
    active: Option<File>,
    next_number: u64,
    bytes: u64,
    max: u64,
    end: u64,
    position: Option<Position>,
}

impl Spool {
    /// Returns the place after the last record.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the place of the first record that still exists.
    pub(crate) fn first(&self) -> u64 {
        self.segments.front().map_or(self.end, |oldest| oldest.first)
    }

    /// Returns whether `bytes` more bytes fit into the spool.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.bytes + bytes as u64 <= self.max
    }

    /// Appends `count` records.
    ///
    /// # Errors
    /// If they cannot be written. Then none of them is in the spool.
    pub(crate) fn append(&mut self, bytes: &[u8], count: u64) -> io::Result<()> {
        let largest = (self.max / SEGMENTS).min(MAX_SEGMENT);
        if self.segments.back().is_some_and(|newest| newest.bytes + bytes.len() as u64 > largest) {
            self.active = None;
        }
        let mut file = match self.active.take() {
            Some(file) => file,
            None => self.begin_segment()?,
        };
        let newest = self.segments.back_mut().ok_or(io::ErrorKind::NotFound)?;
        if let Err(error) = file.write_all(bytes) {
            // Part of the records may be in the file. If they cannot be cut off, the next records
            // go to a new segment.
            if file.set_len(newest.bytes).is_ok() {
                self.active = Some(file);
            }
            return Err(error);
        }
        if newest.unsynced.is_none() {
            newest.unsynced = Some(file.try_clone()?);
        }
        newest.bytes += bytes.len() as u64;
        newest.count += count;
        self.bytes += bytes.len() as u64;
        self.end += count;
        self.active = Some(file);
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<File> {
        let number = self.next_number;
        let path = files::segment(&self.dir, number);
        let file = File::options().append(true).create_new(true).open(&path)?;
        self.next_number += 1;
        let segment = Segment { number, first: self.end, count: 0, bytes: 0, path, unsynced: None };
        self.segments.push_back(segment);
        Ok(file)
    }

    /// Removes the oldest segment. Returns the place after its last record, or `None` if there is
    /// no segment.
    pub(crate) fn remove_oldest(&mut self) -> Option<u64> {
        let oldest = self.segments.pop_front()?;
        if self.segments.is_empty() {
            self.active = None;
        }
        self.bytes -= oldest.bytes;
        if let Err(error) = fs::remove_file(&oldest.path) {
            let path = oldest.path.display();
            tracing::warn!(
                "cannot remove {path}, its events may be sent again after a restart: {error}"
            );
        }
        Some(oldest.end())
    }

    /// Marks everything before `place` as settled. It is never read again.
    pub(crate) fn settle(&mut self, place: u64) {
        while self.segments.front().is_some_and(|oldest| {
            oldest.end() <= place && (self.segments.len() > 1 || self.active.is_none())
        }) {
            self.remove_oldest();
        }
        let Some(oldest) = self.segments.front() else { return };
        if let Err(error) = self.slots.write(oldest.number, place.saturating_sub(oldest.first)) {
            tracing::debug!(
                "cannot save which events are settled, they may be sent again after a restart: \
                 {error}"
            );
        }
    }

    /// Syncs all segments to the disk.
    ///
    /// # Errors
    /// If a file or the folder cannot be synced.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let mut any = false;
        for segment in &mut self.segments {
            if let Some(file) = segment.unsynced.take() {
                any = true;
                file.sync_data()?;
            }
        }
        if any { File::open(&self.dir)?.sync_all() } else { Ok(()) }
    }

    /// Reads some records from `place` on. Returns `None` at the end.
    pub(crate) fn read(&mut self, place: u64) -> Option<Read> {
        let segment = self.segments.iter().find(|segment| place < segment.end())?;
        let known = self.position.filter(|at| at.place == place && at.number == segment.number);
        let (first, end) = (place.max(segment.first), segment.end());
        match read_on(segment, first, known.map(|at| at.offset)) {
            Ok((chunk, offset)) if chunk.count > 0 => {
                self.position =
                    Some(Position { place: chunk.end(), number: segment.number, offset });
                Some(Read::Chunk(chunk))
            }
            Ok(_) => Some(Read::Damage(end)),
            Err(error) => {
                tracing::warn!(
                    "cannot read {}, its events are lost: {error}",
                    segment.path.display()
                );
                Some(Read::Damage(end))
            }
        }
    }

    /// Syncs everything to the disk, or removes all segments if every record is settled.
    pub(crate) fn close(&mut self, settled: u64) {
        if settled >= self.end {
            while self.remove_oldest().is_some() {}
        } else if let Err(error) = self.sync() {
            let dir = self.dir.display();
            tracing::warn!(
                "cannot sync the spool {dir}, events may be lost in a power cut: {error}"
            );
        }
    }

    /// Returns the folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Reads records of a segment from `first` on, which is at `offset` if that is known. Returns the
/// records and the offset after them.
fn read_on(segment: &Segment, first: u64, offset: Option<u64>) -> io::Result<(Chunk, u64)> {
    let file = File::open(&segment.path)?;
    let offset = match offset {
        Some(offset) => offset,
        None => skip(&file, segment.bytes, first - segment.first)?,
    };
    let bytes = read(&file, offset, segment.bytes)?;
    let (count, len) = record::scan(&bytes);
    let chunk = Chunk { first, count, bytes: Bytes::from(bytes).slice(..len) };
    Ok((chunk, offset + len as u64))
}

/// Returns the offset of the record after the first `count` ones.
fn skip(file: &File, len: u64, count: u64) -> io::Result<u64> {
    let (mut at, mut left) = (0, count);
    while left > 0 {
        let bytes = read(file, at, len)?;
        let mut inside = 0;
        while left > 0 {
            let Found::Record(size) = record::find(&bytes[inside..]) else { break };
            inside += size;
            left -= 1;
        }
        if inside == 0 {
            // Damage, which the next read from here reports.
            break;
        }
        at += inside as u64;
    }
    Ok(at)
}

/// Reads bytes from `offset` on: at least one record, if the file has a whole one there.
fn read(file: &File, offset: u64, end: u64) -> io::Result<Vec<u8>> {
    let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(READ)];
    file.read_exact_at(&mut bytes, offset)?;
    if let Found::Part(whole) = record::find(&bytes)
        && whole <= left
    {
        bytes = vec![0; whole];
        file.read_exact_at(&mut bytes, offset)?;
    }
    Ok(bytes)
}
