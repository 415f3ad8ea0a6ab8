//! Lines that the program has not read yet: those that wait, and those in the pipe.
//!
//! ```text
//! aaaaa. bbbbb. ccccc. ddddd. eeeee. fffff.
//!               ^  ^             ^
//!           start  read          sent
//! ```
//!
//! Here the program has read lines a and b and a part of c; c, d and a part of e are in the pipe or
//! read; the rest of e and f wait.
//!
//! The kernel says how many bytes in the pipe are unread, which shows the lines that the program
//! has read to the end. When it ends, the next run gets the others.

use std::collections::VecDeque;

/// How many bytes of read lines to keep before the rest is moved to the front.
const MAX_READ: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// The end of each line that was not read to its end.
    ends: VecDeque<usize>,
    /// The start of the first of these lines.
    start: usize,
    /// The end of what the program has read.
    read: usize,
    /// The end of what was put into the pipe.
    sent: usize,
}

impl Queue {
    /// Adds the line that `write` writes, including its newline.
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push_back(self.bytes.len());
    }

    /// Returns whether every line has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the bytes that are not in the pipe yet.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Records that `count` more bytes are in the pipe.
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// Records that `count` bytes in the pipe are unread. Returns how many more lines were read to
    /// their end, and whether anything was read.
    pub(crate) fn unread(&mut self, count: u64) -> (u64, bool) {
        let unread = usize::try_from(count).unwrap_or(usize::MAX);
        let read = self.sent.saturating_sub(unread);
        if read <= self.read {
            return (0, false);
        }
        self.read = read;
        let lines = self.ends.partition_point(|end| *end <= read);
        if let Some(last) = self.ends.drain(..lines).next_back() {
            self.start = last;
        }
        self.compact();
        (lines as u64, true)
    }

    /// Goes back to the start of the first line that was not read to its end, for the next run.
    /// Returns how many lines were in the pipe, at least in part.
    pub(crate) fn rewind(&mut self) -> u64 {
        let given = self.ends.partition_point(|end| *end <= self.sent);
        let boundary = given.checked_sub(1).map_or(self.start, |last| self.ends[last]);
        let is_partly_sent = boundary < self.sent;
        self.sent = self.start;
        self.read = self.start;
        given as u64 + u64::from(is_partly_sent)
    }

    /// Removes the lines of which no part is in the pipe; returns their number.
    pub(crate) fn drop_unsent(&mut self) -> u64 {
        let given = self.ends.partition_point(|end| *end <= self.sent);
        let boundary = given.checked_sub(1).map_or(self.start, |last| self.ends[last]);
        let keep = if boundary < self.sent { given + 1 } else { given };
        let dropped = self.ends.len() - keep;
        self.ends.truncate(keep);
        self.bytes.truncate(self.ends.back().copied().unwrap_or(self.start));
        dropped as u64
    }

    /// Removes all lines; returns how many were not read to their end.
    pub(crate) fn clear(&mut self) -> u64 {
        let count = self.ends.len() as u64;
        *self = Self::default();
        count
    }

    /// Removes the bytes of read lines, if that is worth moving the others.
    fn compact(&mut self) {
        if self.ends.is_empty() || self.start >= MAX_READ {
            self.bytes.drain(..self.start);
            self.ends.iter_mut().for_each(|end| *end -= self.start);
            self.read -= self.start;
            self.sent -= self.start;
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(lines: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for line in lines {
            queue.add(|out| out.extend_from_slice(line.as_bytes()));
        }
        queue
    }

    #[test]
    fn line_counts_when_its_end_is_read() {
        let mut queue = queue(&["ab\n", "cd\n"]);
        queue.sent(6);
        assert_eq!(queue.unread(6), (0, false));
        assert_eq!(queue.unread(4), (0, true));
        assert_eq!(queue.unread(3), (1, true));
        assert_eq!(queue.unread(0), (1, true));
        assert!(queue.is_empty() && queue.unsent().is_empty());
    }

    #[test]
    fn rewind_keeps_the_lines_not_read_to_their_end() {
        let mut queue = queue(&["ab\n", "cd\n", "ef\n", "gh\n"]);
        queue.sent(8);
        queue.unread(4);
        assert_eq!(queue.rewind(), 2, "cd and ef; ab was read, gh not sent");
        assert_eq!(queue.unsent(), b"cd\nef\ngh\n");
        assert_eq!(queue.rewind(), 0);
    }

    #[test]
    fn partly_sent_line_is_never_dropped() {
        let mut partly_sent = queue(&["ab\n", "cd\n", "ef\n"]);
        partly_sent.sent(4);
        assert_eq!((partly_sent.drop_unsent(), partly_sent.unsent()), (1, &b"d\n"[..]));
        let mut whole = queue(&["ab\n", "cd\n", "ef\n"]);
        whole.sent(3);
        assert_eq!((whole.drop_unsent(), whole.unsent()), (2, &b""[..]));
        assert_eq!(whole.clear(), 1);
        assert_eq!(queue(&["ab\n"]).drop_unsent(), 1);
    }

    proptest! {
        /// Programs read some bytes each and die. Exactly one reads each line to its end, in order,
        /// or the line is dropped.
        #[test]
        fn every_line_is_read_once_or_dropped(
            steps in prop::collection::vec((0_u8..6, 0_usize..60_000), 1..200),
        ) {
            let (mut queue, mut pipe) = (Queue::default(), VecDeque::new());
            let (mut received, mut partial, mut next) = (Vec::new(), Vec::new(), 0_u64);
            let (mut delivered, mut dropped) = (0, 0);
            let read = |pipe: &mut VecDeque<u8>,
                        partial: &mut Vec<u8>,
                        received: &mut Vec<u64>,
                        n: usize| {
                for byte in pipe.drain(..n.min(pipe.len())) {
                    if byte == b'\n' {
                        let text = String::from_utf8(std::mem::take(partial)).unwrap();
                        received.push(text.trim().parse().unwrap());
                    } else {
                        partial.push(byte);
                    }
                }
            };
            for (step, size) in steps.into_iter().chain([(1, usize::MAX), (2, usize::MAX)]) {
                match step {
                    0 => {
                        queue.add(|out| {
                            out.extend(format!("{next:>width$}\n", width = size / 10).into_bytes());
                        });
                        next += 1;
                    }
                    1 => {
                        let count = size.min(queue.unsent().len());
                        pipe.extend(&queue.unsent()[..count]);
                        queue.sent(count);
                    }
                    2 | 5 => read(&mut pipe, &mut partial, &mut received, size),
                    3 => {
                        delivered += queue.unread(pipe.len() as u64).0;
                        prop_assert_eq!(delivered, received.len() as u64);
                        pipe.clear();
                        partial.clear();
                        queue.rewind();
                    }
                    _ => dropped += queue.drop_unsent(),
                }
                delivered += queue.unread(pipe.len() as u64).0;
                prop_assert_eq!(delivered, received.len() as u64);
            }
            prop_assert!(queue.is_empty());
            prop_assert_eq!(delivered + dropped, next);
            prop_assert!(received.is_sorted_by(|a, b| a < b));
        }
    }
}
