//! From batches to whole lines to a writer, with every event counted.

use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use whalewatch_core::{Batch, Context, HandlerError};
use whalewatch_kit::Json;

use crate::options::Format;
use crate::table::Table;

/// How much is gathered before it is written in the middle of a batch.
const ENOUGH: usize = 64 * 1024;

/// Writes events as lines to `W`, which should not buffer: this does.
///
/// An event is counted as delivered when its whole line has been taken by `W`, not before: so the
/// counts are exact also when a write fails in the middle, and what was still in the buffer then is
/// left uncounted, for the runtime to count as errors.
#[derive(Debug)]
pub struct Output<W> {
    writer: W,
    form: Form,
    /// Whole lines that wait to be written.
    buffer: Vec<u8>,
    /// How many of them are events.
    events: u64,
    /// How many lines before them are not.
    titles: u64,
}

#[derive(Debug)]
enum Form {
    Json(Json),
    Table(Table),
}

/// A write failed.
struct Broken {
    error: io::Error,
    /// Events that waited and were not written.
    lost: u64,
}

impl<W: Write> Output<W> {
    /// Writes to `writer` in the given format; `host` is the name of this host.
    pub fn new(writer: W, format: Format, color: bool, host: &str) -> Self {
        let mut buffer = Vec::new();
        let (form, titles) = match format {
            Format::Json => (Form::Json(Json::new(host)), 0),
            Format::Table => {
                let table = Table::new(color);
                table.header(&mut buffer);
                (Form::Table(table), 1)
            }
        };
        Self { writer, form, buffer, events: 0, titles }
    }

    /// Takes a batch. Some of it may stay in the buffer until [`Output::flush`].
    ///
    /// # Errors
    /// [`HandlerError::Closed`] if nobody reads any more, [`HandlerError::Failed`] if a write
    /// failed for another reason.
    pub fn take<M>(&mut self, batch: &Batch, cx: &Context<'_, M>) -> Result<(), HandlerError> {
        let plan = match &mut self.form {
            Form::Json(json) => json.plan(batch),
            Form::Table(table) => table.plan(batch),
        };
        for (done, event) in (1..).zip(batch.iter()) {
            match &mut self.form {
                Form::Json(json) => json.event(&mut self.buffer, plan, event),
                Form::Table(table) => table.write(&mut self.buffer, plan, event),
            }
            self.events += 1;
            if self.buffer.len() >= ENOUGH {
                self.write_out(cx).map_err(|broken| broken.failed(batch.len() as u64 - done))?;
            }
        }
        Ok(())
    }

    /// Writes what is in the buffer.
    ///
    /// # Errors
    /// As for [`Output::take`].
    pub fn flush<M>(&mut self, cx: &Context<'_, M>) -> Result<(), HandlerError> {
        self.write_out(cx).map_err(|broken| broken.failed(0))
    }

    /// Writes the buffer, counts the events whose lines got out whole, and leaves the buffer empty
    /// in any case.
    fn write_out<M>(&mut self, cx: &Context<'_, M>) -> Result<(), Broken> {
        let (written, result) = write_all(&mut self.writer, &self.buffer);
        let lines = match result {
            Ok(()) => self.titles + self.events,
            Err(_) => whole_lines(&self.buffer[..written]),
        };
        let delivered = lines.saturating_sub(self.titles);
        let lost = self.events - delivered;
        cx.delivered(delivered);
        self.buffer.clear();
        (self.events, self.titles) = (0, 0);
        result.map_err(|error| Broken { error, lost })
    }
}

/// As [`Write::write_all`], but says how much was written when it fails, and waits for a writer
/// that does not block: a terminal or a pipe is put into that state for all who share it, so
/// another program can have done so.
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

/// How many lines are there with their end.
fn whole_lines(bytes: &[u8]) -> u64 {
    bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")).count() as u64
}

impl Broken {
    /// As the handler's error, where `unwritten` more events of the batch at hand are lost with it.
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
    use whalewatch_kit::testing::{Ran, example};

    use super::*;

    /// Takes `room` bytes, at most seven at a time and with every kind of hiccup, then fails.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
        failure: ErrorKind,
        turn: usize,
    }

    impl Write for Narrow {
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

    fn narrow(room: usize, failure: ErrorKind) -> Narrow {
        Narrow { taken: Vec::new(), room, failure, turn: 0 }
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

    /// Length of the example's line.
    fn line() -> usize {
        let mut output = Output::new(Vec::new(), Format::Json, false, "h");
        delivered(&mut output, vec![example()]).1.unwrap();
        output.writer.len()
    }

    #[test]
    fn a_slow_writer_gets_every_line_whole() {
        let mut output =
            Output::new(narrow(usize::MAX, ErrorKind::Other), Format::Json, false, "h");
        let (count, result) = delivered(&mut output, vec![example(); 20]);
        result.unwrap();
        assert_eq!(count, 20);
        let text = String::from_utf8(output.writer.taken).unwrap();
        assert_eq!(text.len(), 20 * line());
        assert!(text.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
    }

    #[test]
    fn events_are_counted_when_they_are_written_and_not_before() {
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
    fn a_failed_write_counts_exactly_the_lines_that_got_out_whole() {
        let full = ErrorKind::StorageFull;
        for (room, want) in [(0, 0), (line() - 1, 0), (line(), 1), (2 * line() + 5, 2)] {
            let mut output = Output::new(narrow(room, full), Format::Json, false, "h");
            let (count, result) = delivered(&mut output, vec![example(); 5]);
            assert_eq!(count, want, "room for {room} bytes");
            let error = result.unwrap_err();
            let lost = format!("cannot write to standard output: {} events lost", 5 - want);
            assert_eq!(error.to_string(), lost);
            assert!(error.source().is_some());
        }
    }

    #[test]
    fn the_header_is_no_event_when_a_write_fails() {
        let header = Output::new(Vec::new(), Format::Table, false, "h").buffer.len();
        let failing = narrow(header + 3, ErrorKind::StorageFull);
        let mut output = Output::new(failing, Format::Table, false, "h");
        let (count, result) = delivered(&mut output, vec![example()]);
        assert_eq!(count, 0);
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "cannot write to standard output: 1 event lost");
    }

    #[test]
    fn a_failure_in_the_middle_of_a_batch_counts_the_rest_of_it_as_lost() {
        let mut output =
            Output::new(narrow(10 * line(), ErrorKind::Other), Format::Json, false, "h");
        let (count, result) = delivered(&mut output, vec![example(); 500]);
        assert!(500 * line() > 2 * ENOUGH, "the failure is not in the last write");
        assert_eq!(count, 10);
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "cannot write to standard output: 490 events lost");
    }

    #[test]
    fn a_closed_pipe_is_not_a_failure() {
        let closed = narrow(line(), ErrorKind::BrokenPipe);
        let mut output = Output::new(closed, Format::Json, false, "h");
        let (count, result) = delivered(&mut output, vec![example(); 3]);
        assert_eq!(count, 1);
        assert!(matches!(result, Err(HandlerError::Closed)), "{result:?}");
    }
}
