//! Reading a recording.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use whalewatch_core::{Batch, Schema, Timestamp};

use super::VERSION;
use super::line::{EventLine, Header, Line};
use super::recorded::Recorded;

/// Longest line, in bytes: far more than an event needs.
const MAX_LINE: u64 = 16 << 20;
/// Largest batch, in events: as large as those of trackers.
const MAX_BATCH: usize = 256;

/// A recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("cannot read the recording {}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line is malformed.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line; the first is 1.
        line: u64,
        /// What is wrong with the line.
        message: String,
    },
}

/// One thing that was recorded.
pub(crate) struct Item {
    pub(crate) at: Timestamp,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// Events of a tracker.
    Batch { tracker: String, type_name: String, existing: bool, batch: Batch },
    /// A message from a handler's helper thread.
    Heard { handler: String, text: String },
    /// An answer for a handler; [`Reader::answers`] has its text.
    Answer,
}

/// The recorded questions of each handler, with their answers, in order.
pub(crate) type Answers = HashMap<String, Vec<(String, Option<String>)>>;

/// Reads a recording from start to end.
pub(crate) struct Reader {
    path: PathBuf,
    lines: BufReader<File>,
    line: u64,
    /// Schemas of the events of all trackers.
    schemas: Vec<Schema>,
    header: Header,
    /// A line that was read ahead.
    next: Option<Line>,
    text: Vec<u8>,
}

impl Reader {
    /// Opens a recording and reads its header. `schemas` are those of all events of this program.
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
            Ok(None) => {
                let message = "the file is empty: make a recording with `whalewatch record`";
                return Err(reader.error(message));
            }
            Err(RecordingError::Line { .. }) => {
                let message = "this is not a recording: make one with `whalewatch record`";
                return Err(reader.error(message));
            }
            Err(error) => return Err(error),
        };
        if reader.header.recording != VERSION {
            let version = reader.header.recording;
            let message = format!(
                "the recording has version {version}, and this program reads version {VERSION}: \
                 record again"
            );
            return Err(reader.error(message));
        }
        Ok(reader)
    }

    /// Returns the name of the host that was recorded.
    pub(crate) fn host(&self) -> &str {
        &self.header.host
    }

    /// Returns the start of the recording.
    pub(crate) fn start(&self) -> Timestamp {
        self.header.at
    }

    /// Makes an error about the current line.
    fn error(&self, message: impl Into<String>) -> RecordingError {
        RecordingError::Line { path: self.path.clone(), line: self.line, message: message.into() }
    }

    /// Reads the next line that is not empty into `text`. Returns false at the end.
    fn read_line(&mut self) -> Result<bool, RecordingError> {
        loop {
            self.text.clear();
            self.line += 1;
            let mut line = io::Read::take(&mut self.lines, MAX_LINE + 1);
            let count = line
                .read_until(b'\n', &mut self.text)
                .map_err(|source| RecordingError::File { path: self.path.clone(), source })?;
            if count as u64 > MAX_LINE {
                return Err(self.error("the line is longer than 16 MiB"));
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
        parsed.map(Some).map_err(|error| self.error(error.to_string()))
    }

    /// Reads all answers, to the end of the recording. Other lines are skipped unparsed.
    pub(crate) fn answers(mut self) -> Result<Answers, RecordingError> {
        let mut all = Answers::new();
        while self.read_line()? {
            let question = str::from_utf8(&self.text).is_ok_and(|t| t.contains("\"question\""));
            if !question {
                continue;
            }
            let parsed = serde_json::from_slice::<Line>(&self.text);
            let parsed = parsed.map_err(|error| self.error(error.to_string()))?;
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

    /// Returns the next item. Events that a tracker read together are one batch.
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
            self.error(format!("this program has no tracker of \"{}\" events", first.event))
        })?;
        let (at, existing) = (first.at, first.existing);
        let (tracker, type_name) = (first.tracker.clone(), first.type_name.clone());
        let event = schema.name;
        let mut events = Recorded::new(schema);
        let mut line = first;
        let mut count = 0;
        loop {
            events.push(line).map_err(|message| self.error(message))?;
            count += 1;
            match self.next_line()? {
                Some(Line::Event(next))
                    if count < MAX_BATCH
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
