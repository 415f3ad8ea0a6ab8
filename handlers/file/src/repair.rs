//! Repairs a file that ends in a partial line.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::de::IgnoredAny;

/// The most bytes to read backwards in search of a line end. No line of the handler is that long.
const MAX_TAIL: u64 = 16 << 20;
/// The size of a read.
const STEP: u64 = 64 * 1024;
/// The start of each line that the handler writes.
const OURS: &[u8] = b"{\"time\":\"";

/// What [`repair`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// The file is empty or ends in a whole line. It is unchanged.
    Whole,
    /// The last line had no newline, and is complete or from another program. A newline was added.
    Ended,
    /// The last line was partial. Its bytes, of this number, were removed.
    Cut(u64),
}

/// Repairs the end of a file of `size` bytes. Never changes whole lines, and never removes text
/// that does not start like a line of the handler.
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

/// Returns the bytes after the last newline: at most [`MAX_TAIL`], rounded up to a whole read.
fn last_line(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let (mut tail, mut start) = (Vec::new(), size);
    while start > 0 && size - start < MAX_TAIL {
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

    fn repaired(before: &[u8]) -> (Repair, Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(before).unwrap();
        let repair = repair(&file, before.len() as u64).unwrap();
        let mut after = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut after).unwrap();
        (repair, after)
    }

    #[test]
    fn repair_removes_only_partial_lines_of_the_handler() {
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
                repaired(before.as_bytes()),
                (repair, after.as_bytes().to_vec()),
                "{before:?}"
            );
        }
    }

    #[test]
    fn repair_removes_a_long_partial_line() {
        let mut before = b"{\"time\":\"1\"}\n{\"time\":\"".to_vec();
        before.resize(before.len() + 3 * STEP as usize, b'x');
        let (repair, after) = repaired(&before);
        assert_eq!(repair, Repair::Cut(before.len() as u64 - 13));
        assert_eq!(after, b"{\"time\":\"1\"}\n");
    }

    proptest! {
        #[test]
        fn repair_ends_any_file_in_a_whole_line_and_keeps_its_lines(before: Vec<u8>) {
            let (_, after) = repaired(&before);
            prop_assert!(after.is_empty() || after.ends_with(b"\n"));
            let whole = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            prop_assert!(after.starts_with(&before[..whole]));
        }
    }
}
