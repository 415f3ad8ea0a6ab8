//! The spool: records in files, in order, until they are settled.
//!
//! A folder of segments (`0000000000000001.segment`, numbered upwards), each
//! [records](crate::record) one behind the other. Only the newest is written to, and only at its
//! end; the oldest is removed once all of it is settled. After a start a new segment is begun: what
//! a crash left at the end of the last one is cut off and never written behind. `settled` says up
//! to where records have been settled, in two slots that are written in turn, so that one is always
//! whole.

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

/// No segment gets larger than this.
const LARGEST_SEGMENT: u64 = 8 << 20;
/// So many segments fit into the smallest spool.
const SEGMENTS: u64 = 8;
/// Bytes read at a time.
const READ: usize = 256 * 1024;

/// Records one behind the other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    /// Place of the first one in the order of all.
    pub(crate) first: u64,
    /// How many.
    pub(crate) count: u64,
    /// The records.
    pub(crate) bytes: Bytes,
}

impl Chunk {
    /// Place behind the last one.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// What was found where records were to be read.
#[derive(Debug, PartialEq)]
pub(crate) enum Read {
    Chunk(Chunk),
    /// They cannot be read: up to this place they are gone.
    Damage(u64),
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// Place of its first record in the order of all.
    first: u64,
    count: u64,
    bytes: u64,
    path: PathBuf,
    /// Open while something in it may not be on the disk yet.
    unsynced: Option<File>,
}

impl Segment {
    fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// Where reading goes on.
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
    /// Held as long as the spool is open.
    _lock: File,
    slots: Slots,
    segments: VecDeque<Segment>,
    /// The newest segment, if this run began it and it can take more.
    active: Option<File>,
    next_number: u64,
    bytes: u64,
    max: u64,
    end: u64,
    position: Option<Position>,
}

impl Spool {
    /// Place behind the last record.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Place of the first record that is still there.
    pub(crate) fn first(&self) -> u64 {
        self.segments.front().map_or(self.end, |oldest| oldest.first)
    }

    /// Whether so many bytes more are within the bound.
    pub(crate) fn fits(&self, bytes: usize) -> bool {
        self.bytes + bytes as u64 <= self.max
    }

    /// Puts records behind the last one.
    ///
    /// # Errors
    /// If they cannot be written; then none of them is there.
    pub(crate) fn append(&mut self, bytes: &[u8], count: u64) -> io::Result<()> {
        let largest = (self.max / SEGMENTS).min(LARGEST_SEGMENT);
        if self.segments.back().is_some_and(|newest| newest.bytes + bytes.len() as u64 > largest) {
            self.active = None;
        }
        let mut file = match self.active.take() {
            Some(file) => file,
            None => self.begin()?,
        };
        let newest = self.segments.back_mut().ok_or(io::ErrorKind::NotFound)?;
        if let Err(error) = file.write_all(bytes) {
            // What got there would be in the way of what comes later. If it cannot be cut, a new
            // segment is begun.
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

    fn begin(&mut self) -> io::Result<File> {
        let number = self.next_number;
        let path = files::segment(&self.dir, number);
        let file = File::options().append(true).create_new(true).open(&path)?;
        self.next_number += 1;
        let segment = Segment { number, first: self.end, count: 0, bytes: 0, path, unsynced: None };
        self.segments.push_back(segment);
        Ok(file)
    }

    /// Removes the oldest segment: the place up to which records are gone by that, and `None` if
    /// there is none.
    pub(crate) fn remove_oldest(&mut self) -> Option<u64> {
        let oldest = self.segments.pop_front()?;
        if self.segments.is_empty() {
            self.active = None;
        }
        self.bytes -= oldest.bytes;
        if let Err(error) = fs::remove_file(&oldest.path) {
            let path = oldest.path.display();
            tracing::warn!(
                "{path} cannot be removed, and what is in it will be sent again: {error}"
            );
        }
        Some(oldest.end())
    }

    /// Everything before `place` is settled and is never asked for again.
    pub(crate) fn settle(&mut self, place: u64) {
        while self.segments.front().is_some_and(|oldest| {
            oldest.end() <= place && (self.segments.len() > 1 || self.active.is_none())
        }) {
            self.remove_oldest();
        }
        let Some(oldest) = self.segments.front() else { return };
        if let Err(error) = self.slots.write(oldest.number, place.saturating_sub(oldest.first)) {
            tracing::debug!(
                "what is settled could not be noted, and will be sent again after a restart: {error}"
            );
        }
    }

    /// Brings to the disk what may not be there yet.
    ///
    /// # Errors
    /// If the disk refuses.
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

    /// Reads records from `place` on: some, not all. `None` at the end.
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
                tracing::warn!("{} cannot be read: {error}", segment.path.display());
                Some(Read::Damage(end))
            }
        }
    }

    /// Brings everything to the disk, or removes the files if nothing is left in them.
    pub(crate) fn close(&mut self, settled: u64) {
        if settled >= self.end {
            while self.remove_oldest().is_some() {}
        } else if let Err(error) = self.sync() {
            let dir = self.dir.display();
            tracing::warn!("the spool {dir} may not outlast a power cut: {error}");
        }
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Reads records of a segment from `first` on, at `offset` if that is known, and says where the
/// next one begins.
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

/// Where the record behind so many others begins.
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
            // Damage: who reads on from here finds it.
            break;
        }
        at += inside as u64;
    }
    Ok(at)
}

/// Reads from `offset`, at least one record if one is there in whole.
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
