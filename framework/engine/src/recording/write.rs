//! Writing a recording.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use whalewatch_core::{Batch, EventRef, Outside, PerType, Schema, Timestamp};

use super::VERSION;
use super::line::{EventLine, Header, Line};
use super::recorded;

/// Capacity of the writer's queue, in entries of up to 256 events. When it is full, trackers wait,
/// and the kernel's buffers fill.
const QUEUE: usize = 256;

/// Records the events of trackers and the outside input of handlers. A separate thread writes them.
#[derive(Clone)]
pub struct Recorder {
    to: flume::Sender<Entry>,
}

/// The handle to finish the recording of a [`Recorder`].
pub struct RecorderEnd {
    to: flume::Sender<Entry>,
    thread: JoinHandle<io::Result<u64>>,
}

enum Entry {
    Batch { at: Timestamp, tracker: Part, existing: bool, batch: Batch },
    Line(Line),
    End,
}

/// Name and type of a tracker or handler.
#[derive(Clone)]
struct Part {
    name: Arc<str>,
    type_name: Arc<str>,
}

/// Records what one part of the run sends or hears.
#[derive(Clone)]
pub(crate) struct PartRecorder {
    recorder: Recorder,
    part: Part,
}

impl Recorder {
    /// Starts a recording in `file`. `host` is the host name. Writes are buffered, so `file` should
    /// not buffer them again.
    ///
    /// # Errors
    /// If the header cannot be written, or the thread cannot be started.
    pub fn start(file: impl Write + Send + 'static, host: &str) -> io::Result<(Self, RecorderEnd)> {
        let mut file = BufWriter::with_capacity(1 << 16, file);
        let header = Header { recording: VERSION, host: host.to_owned(), at: Timestamp::now() };
        serde_json::to_writer(&mut file, &header)?;
        file.write_all(b"\n")?;
        file.flush()?;
        let (to, from) = flume::bounded(QUEUE);
        let thread =
            thread::Builder::new().name("recorder".into()).spawn(move || write_all(&from, file))?;
        Ok((Self { to: to.clone() }, RecorderEnd { to, thread }))
    }

    /// Returns the recorder for the part with this name and type.
    pub(crate) fn part(&self, name: &Arc<str>, type_name: &str) -> PartRecorder {
        let part = Part { name: Arc::clone(name), type_name: type_name.into() };
        PartRecorder { recorder: self.clone(), part }
    }

    fn take(&self, entry: Entry) {
        // After a failed write the thread has ended; `finish` reports the error.
        self.to.send(entry).ok();
    }
}

impl RecorderEnd {
    /// Waits until everything is written. Returns the number of events in the recording.
    ///
    /// # Errors
    /// If a write failed; then the recording is incomplete.
    pub fn finish(self) -> io::Result<u64> {
        self.to.send(Entry::End).ok(); // After a failed write the thread has ended.
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the recorder panicked")))
    }
}

impl PartRecorder {
    /// Records a batch that the tracker sends.
    pub(crate) fn batch(&self, batch: &Batch, existing: bool) {
        let (at, tracker) = (Timestamp::now(), self.part.clone());
        self.recorder.take(Entry::Batch { at, tracker, existing, batch: batch.clone() });
    }

    /// Records a message that a handler got from one of its helper threads.
    pub(crate) fn message(&self, text: String) {
        let handler = self.part.name.to_string();
        self.recorder.take(Entry::Line(Line::Heard { at: Timestamp::now(), handler, text }));
    }

    /// Returns the live [`Outside`], whose answers are recorded.
    pub(crate) fn outside(&self) -> Outside {
        let part = self.clone();
        Outside::live(Some(Box::new(move |question, answer| {
            part.recorder.take(Entry::Line(Line::Answer {
                at: Timestamp::now(),
                handler: part.part.name.to_string(),
                question: question.to_owned(),
                answer: answer.map(str::to_owned),
            }));
        })))
    }
}

fn write_all(from: &flume::Receiver<Entry>, mut file: impl Write) -> io::Result<u64> {
    let mut events = 0;
    let mut schemas: PerType<Schema> = PerType::new();
    for entry in from {
        match entry {
            Entry::End => break,
            Entry::Line(line) => write_line(&mut file, &line)?,
            Entry::Batch { at, tracker, existing, batch } => {
                let schema = schemas.of(&batch, Schema::clone);
                for event in batch.iter() {
                    events += 1;
                    let line = event_line(at, &tracker, existing, schema, event);
                    write_line(&mut file, &Line::Event(Box::new(line)))?;
                }
            }
        }
        if from.is_empty() {
            file.flush()?;
        }
    }
    file.flush()?;
    Ok(events)
}

fn write_line(file: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

fn event_line(
    at: Timestamp,
    tracker: &Part,
    existing: bool,
    schema: &Schema,
    event: EventRef<'_>,
) -> EventLine {
    let fields = schema.own().filter_map(|(info, accessor)| {
        Some((Cow::Borrowed(info.name), recorded::json(event.value(*accessor))?))
    });
    EventLine {
        at,
        tracker: tracker.name.to_string(),
        type_name: tracker.type_name.to_string(),
        existing,
        event: schema.name.to_owned(),
        kind: event.kind().to_owned(),
        time: event.time(),
        process: event.process().copied(),
        target: event.target().copied(),
        cgroup: event.cgroup(),
        change: event.change().map(Into::into),
        fields: fields.collect(),
    }
}
