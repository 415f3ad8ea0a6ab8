//! Writes batches as whole lines and counts every event.

use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use whalewatch_core::{Batch, Context, HandlerError};
use whalewatch_kit::Json;

use crate::options::Format;
use crate::table::Table;

/// A buffer of this many bytes is written before the end of the batch.
const MAX_BUFFER: usize = 64 * 1024;

/// Writes events as lines to `W`. `W` should not buffer, because this does.
///
/// An event counts as delivered when `W` has accepted its whole line, so the counts are exact even
/// if a write fails in the middle. The events that were still in the buffer are not counted here;
/// the engine counts them as errors.
#[derive(Debug)]
pub struct Output<W> {
    writer: W,
    formatter: Formatter,
    /// Whole lines that wait to be written.
    buffer: Vec<u8>,
    /// The number of events in the buffer.
    events: u64,
    /// The number of header lines in the buffer, which come first.
    headers: u64,
}

#[derive(Debug)]
enum Formatter {
    Json(Json),
    Table(Table),
}

/// A write failed.
struct Broken {
    error: io::Error,
    /// The number of events in the buffer that were not written.
    lost: u64,
}

impl<W: Write> Output<W> {
    /// Creates an output to `writer`. `host` is the host name.
    pub fn new(writer: W, format: Format, color: bool, host: &str) -> Self {
        let mut buffer = Vec::new();
        let (formatter, headers) = match format {
            Format::Json => (Formatter::Json(Json::new(host)), 0),
            Format::Table => {
                let table = Table::new(color);
                table.header(&mut buffer);
                (Formatter::Table(table), 1)
            }
        };
        Self { writer, formatter, buffer, events: 0, headers }
    }

    /// Writes a batch. Some of it may stay in the buffer until [`Output::flush`].
    ///
    /// # Errors
    /// [`HandlerError::Closed`] if the reader is gone, [`HandlerError::Failed`] if a write failed
    /// for another reason.
    pub fn take<M>(&mut self, batch: &Batch, cx: &Context<'_, M>) -> Result<(), HandlerError> {
        let plan = match &mut self.formatter {
            Formatter::Json(json) => json.plan(batch),
            Formatter::Table(table) => table.plan(batch),
        };
        for (done, event) in (1..).zip(batch.iter()) {
            match &mut self.formatter {
                Formatter::Json(json) => json.event(&mut self.buffer, plan, event),
                Formatter::Table(table) => table.write(&mut self.buffer, plan, event),
            }
            self.events += 1;
            if self.buffer.len() >= MAX_BUFFER {
                self.write_out(cx).map_err(|broken| broken.failed(batch.len() as u64 - done))?;
            }
        }
        Ok(())
    }

    /// Writes the buffer.
    ///
    /// # Errors
    /// As for [`Output::take`].
    pub fn flush<M>(&mut self, cx: &Context<'_, M>) -> Result<(), HandlerError> {
        self.write_out(cx).map_err(|broken| broken.failed(0))
    }

    /// Writes the buffer and counts the events whose whole lines were written. The buffer is empty
    /// afterwards, even after a failure.
    fn write_out<M>(&mut self, cx: &Context<'_, M>) -> Result<(), Broken> {
        let (written, result) = write_all(&mut self.writer, &self.buffer);
        let lines = match result {
            Ok(()) => self.headers + self.events,
            Err(_) => whole_lines(&self.buffer[..written]),
        };
        let delivered = lines.saturating_sub(self.headers);
        let lost = self.events - delivered;
        cx.delivered(delivered);
        self.buffer.clear();
        (self.events, self.headers) = (0, 0);
        result.map_err(|error| Broken { error, lost })
    }
}

/// Writes all bytes. Unlike [`Write::write_all`], it returns how much was written if it fails, and
/// waits for a non-blocking writer: the flag belongs to the open file that processes share, so
/// another program may have set it.
fn write_all(writer: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match writer.write(&bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Returns the number of lines that end with a newline.
fn whole_lines(bytes: &[u8]) -> u64 {
    bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")).count() as u64
}

impl Broken {
    /// Converts this to a handler's error. `unwritten` is the number of events of the batch that
    /// did not get into the buffer.
    fn failed(self, unwritten: u64) -> HandlerError {
        if self.error.kind() == ErrorKind::BrokenPipe {
            return HandlerError::Closed;
        }
        let lost = self.lost + unwritten;
        let events = if lost == 1 { "event" } else { "events" };
        HandlerError::Failed {
            message: format!("cannot write to standard output: {lost} {events} lost"),
            source: Some(Box::new(self.error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::atomic::Ordering::Relaxed;

    use whalewatch_core::{HandlerCounters, Never};
    use whalewatch_testing::{Ran, example};

    use super::*;

    /// Accepts `room` bytes, at most seven at a time, with interruptions in between, then fails.
    struct FlakyWriter {
        taken: Vec<u8>,
        room: usize,
        failure: ErrorKind,
        turn: usize,
    }

    impl Write for FlakyWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.turn += 1;
            match self.turn % 40 {
                1 => Err(ErrorKind::Interrupted.into()),
                2 => Err(ErrorKind::WouldBlock.into()),
                _ if self.taken.len() == self.room => Err(self.failure.into()),
                _ => {
                    let count = bytes.len().min(7).min(self.room - self.taken.len());
                    self.taken.extend_from_slice(&bytes[..count]);
                    Ok(count)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn flaky(room: usize, failure: ErrorKind) -> FlakyWriter {
        FlakyWriter { taken: Vec::new(), room, failure, turn: 0 }
    }

    fn delivered<W: Write>(
        output: &mut Output<W>,
        events: Vec<Ran>,
    ) -> (u64, Result<(), HandlerError>) {
        let counters = HandlerCounters::default();
        let (mut outgoing, mut timers) = (Vec::new(), Vec::new());
        let cx = Context::<Never>::new(&counters, &mut outgoing, &mut timers);
        let batch = Batch::new("procs".into(), events);
        let result = output.take(&batch, &cx).and_then(|()| output.flush(&cx));
        (counters.output.load(Relaxed), result)
    }

    /// Returns the length of the example's line.
    fn line_length() -> usize {
        let mut output = Output::new(Vec::new(), Format::Json, false, "h");
        delivered(&mut output, vec![example()]).1.unwrap();
        output.writer.len()
    }

    #[test]
    fn slow_writer_gets_whole_lines() {
        let mut output = Output::new(flaky(usize::MAX, ErrorKind::Other), Format::Json, false, "h");
        let (count, result) = delivered(&mut output, vec![example(); 20]);
        result.unwrap();
        assert_eq!(count, 20);
        let text = String::from_utf8(output.writer.taken).unwrap();
        assert_eq!(text.len(), 20 * line_length());
        assert!(text.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
    }

    #[test]
    fn events_count_as_delivered_only_when_written() {
        let counters = HandlerCounters::default();
        let (mut outgoing, mut timers) = (Vec::new(), Vec::new());
        let cx = Context::<Never>::new(&counters, &mut outgoing, &mut timers);
        let mut output = Output::new(Vec::new(), Format::Table, false, "h");
        output.take(&Batch::new("procs".into(), vec![example(); 3]), &cx).unwrap();
        assert_eq!((output.writer.len(), counters.output.load(Relaxed)), (0, 0));
        output.flush(&cx).unwrap();
        output.flush(&cx).unwrap();
        assert_eq!(counters.output.load(Relaxed), 3, "the header is not an event");
        assert_eq!(whole_lines(&output.writer), 4);
    }

    #[test]
    fn failed_write_counts_the_lines_written_whole() {
        let full = ErrorKind::StorageFull;
        for (room, want) in
            [(0, 0), (line_length() - 1, 0), (line_length(), 1), (2 * line_length() + 5, 2)]
        {
            let mut output = Output::new(flaky(room, full), Format::Json, false, "h");
            let (count, result) = delivered(&mut output, vec![example(); 5]);
            assert_eq!(count, want, "room for {room} bytes");
            let error = result.unwrap_err();
            let lost = format!("cannot write to standard output: {} events lost", 5 - want);
            assert_eq!(error.to_string(), lost);
            assert!(error.source().is_some());
        }
    }

    #[test]
    fn header_does_not_count_as_an_event_when_a_write_fails() {
        let header = Output::new(Vec::new(), Format::Table, false, "h").buffer.len();
        let failing = flaky(header + 3, ErrorKind::StorageFull);
        let mut output = Output::new(failing, Format::Table, false, "h");
        let (count, result) = delivered(&mut output, vec![example()]);
        assert_eq!(count, 0);
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "cannot write to standard output: 1 event lost");
    }

    #[test]
    fn failure_in_the_middle_of_a_batch_counts_its_rest_as_lost() {
        let mut output =
            Output::new(flaky(10 * line_length(), ErrorKind::Other), Format::Json, false, "h");
        let (count, result) = delivered(&mut output, vec![example(); 500]);
        assert!(500 * line_length() > 2 * MAX_BUFFER, "the failure is not in the last write");
        assert_eq!(count, 10);
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "cannot write to standard output: 490 events lost");
    }

    #[test]
    fn closed_pipe_is_not_a_failure() {
        let closed = flaky(line_length(), ErrorKind::BrokenPipe);
        let mut output = Output::new(closed, Format::Json, false, "h");
        let (count, result) = delivered(&mut output, vec![example(); 3]);
        assert_eq!(count, 1);
        assert!(matches!(result, Err(HandlerError::Closed)), "{result:?}");
    }
}
