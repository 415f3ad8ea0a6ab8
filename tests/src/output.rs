//! The JSON lines that Whalewatch prints.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

/// Identifies a process for good: its pid and its start time.
pub type Key = (u64, u64);

/// One line, parsed.
#[derive(Clone, Debug)]
pub struct Event(pub Value);

impl Event {
    /// Returns its kind: `process.exec`, …
    pub fn kind(&self) -> &str {
        self.0["kind"].as_str().unwrap_or_default()
    }

    /// Returns its time as printed.
    pub fn time(&self) -> &str {
        self.0["time"].as_str().unwrap_or_default()
    }

    /// Returns its process; `None` for an event without one.
    pub fn key(&self) -> Option<Key> {
        let process = &self.0["process"];
        Some((process["pid"].as_u64()?, process["start_time"].as_u64()?))
    }

    /// Returns the id of its cgroup; `None` if unknown.
    pub fn cgroup(&self) -> Option<u64> {
        self.0["process"]["cgroup_id"].as_u64().filter(|&id| id != 0)
    }

    /// Returns the command line of an exec.
    pub fn args(&self) -> Vec<&str> {
        let args = self.0["process"]["command_args"].as_array();
        args.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Returns the id of the container that it is attributed to.
    pub fn container_id(&self) -> Option<&str> {
        self.0["container"]["id"].as_str()
    }

    /// Returns the name of the container that it is attributed to.
    pub fn container_name(&self) -> Option<&str> {
        self.0["container"]["name"].as_str()
    }

    /// Returns the state of its attribution: `resolved`, `pending`, `unknown` or `host`.
    pub fn state(&self) -> &str {
        self.0["attribution"]["state"].as_str().unwrap_or_default()
    }

    /// Whether it is an exec with exactly these arguments.
    pub fn is_exec_of(&self, args: &[&str]) -> bool {
        self.kind() == "process.exec" && self.args() == args
    }
}

/// A file of JSON lines that grows while it is read.
#[derive(Debug)]
pub struct Output {
    file: BufReader<File>,
    /// How many bytes of it have been read.
    read: u64,
    /// The beginning of a line that is not complete yet.
    partial: String,
    events: Vec<Event>,
}

impl Output {
    /// Opens the file.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[track_caller]
    pub fn open(path: &Path) -> Self {
        let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        file.seek(SeekFrom::Start(0)).expect("a file can be read from its start");
        Self { file: BufReader::new(file), read: 0, partial: String::new(), events: Vec::new() }
    }

    /// Returns all events so far, those read before and new ones.
    ///
    /// # Panics
    /// On a line that is not JSON.
    #[track_caller]
    pub fn events(&mut self) -> &[Event] {
        // Only the file's present content: a slow reader would never catch up with a fast writer,
        // and its caller would never reach its deadline.
        let end = self.file.get_ref().metadata().expect("an open file has metadata").len();
        while self.read < end {
            let read = self.file.read_line(&mut self.partial).expect("the output is UTF-8");
            self.read += read as u64;
            if read == 0 || !self.partial.ends_with('\n') {
                break;
            }
            self.events.push(Event(parse(&self.partial)));
            self.partial.clear();
        }
        &self.events
    }

    /// Returns all events, once the writer has exited.
    ///
    /// # Panics
    /// If the last line is not complete.
    #[track_caller]
    pub fn finish(mut self) -> Vec<Event> {
        self.events();
        assert!(self.partial.is_empty(), "the last line was cut: {:?}", self.partial);
        self.events
    }
}

#[track_caller]
fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("a line is not JSON: {e}: {line}"))
}
