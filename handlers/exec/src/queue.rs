//! Lines on their way into a program: those that wait, and those that are in the pipe and were not
//! read yet.
//!
//! A pipe can be asked how many bytes in it nobody has read. So it is known which lines a program
//! has read whole; and when it dies, those that it has not are given to the next.

use std::collections::VecDeque;

/// How much that is done with is kept before the rest is moved to the front.
const DONE: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// Where each line ends that was not read whole.
    ends: VecDeque<usize>,
    /// Where the first of them begins.
    start: usize,
    /// How far the program has read.
    read: usize,
    /// How far the pipe has been filled.
    sent: usize,
}

impl Queue {
    /// Adds the line that `write` writes, with its end.
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push_back(self.bytes.len());
    }

    /// Whether every line has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What is to be put into the pipe.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So many bytes of that are in it.
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// So many bytes in the pipe have not been read. How many more lines were read whole, and
    /// whether anything was.
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
        self.move_up();
        (lines as u64, true)
    }

    /// The program is gone: what it did not read whole is for the next, from the start of a line.
    /// How many lines it had been given, at least in part.
    pub(crate) fn rewind(&mut self) -> u64 {
        let given = self.ends.partition_point(|end| *end <= self.sent);
        let begun = given.checked_sub(1).map_or(self.start, |last| self.ends[last]) < self.sent;
        self.sent = self.start;
        self.read = self.start;
        given as u64 + u64::from(begun)
    }

    /// Forgets the lines that are not begun in the pipe; says how many.
    pub(crate) fn drop_unsent(&mut self) -> u64 {
        let given = self.ends.partition_point(|end| *end <= self.sent);
        let boundary = given.checked_sub(1).map_or(self.start, |last| self.ends[last]);
        let keep = if boundary < self.sent { given + 1 } else { given };
        let dropped = self.ends.len() - keep;
        self.ends.truncate(keep);
        self.bytes.truncate(self.ends.back().copied().unwrap_or(self.start));
        dropped as u64
    }

    /// Forgets all; says how many lines had not been read whole.
    pub(crate) fn clear(&mut self) -> u64 {
        let count = self.ends.len() as u64;
        *self = Self::default();
        count
    }

    fn move_up(&mut self) {
        if self.ends.is_empty() || self.start >= DONE {
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
    fn a_line_counts_when_its_end_is_read() {
        let mut queue = queue(&["ab\n", "cd\n"]);
        queue.sent(6);
        assert_eq!(queue.unread(6), (0, false));
        assert_eq!(queue.unread(4), (0, true));
        assert_eq!(queue.unread(3), (1, true));
        assert_eq!(queue.unread(0), (1, true));
        assert!(queue.is_empty() && queue.unsent().is_empty());
    }

    #[test]
    fn the_next_program_gets_the_lines_that_were_not_read_whole() {
        let mut queue = queue(&["ab\n", "cd\n", "ef\n", "gh\n"]);
        queue.sent(8);
        queue.unread(4);
        assert_eq!(queue.rewind(), 2, "cd and ef; ab was read, gh not begun");
        assert_eq!(queue.unsent(), b"cd\nef\ngh\n");
        assert_eq!(queue.rewind(), 0);
    }

    #[test]
    fn a_line_that_is_begun_in_the_pipe_is_never_dropped() {
        let mut begun = queue(&["ab\n", "cd\n", "ef\n"]);
        begun.sent(4);
        assert_eq!((begun.drop_unsent(), begun.unsent()), (1, &b"d\n"[..]));
        let mut whole = queue(&["ab\n", "cd\n", "ef\n"]);
        whole.sent(3);
        assert_eq!((whole.drop_unsent(), whole.unsent()), (2, &b""[..]));
        assert_eq!(whole.clear(), 1);
        assert_eq!(queue(&["ab\n"]).drop_unsent(), 1);
    }

    proptest! {
        /// Programs read some bytes each and die; every line is read whole by exactly one, in
        /// order, or dropped.
        #[test]
        fn every_line_is_read_once_or_dropped(
            steps in prop::collection::vec((0_u8..6, 0_usize..60_000), 1..200),
        ) {
            let (mut queue, mut pipe, mut heard) = (Queue::default(), VecDeque::new(), Vec::new());
            let (mut partial, mut next) = (Vec::new(), 0_u64);
            let (mut delivered, mut dropped) = (0, 0);
            let read = |pipe: &mut VecDeque<u8>, partial: &mut Vec<u8>, heard: &mut Vec<u64>, n: usize| {
                for byte in pipe.drain(..n.min(pipe.len())) {
                    if byte == b'\n' {
                        let text = String::from_utf8(std::mem::take(partial)).unwrap();
                        heard.push(text.trim().parse().unwrap());
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
                    2 | 5 => read(&mut pipe, &mut partial, &mut heard, size),
                    3 => {
                        delivered += queue.unread(pipe.len() as u64).0;
                        prop_assert_eq!(delivered, heard.len() as u64);
                        pipe.clear();
                        partial.clear();
                        queue.rewind();
                    }
                    _ => dropped += queue.drop_unsent(),
                }
                delivered += queue.unread(pipe.len() as u64).0;
                prop_assert_eq!(delivered, heard.len() as u64);
            }
            prop_assert!(queue.is_empty());
            prop_assert_eq!(delivered + dropped, next);
            prop_assert!(heard.is_sorted_by(|a, b| a < b));
        }
    }
}
