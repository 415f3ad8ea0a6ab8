//! Reading a recording.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use whalewatch_core::{Batch, Schema, Timestamp};

use super::VERSION;
use super::line::{EventLine, Header, Line};
use super::recorded::Recorded;

/// Bytes that a line may have: far more than an event does.
const LONGEST_LINE: u64 = 16 << 20;
/// Events in a batch at most, as trackers send them.
const BATCH: usize = 256;

/// A recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file.
    #[error("recording {} cannot be read: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of it.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file's path.
        path: PathBuf,
        /// Which line; the first is 1.
        line: u64,
        /// What is wrong with it.
        message: String,
    },
}

/// What happened next.
pub(crate) struct Item {
    pub(crate) at: Timestamp,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// Events of a tracker.
    Batch { tracker: String, type_name: String, existing: bool, batch: Batch },
    /// A handler's helper told something.
    Heard { handler: String, text: String },
    /// The world answered a handler: see [`Reader::answers`].
    Answer,
}

/// What the world answered, by handler: each question with its answer.
pub(crate) type Answers = HashMap<String, Vec<(String, Option<String>)>>;

/// Reads a recording from its beginning.
pub(crate) struct Reader {
    path: PathBuf,
    lines: BufReader<File>,
    line: u64,
    /// What the events of all trackers look like.
    schemas: Vec<Schema>,
    header: Header,
    /// A line that was read and is not given yet.
    next: Option<Line>,
    text: Vec<u8>,
}

impl Reader {
    /// Opens it; `schemas` are those of all events that this program knows.
    pub(crate) fn open(path: &Path, schemas: Vec<Schema>) -> Result<Self, RecordingError> {
        let file = File::open(path);
        let file = file.map_err(|source| RecordingError::File { path: path.into(), source })?;
        let header = Header { recording: 0, host: String::new(), at: Timestamp(0) };
        let mut reader = Self {
            path: path.into(),
            lines: BufReader::with_capacity(1 << 16, file),
            line: 0,
            schemas,
            header,
            next: None,
            text: Vec::new(),
        };
        reader.header = match reader.parse_line::<Header>() {
            Ok(Some(header)) => header,
            Ok(None) => return Err(reader.wrong("it is empty: make one with `whalewatch record`")),
            Err(RecordingError::Line { .. }) => {
                let hint = "it does not begin like a recording: make one with `whalewatch record`";
                return Err(reader.wrong(hint));
            }
            Err(error) => return Err(error),
        };
        if reader.header.recording != VERSION {
            let version = reader.header.recording;
            let message = format!(
                "it is of version {version}, and this program reads version {VERSION}: record anew"
            );
            return Err(reader.wrong(message));
        }
        Ok(reader)
    }

    /// Name of the host that it was made on.
    pub(crate) fn host(&self) -> &str {
        &self.header.host
    }

    /// When it began.
    pub(crate) fn start(&self) -> Timestamp {
        self.header.at
    }

    fn wrong(&self, message: impl Into<String>) -> RecordingError {
        RecordingError::Line { path: self.path.clone(), line: self.line, message: message.into() }
    }

    /// Reads the next line that is not empty into `text`; whether there was one.
    fn read_line(&mut self) -> Result<bool, RecordingError> {
        loop {
            self.text.clear();
            self.line += 1;
            let mut line = io::Read::take(&mut self.lines, LONGEST_LINE + 1);
            let count = line
                .read_until(b'\n', &mut self.text)
                .map_err(|source| RecordingError::File { path: self.path.clone(), source })?;
            if count as u64 > LONGEST_LINE {
                return Err(self.wrong("the line is longer than 16 MiB"));
            }
            if count == 0 || !self.text.trim_ascii().is_empty() {
                return Ok(count > 0);
            }
        }
    }

    fn parse_line<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, RecordingError> {
        if !self.read_line()? {
            return Ok(None);
        }
        let parsed = serde_json::from_slice(&self.text);
        parsed.map(Some).map_err(|error| self.wrong(error.to_string()))
    }

    /// What the world answered, to the end of the recording. Other lines are not looked into.
    pub(crate) fn answers(mut self) -> Result<Answers, RecordingError> {
        let mut all = Answers::new();
        while self.read_line()? {
            let asks = str::from_utf8(&self.text).is_ok_and(|text| text.contains("\"question\""));
            if !asks {
                continue;
            }
            let parsed = serde_json::from_slice::<Line>(&self.text);
            let parsed = parsed.map_err(|error| self.wrong(error.to_string()))?;
            if let Line::Answer { handler, question, answer, .. } = parsed {
                all.entry(handler).or_default().push((question, answer));
            }
        }
        Ok(all)
    }

    fn next_line(&mut self) -> Result<Option<Line>, RecordingError> {
        match self.next.take() {
            Some(line) => Ok(Some(line)),
            None => self.parse_line(),
        }
    }

    /// What happened next; events that a tracker read at once come as one batch.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, RecordingError> {
        let Some(line) = self.next_line()? else { return Ok(None) };
        Ok(Some(match line {
            Line::Heard { at, handler, text } => Item { at, what: What::Heard { handler, text } },
            Line::Answer { at, .. } => Item { at, what: What::Answer },
            Line::Event(first) => self.batch(*first)?,
        }))
    }

    fn batch(&mut self, first: EventLine) -> Result<Item, RecordingError> {
        let schema = self.schemas.iter().find(|schema| schema.name == first.event).cloned();
        let schema = schema.ok_or_else(|| {
            self.wrong(format!(
                "this program has no tracker whose events are called \"{}\"",
                first.event
            ))
        })?;
        let (at, existing) = (first.at, first.existing);
        let (tracker, type_name) = (first.tracker.clone(), first.type_name.clone());
        let event = schema.name;
        let mut events = Recorded::new(schema);
        let mut line = first;
        let mut count = 0;
        loop {
            events.push(line).map_err(|message| self.wrong(message))?;
            count += 1;
            match self.next_line()? {
                Some(Line::Event(next))
                    if count < BATCH
                        && (next.at, next.existing) == (at, existing)
                        && next.tracker == tracker
                        && next.event == event =>
                {
                    line = *next;
                }
                other => {
                    self.next = other;
                    break;
                }
            }
        }
        let batch = Batch::of(tracker.as_str().into(), events);
        Ok(Item { at, what: What::Batch { tracker, type_name, existing, batch } })
    }
}
