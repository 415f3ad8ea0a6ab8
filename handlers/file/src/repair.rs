//! A file that ends in half a line, mended.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::de::IgnoredAny;

/// How far back from the end the last whole line is looked for. Longer than any line of ours.
const FURTHEST: u64 = 16 << 20;
/// How much is read at once.
const STEP: u64 = 64 * 1024;
/// How our lines begin.
const OURS: &[u8] = b"{\"time\":\"";

/// What was done to the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// It ends in a whole line, or is empty.
    Whole,
    /// Only the last line's end was missing, or the line is not one of ours: it got its end.
    Ended,
    /// The last line was cut in the middle; so many bytes of it are taken away.
    Cut(u64),
}

/// Looks at the end of a file of `size` bytes, and mends it. Whole lines are never touched, nor is
/// anything taken away that does not begin as our lines do.
pub(crate) fn repair(file: &File, size: u64) -> io::Result<Repair> {
    let tail = last_line(file, size)?;
    if tail.is_empty() {
        return Ok(Repair::Whole);
    }
    let ours = tail.starts_with(OURS) || OURS.starts_with(&tail);
    if !ours || serde_json::from_slice::<IgnoredAny>(&tail).is_ok() {
        file.write_all_at(b"\n", size)?;
        return Ok(Repair::Ended);
    }
    file.set_len(size - tail.len() as u64)?;
    Ok(Repair::Cut(tail.len() as u64))
}

/// What stands behind the last end of a line, at most [`FURTHEST`] of it.
fn last_line(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let (mut tail, mut start) = (Vec::new(), size);
    while start > 0 && size - start < FURTHEST {
        let from = start.saturating_sub(STEP);
        let mut part = vec![0; (start - from) as usize];
        file.read_exact_at(&mut part, from)?;
        if let Some(end) = part.iter().rposition(|byte| *byte == b'\n') {
            part.drain(..=end);
            part.append(&mut tail);
            return Ok(part);
        }
        part.append(&mut tail);
        tail = part;
        start = from;
    }
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use proptest::prelude::*;

    use super::*;

    fn mended(before: &[u8]) -> (Repair, Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(before).unwrap();
        let repair = repair(&file, before.len() as u64).unwrap();
        let mut after = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut after).unwrap();
        (repair, after)
    }

    #[test]
    fn only_half_lines_of_ours_are_taken_away() {
        for (before, repair, after) in [
            ("", Repair::Whole, ""),
            ("{\"time\":\"1\"}\n", Repair::Whole, "{\"time\":\"1\"}\n"),
            (
                "{\"time\":\"1\"}\n{\"time\":\"2\"}",
                Repair::Ended,
                "{\"time\":\"1\"}\n{\"time\":\"2\"}\n",
            ),
            ("{\"time\":\"1\"}\n{\"time\":\"2", Repair::Cut(10), "{\"time\":\"1\"}\n"),
            ("{\"time\":\"1\"}\n{\"t", Repair::Cut(3), "{\"time\":\"1\"}\n"),
            ("{\"time\":\"1", Repair::Cut(10), ""),
            ("root:x:0", Repair::Ended, "root:x:0\n"),
            ("a\nroot:x:0", Repair::Ended, "a\nroot:x:0\n"),
        ] {
            assert_eq!(
                mended(before.as_bytes()),
                (repair, after.as_bytes().to_vec()),
                "{before:?}"
            );
        }
    }

    #[test]
    fn a_long_half_line_is_found_whole() {
        let mut before = b"{\"time\":\"1\"}\n{\"time\":\"".to_vec();
        before.resize(before.len() + 3 * STEP as usize, b'x');
        let (repair, after) = mended(&before);
        assert_eq!(repair, Repair::Cut(before.len() as u64 - 13));
        assert_eq!(after, b"{\"time\":\"1\"}\n");
    }

    proptest! {
        #[test]
        fn whatever_is_there_ends_in_a_whole_line_and_keeps_its_lines(before: Vec<u8>) {
            let (_, after) = mended(&before);
            prop_assert!(after.is_empty() || after.ends_with(b"\n"));
            let whole = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            prop_assert!(after.starts_with(&before[..whole]));
        }
    }
}
