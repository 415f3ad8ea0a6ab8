//! A table of processes, for conditions on programs, parents and ancestors.

use std::collections::VecDeque;
use std::iter::successors;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use whalewatch_core::{
    Batch, Change, EventRef, Namespaces, PerType, Process, ProcessKey, Timestamp, Value,
};

use crate::context::ProgramFields;

/// How long an ended process is kept: events of its children and of other trackers may still refer
/// to it.
const LINGER: Duration = Duration::from_mins(1);
/// Maximum number of ancestors.
const MAX_ANCESTORS: usize = 16;
/// Longest path, and longest list of arguments, in bytes.
const MAX_BYTES: usize = 1024;

/// A process.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: ProcessKey,
    /// Its parent when it was created.
    pub(crate) parent: ProcessKey,
    pub(crate) namespaces: Namespaces,
    pub(crate) cgroup_id: u64,
    comm: [u8; 16],
    /// The program it runs, shared with its forks.
    program: Option<Arc<Program>>,
    ended: bool,
}

#[derive(Debug)]
struct Program {
    path: Box<[u8]>,
    /// Each followed by a NUL byte.
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

    /// Returns the path of the executable; `None` if the process already ran when the trackers
    /// started.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        self.program.as_ref().map(|program| &*program.path)
    }

    pub(crate) fn args(&self) -> Option<&[u8]> {
        self.program.as_ref().map(|program| &*program.args)
    }
}

/// At most `most` processes.
#[derive(Debug)]
pub(crate) struct Processes {
    entries: FxHashMap<ProcessKey, Entry>,
    /// Keys in the order of arrival; some may have been removed.
    order: VecDeque<ProcessKey>,
    ended: VecDeque<(Timestamp, ProcessKey)>,
    most: usize,
    /// Number of evicted processes.
    pub(crate) evicted: u64,
    /// Namespaces of the host.
    host: Option<Namespaces>,
    /// Where events have path and arguments.
    fields: PerType<ProgramFields>,
    /// The index in `fields` for the current batch.
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

    /// Returns the host's namespaces, once one of its first processes was seen.
    pub(crate) fn host(&self) -> Option<&Namespaces> {
        self.host.as_ref()
    }

    /// Returns a process and its ancestors.
    pub(crate) fn lineage<'a>(
        &'a self,
        from: Option<&'a Entry>,
    ) -> impl Iterator<Item = &'a Entry> {
        let up = |entry: &&'a Entry| self.get(entry.parent).filter(|up| up.key != entry.key);
        successors(from, up).take(MAX_ANCESTORS)
    }

    /// Prepares for the events of a batch.
    pub(crate) fn prepare(&mut self, batch: &Batch) {
        self.plan = Some(self.fields.place(batch, ProgramFields::new));
    }

    /// Updates the table from an event of the prepared batch.
    pub(crate) fn update(&mut self, event: EventRef<'_>) {
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
                // Pid 1, or pid 2 (a kernel thread) if pid 1 was not reported.
                if process.pid == 1 || process.pid == 2 && self.host.is_none() {
                    self.host = Some(process.namespaces);
                }
                if !self.entries.contains_key(&process.key()) {
                    self.insert(Entry::new(process, None));
                }
            }
            Change::Forked { parent } => {
                let program = self.get(parent).and_then(|parent| parent.program.clone());
                match self.entries.get_mut(&process.key()) {
                    // It was in the list of existing processes, or has already run a program.
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
        let values = fields.map(|fields| (fields.path(event), fields.args(event)));
        let (path, args) = values.unwrap_or((Value::Null, Value::Null));
        let bytes = |value| match value {
            Value::Text(bytes) => &bytes[..bytes.len().min(MAX_BYTES)],
            // Cut between two arguments, so that no cut argument looks like another one.
            Value::Texts(list) => match list.0.get(..MAX_BYTES) {
                Some(cut) => &cut[..cut.iter().rposition(|&b| b == 0).map_or(0, |end| end + 1)],
                None => list.0,
            },
            _ => b"",
        };
        Arc::new(Program { path: bytes(path).into(), args: bytes(args).into() })
    }

    fn insert(&mut self, entry: Entry) {
        while self.entries.len() >= self.most {
            let Some(oldest) = self.next_to_evict() else { break };
            self.evicted += u64::from(self.entries.remove(&oldest).is_some());
        }
        self.order.push_back(entry.key);
        self.entries.insert(entry.key, entry);
        if self.order.len() > 2 * self.most {
            self.order.retain(|key| self.entries.contains_key(key));
        }
    }

    /// Returns the process to evict: the one that ended first, otherwise the oldest.
    fn next_to_evict(&mut self) -> Option<ProcessKey> {
        self.ended.pop_front().map(|(_, key)| key).or_else(|| self.order.pop_front())
    }

    fn end(&mut self, key: ProcessKey, at: Timestamp) {
        // Each process at most once, so that there are never more entries than processes.
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
