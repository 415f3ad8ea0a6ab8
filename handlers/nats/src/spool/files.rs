//! The names of segments, and the small files of a spool.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the path of a segment.
pub(super) fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.segment"))
}

/// Returns the number of the segment with this name, or `None` if it is not a segment.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// The place up to which records are settled, in two slots that are written in turn.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    turn: u64,
    last: (u64, u64),
}

/// The size of a slot: turn, segment and number of settled records (8 bytes each), CRC-32 of these.
const SLOT: usize = 28;

impl Slots {
    /// Opens the file, and reads the newer valid slot.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("settled"))?;
        let mut best = (0, (0, 0));
        for slot in 0..2 {
            let mut bytes = [0; SLOT];
            if file.read_exact_at(&mut bytes, slot * SLOT as u64).is_err() {
                continue;
            }
            if let Some(found) = parse(&bytes)
                && found.0 >= best.0
            {
                best = found;
            }
        }
        let (turn, last) = best;
        Ok(Self { file, turn, last })
    }

    /// Returns the number of a segment, and how many of its records are settled. All records of
    /// earlier segments are settled, too.
    pub(super) fn last(&self) -> (u64, u64) {
        self.last
    }

    pub(super) fn write(&mut self, segment: u64, count: u64) -> io::Result<()> {
        if self.last == (segment, count) {
            return Ok(());
        }
        let turn = self.turn + 1;
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&turn.to_le_bytes());
        bytes[8..16].copy_from_slice(&segment.to_le_bytes());
        bytes[16..24].copy_from_slice(&count.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..24]);
        bytes[24..].copy_from_slice(&sum.to_le_bytes());
        self.file.write_all_at(&bytes, turn % 2 * SLOT as u64)?;
        (self.turn, self.last) = (turn, (segment, count));
        Ok(())
    }
}

fn parse(bytes: &[u8; SLOT]) -> Option<(u64, (u64, u64))> {
    let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let sum = bytes[24..].try_into().map(u32::from_le_bytes).ok()?;
    let good = crc32fast::hash(&bytes[..24]) == sum;
    good.then(|| Some((number(0)?, (number(8)?, number(16)?)))).flatten()
}

/// Returns a number that no other run on this host has: the time in microseconds, followed by
/// random bits. With a spool, it is also higher than those of all earlier runs, even if the clock
/// was set back.
///
/// # Errors
/// If it cannot be saved in the spool.
pub(crate) fn epoch(spool: Option<&Path>) -> io::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX >> 12);
    let chance = RandomState::new().build_hasher().finish() & 0xfff;
    let now = micros << 12 | chance;
    let Some(dir) = spool else { return Ok(now) };
    let path = dir.join("epoch");
    let last = fs::read_to_string(&path).unwrap_or_default();
    let last = u64::from_str_radix(last.trim(), 16).unwrap_or(0);
    let epoch = now.max(last.saturating_add(1));
    let new = dir.join("epoch.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{epoch:x}")?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    Ok(epoch)
}
