//! A buffer of whole lines, and their layout in the file.
//!
//! The kernel checks for a fatal signal between the pages of a write, so a kill cuts a write only
//! at a page boundary of the file. A line that does not cross a boundary is in the file as a whole
//! or not at all.

/// The smallest page size of any system. Larger pages end at multiples of it, too.
pub(crate) const PAGE: usize = 4096;

/// Lines that wait to be written.
#[derive(Debug)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// The end of each line in `bytes`.
    ends: Vec<usize>,
    /// The number of `ends` that are already written.
    written: usize,
    /// Pages with their padding.
    laid_out: Vec<u8>,
}

/// Whole lines to write with one call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) lines: usize,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), written: 0, laid_out: Vec::new() }
    }

    /// Adds a line, which `write` appends with its newline.
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Returns the number of waiting lines.
    pub(crate) fn len(&self) -> usize {
        self.ends.len() - self.written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of waiting bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() - self.start()
    }

    /// Returns the start of the waiting line number `skip`, counted from 0.
    fn start_after(&self, skip: usize) -> usize {
        (self.written + skip).checked_sub(1).map_or(0, |last| self.ends[last])
    }

    fn start(&self) -> usize {
        self.start_after(0)
    }

    /// Returns the length of the waiting line number `skip`, or 0 if there is none.
    fn len_after(&self, skip: usize) -> usize {
        self.ends.get(self.written + skip).map_or(0, |end| end - self.start_after(skip))
    }

    /// Returns the length of the next line, or 0 if there is none.
    pub(crate) fn next_len(&self) -> usize {
        self.len_after(0)
    }

    /// Returns the number of lines from number `skip` on that fit into `room`, and their length.
    fn fitting(&self, skip: usize, room: usize) -> (usize, usize) {
        let (start, ends) = (self.start_after(skip), &self.ends[self.written + skip..]);
        let lines = ends.partition_point(|end| end - start <= room);
        (lines, lines.checked_sub(1).map_or(0, |last| ends[last] - start))
    }

    /// Returns as many lines as fit into `room`, but at least one if any waits.
    pub(crate) fn piece(&self, room: u64) -> Piece<'_> {
        let (lines, length) = self.fitting(0, usize::try_from(room).unwrap_or(usize::MAX));
        let (lines, length) =
            if lines == 0 && !self.is_empty() { (1, self.next_len()) } else { (lines, length) };
        Piece { bytes: &self.bytes[self.start()..][..length], lines }
    }

    /// Returns lines to write at offset `at` of the file, padded so that none crosses the end of a
    /// page. Each page has the lines that fit into it, then spaces up to its end if another line
    /// follows. Returns as many pages as fit into `room`, but at least one. A line longer than a
    /// page is returned alone.
    pub(crate) fn padded_piece(&mut self, at: u64, room: u64) -> Piece<'_> {
        self.laid_out.clear();
        let (mut lines, mut page_room) = (0, PAGE - (at % PAGE as u64) as usize);
        loop {
            let (more, length) = self.fitting(lines, page_room);
            let next = self.len_after(lines + more);
            let padded = (1..=PAGE).contains(&next);
            let filled = if padded { page_room } else { length };
            if more == 0 || lines > 0 && (self.laid_out.len() + filled) as u64 > room {
                break;
            }
            let start = self.start_after(lines);
            self.laid_out.extend_from_slice(&self.bytes[start..start + length]);
            lines += more;
            if !padded {
                break;
            }
            self.pad(page_room - length);
            page_room = PAGE;
        }
        if lines == 0 {
            return self.piece(0);
        }
        Piece { bytes: &self.laid_out, lines }
    }

    /// Inserts spaces before the newline of the last line in `laid_out`.
    fn pad(&mut self, count: usize) {
        if count > 0 {
            let last = self.laid_out.len() - 1;
            self.laid_out[last] = b' ';
            self.laid_out.resize(last + count, b' ');
            self.laid_out.push(b'\n');
        }
    }

    /// Removes the first `lines` lines, which are written.
    pub(crate) fn take(&mut self, lines: usize) {
        self.written += lines;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Removes all lines and returns how many were waiting.
    pub(crate) fn clear(&mut self) -> usize {
        let waiting = self.len();
        self.bytes.clear();
        self.ends.clear();
        self.written = 0;
        waiting
    }
}

/// Returns the number of whole lines in `bytes`, and the end of the last one.
pub(crate) fn whole(bytes: &[u8]) -> (usize, usize) {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let lines = lines.count();
    (lines, bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(lengths: &[usize]) -> Lines {
        let mut lines = Lines::new();
        for length in lengths {
            lines.add(|out| {
                out.resize(out.len() + length - 1, b'x');
                out.push(b'\n');
            });
        }
        lines
    }

    #[test]
    fn piece_has_the_lines_that_fit_and_at_least_one() {
        let mut three = lines(&[10, 20, 30]);
        assert_eq!(three.piece(30).lines, 2);
        assert_eq!(three.piece(5).bytes.len(), 10);
        three.take(1);
        assert_eq!((three.len(), three.size(), three.next_len()), (2, 50, 20));
        assert_eq!(three.piece(u64::MAX), Piece { bytes: &three.bytes[10..], lines: 2 });
        assert_eq!(three.clear(), 2);
        assert_eq!(three.piece(9), Piece { bytes: &[], lines: 0 });
    }

    #[test]
    fn whole_counts_only_lines_with_a_newline() {
        assert_eq!(whole(b""), (0, 0));
        assert_eq!(whole(b"ab"), (0, 0));
        assert_eq!(whole(b"ab\n"), (1, 3));
        assert_eq!(whole(b"a\nb\ncd"), (2, 4));
    }

    proptest! {
        #[test]
        fn padded_lines_are_written_once_and_cross_no_page(
            lengths in prop::collection::vec(1_usize..6000, 1..60),
            mut at in 0_u64..3,
            room in 0_u64..50_000,
        ) {
            // Starts at a page boundary, after a page that is full.
            at *= PAGE as u64;
            let (mut waiting, mut file) = (lines(&lengths), vec![b'\n'; at as usize]);
            let begin = file.len();
            while !waiting.is_empty() {
                if waiting.next_len() <= PAGE && file.len() % PAGE + waiting.next_len() > PAGE {
                    // After a line longer than a page, or at the start of a write, the rest of the
                    // page is padded first.
                    let room = PAGE - file.len() % PAGE;
                    let last = file.len() - 1;
                    file[last] = b' ';
                    file.extend(vec![b' '; room - 1]);
                    file.push(b'\n');
                }
                let piece = waiting.padded_piece(file.len() as u64, room);
                prop_assert!(piece.lines > 0);
                let first_page = PAGE - file.len() % PAGE;
                let most = room.max(first_page as u64);
                prop_assert!(piece.bytes.len() as u64 <= most || piece.lines == 1);
                // A line ends at each place where the kernel may cut the write.
                let cuts = (first_page..piece.bytes.len()).step_by(PAGE);
                let long = piece.lines == 1 && piece.bytes.len() > PAGE;
                prop_assert!(long || cuts.into_iter().all(|cut| piece.bytes[cut - 1] == b'\n'));
                prop_assert_eq!(whole(piece.bytes), (piece.lines, piece.bytes.len()));
                let count = piece.lines;
                file.extend_from_slice(piece.bytes);
                waiting.take(count);
            }
            let written = String::from_utf8(file.split_off(begin)).unwrap();
            let got: Vec<usize> = written.lines().map(|line| line.trim_end().len() + 1).collect();
            prop_assert_eq!(got, lengths);
        }
    }
}
