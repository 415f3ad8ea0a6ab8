//! Windows that are open, and the groups in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use whalewatch_core::Attribution;

use crate::compute::Function;
use crate::state::State;

/// The events of one window that have the same key.
#[derive(Debug)]
pub(crate) struct Group {
    /// `None` for events that there was no group for.
    pub(crate) key: Option<Arc<[u8]>>,
    /// Of the last event, where the container is part of the key.
    pub(crate) attribution: Attribution,
    pub(crate) events: u64,
    /// Events of this key that came after their own window had closed.
    pub(crate) late: u64,
    pub(crate) states: Box<[State]>,
}

/// Its groups, in the order in which they came.
#[derive(Debug, Default)]
struct Window {
    groups: Vec<Group>,
    index: HashMap<Arc<[u8]>, usize>,
    rest: Option<usize>,
    /// The group that was asked for last: neighbours in a batch are mostly of one key.
    last: usize,
}

/// All windows that are open.
#[derive(Debug)]
pub(crate) struct Windows {
    functions: Box<[Function]>,
    length: u64,
    late: u64,
    most_groups: usize,
    most_values: usize,
    /// By their starts.
    open: BTreeMap<u64, Window>,
    /// Groups in all of them, those for the rest not counted.
    groups: usize,
    /// All windows that end up to here are closed.
    closed: u64,
}

impl Windows {
    /// Of that length, open for events that come late by so much; all in nanoseconds.
    pub(crate) fn new(
        functions: Box<[Function]>,
        length: u64,
        late: u64,
        most_groups: usize,
        most_values: usize,
    ) -> Self {
        let (open, groups, closed) = (BTreeMap::new(), 0, 0);
        Self { functions, length, late, most_groups, most_values, open, groups, closed }
    }

    /// Whether none is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The group for an event of that key and time, and whether the event comes too late for its
    /// own window: then it is the group of the oldest window that can still be open.
    pub(crate) fn find(&mut self, key: &[u8], time: u64) -> (&mut Group, bool) {
        let start = time - time % self.length;
        let late = start < self.closed;
        let window = self.open.entry(start.max(self.closed)).or_default();
        if window.groups.get(window.last).is_none_or(|group| group.key.as_deref() != Some(key)) {
            window.last = match window.index.get(key) {
                Some(known) => *known,
                None => {
                    let states = || {
                        let functions = self.functions.iter();
                        functions.map(|f| State::new(*f, self.most_values)).collect()
                    };
                    let room = self.groups < self.most_groups;
                    self.groups += usize::from(room);
                    window.insert(key, room, states)
                }
            };
        }
        (&mut window.groups[window.last], late)
    }

    /// Closes the windows that need no longer stay open at that time, and gives the groups of each
    /// with its start and end, the oldest first. At the end of time all are closed.
    pub(crate) fn close(&mut self, now: u64, mut give: impl FnMut(u64, u64, Group)) {
        let closed = now.saturating_sub(self.late) / self.length * self.length;
        self.closed = self.closed.max(closed);
        while let Some(first) = self.open.first_entry()
            && (*first.key() < self.closed || now == u64::MAX)
        {
            let (start, window) = first.remove_entry();
            self.groups -= window.index.len();
            let end = start.saturating_add(self.length);
            window.groups.into_iter().for_each(|group| give(start, end, group));
        }
    }

    /// Whether [`Windows::close`] would close one that is not closed yet.
    pub(crate) fn must_close(&self, now: u64) -> bool {
        now.saturating_sub(self.late) >= self.closed.saturating_add(self.length)
    }
}

impl Window {
    /// A new group; without room for it, the one for the rest.
    fn insert(&mut self, key: &[u8], room: bool, states: impl Fn() -> Box<[State]>) -> usize {
        let at = self.groups.len();
        let key = room.then(|| Arc::<[u8]>::from(key));
        match &key {
            Some(key) => {
                self.index.insert(Arc::clone(key), at);
            }
            None => match self.rest {
                Some(rest) => return rest,
                None => self.rest = Some(at),
            },
        }
        let attribution = Attribution::default();
        self.groups.push(Group { key, attribution, events: 0, late: 0, states: states() });
        at
    }
}
