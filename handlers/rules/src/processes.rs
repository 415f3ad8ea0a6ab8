//! What is remembered of processes: what conditions ask of programs, parents and ancestors.

use std::collections::VecDeque;
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use whalewatch_core::{
    Batch, Change, EventRef, Namespaces, PerType, Process, ProcessKey, Timestamp, Value,
};

use crate::context::ProgramFields;

/// How long an ended process is remembered: its children, and events of other trackers, may still
/// ask for it.
const LINGER: Duration = Duration::from_mins(1);
/// How many ancestors are told.
const MOST_ANCESTORS: usize = 16;
/// How many bytes of a path and of arguments are remembered.
const MOST_BYTES: usize = 1024;

/// A process.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: ProcessKey,
    /// Its parent when it was made.
    pub(crate) parent: ProcessKey,
    pub(crate) namespaces: Namespaces,
    pub(crate) cgroup_id: u64,
    comm: [u8; 16],
    /// What it runs; shared with those that it forks.
    program: Option<Arc<Program>>,
    ended: bool,
}

#[derive(Debug)]
struct Program {
    path: Box<[u8]>,
    /// Each closed by a NUL byte.
    args: Box<[u8]>,
}

impl Entry {
    fn new(process: &Process, program: Option<Arc<Program>>) -> Self {
        Self {
            key: process.key(),
            parent: process.parent_key(),
            namespaces: process.namespaces,
            cgroup_id: process.cgroup_id,
            comm: process.comm,
            program,
            ended: false,
        }
    }

    pub(crate) fn comm(&self) -> &[u8] {
        let end = self.comm.iter().position(|&b| b == 0).unwrap_or(self.comm.len());
        &self.comm[..end]
    }

    /// Path of its executable; not known of one that ran before the watching began.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        self.program.as_ref().map(|program| &*program.path)
    }

    pub(crate) fn args(&self) -> Option<&[u8]> {
        self.program.as_ref().map(|program| &*program.args)
    }
}

/// Processes by who they are, at most so many.
#[derive(Debug)]
pub(crate) struct Processes {
    entries: FxHashMap<ProcessKey, Entry>,
    /// In the order they came, some of them gone.
    order: VecDeque<ProcessKey>,
    ended: VecDeque<(Timestamp, ProcessKey)>,
    most: usize,
    /// How many had to make room.
    pub(crate) evicted: u64,
    /// Namespaces of the host.
    host: Option<Namespaces>,
    /// Where events have path and arguments.
    fields: PerType<ProgramFields>,
    /// The place in `fields` of the batch that was prepared for.
    plan: Option<usize>,
}

impl Processes {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: FxHashMap::default(),
            order: VecDeque::new(),
            ended: VecDeque::new(),
            most,
            evicted: 0,
            host: None,
            fields: PerType::new(),
            plan: None,
        }
    }

    pub(crate) fn get(&self, key: ProcessKey) -> Option<&Entry> {
        self.entries.get(&key)
    }

    /// Namespaces of the host, once one of its first processes was seen.
    pub(crate) fn host(&self) -> Option<&Namespaces> {
        self.host.as_ref()
    }

    /// A process and its ancestors.
    pub(crate) fn line<'a>(&'a self, from: Option<&'a Entry>) -> impl Iterator<Item = &'a Entry> {
        let up = |entry: &&'a Entry| self.get(entry.parent).filter(|up| up.key != entry.key);
        successors(from, up).take(MOST_ANCESTORS)
    }

    /// Makes ready for the events of a batch.
    pub(crate) fn prepare(&mut self, batch: &Batch) {
        self.plan = Some(self.fields.place(batch, ProgramFields::new));
    }

    /// Takes in what an event of the batch that was prepared for says of processes.
    pub(crate) fn see(&mut self, event: EventRef<'_>) {
        let Some(change) = event.change() else { return };
        if let Change::Moved { process, to } = change {
            if let Some(entry) = self.entries.get_mut(&process) {
                entry.cgroup_id = to;
            }
            return;
        }
        let Some(process) = event.process() else { return };
        match change {
            Change::Existing => {
                // The first process, or where it is not told the first of the kernel's own.
                if process.pid == 1 || process.pid == 2 && self.host.is_none() {
                    self.host = Some(process.namespaces);
                }
                if !self.entries.contains_key(&process.key()) {
                    self.insert(Entry::new(process, None));
                }
            }
            Change::Forked { parent } => {
                let program = self.get(parent).and_then(|maker| maker.program.clone());
                match self.entries.get_mut(&process.key()) {
                    // It was read from the list of what existed, or has run something by now.
                    Some(entry) => entry.program = entry.program.take().or(program),
                    None => self.insert(Entry::new(process, program)),
                }
            }
            Change::Executed => {
                let program = Some(self.program(event));
                match self.entries.get_mut(&process.key()) {
                    Some(entry) => {
                        let (parent, ended) = (entry.parent, entry.ended);
                        *entry = Entry { parent, ended, ..Entry::new(process, program) };
                    }
                    None => self.insert(Entry::new(process, program)),
                }
            }
            Change::Exited => self.end(process.key(), event.time()),
            _ => {}
        }
    }

    fn program(&self, event: EventRef<'_>) -> Arc<Program> {
        let fields = self.plan.map(|plan| self.fields[plan]);
        let told = fields.map(|fields| (fields.path(event), fields.args(event)));
        let (path, args) = told.unwrap_or((Value::Null, Value::Null));
        let bytes = |value| match value {
            Value::Text(bytes) => &bytes[..bytes.len().min(MOST_BYTES)],
            // Cut between two, so that no argument looks like another.
            Value::Texts(list) => match list.0.get(..MOST_BYTES) {
                Some(cut) => &cut[..cut.iter().rposition(|&b| b == 0).map_or(0, |end| end + 1)],
                None => list.0,
            },
            _ => b"",
        };
        Arc::new(Program { path: bytes(path).into(), args: bytes(args).into() })
    }

    fn insert(&mut self, entry: Entry) {
        while self.entries.len() >= self.most {
            let Some(oldest) = self.leave() else { break };
            self.evicted += u64::from(self.entries.remove(&oldest).is_some());
        }
        self.order.push_back(entry.key);
        self.entries.insert(entry.key, entry);
        if self.order.len() > 2 * self.most {
            self.order.retain(|key| self.entries.contains_key(key));
        }
    }

    /// Who goes first where there is no room: who ended first, else who came first.
    fn leave(&mut self) -> Option<ProcessKey> {
        self.ended.pop_front().map(|(_, key)| key).or_else(|| self.order.pop_front())
    }

    fn end(&mut self, key: ProcessKey, at: Timestamp) {
        // Each at most once, so that there are no more of them than processes.
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| !entry.ended) {
            entry.ended = true;
            self.ended.push_back((at, key));
        }
        while let Some(&(ended, key)) = self.ended.front()
            && ended.until(at) > LINGER
        {
            self.ended.pop_front();
            self.entries.remove(&key);
        }
    }
}
