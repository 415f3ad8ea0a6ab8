//! Open windows and the groups in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use whalewatch_core::Attribution;

use crate::compute::Function;
use crate::state::State;

/// The events of one window that have the same key.
#[derive(Debug)]
pub(crate) struct Group {
    /// `None` for the group that combines the events beyond `max_groups`.
    pub(crate) key: Option<Arc<[u8]>>,
    /// The attribution of the last event, if the container is part of the key.
    pub(crate) attribution: Attribution,
    pub(crate) events: u64,
    /// The number of events of this key that arrived after their own window had closed.
    pub(crate) late: u64,
    pub(crate) states: Box<[State]>,
}

/// The groups of a window, in the order of their first events.
#[derive(Debug, Default)]
struct Window {
    groups: Vec<Group>,
    index: HashMap<Arc<[u8]>, usize>,
    rest: Option<usize>,
    /// The group of the last event: neighbours in a batch mostly have the same key.
    last: usize,
}

/// All open windows. Times and durations are in nanoseconds.
#[derive(Debug)]
pub(crate) struct Windows {
    functions: Box<[Function]>,
    length: u64,
    late: u64,
    max_groups: usize,
    max_values: usize,
    /// The windows by their starts.
    open: BTreeMap<u64, Window>,
    /// The number of groups in all windows, without the combined ones.
    groups: usize,
    /// Windows that end at this time or before are closed.
    closed: u64,
}

impl Windows {
    /// Creates windows of a length that stay open for `late` after their end.
    pub(crate) fn new(
        functions: Box<[Function]>,
        length: u64,
        late: u64,
        max_groups: usize,
        max_values: usize,
    ) -> Self {
        let (open, groups, closed) = (BTreeMap::new(), 0, 0);
        Self { functions, length, late, max_groups, max_values, open, groups, closed }
    }

    /// Returns whether no window is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the group for an event, and whether the event is too late for its own window. The
    /// group of a late event is in the oldest window that can still be open.
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
                        functions.map(|f| State::new(*f, self.max_values)).collect()
                    };
                    let room = self.groups < self.max_groups;
                    self.groups += usize::from(room);
                    window.insert(key, room, states)
                }
            };
        }
        (&mut window.groups[window.last], late)
    }

    /// Closes the windows that are due at the time `now`, the oldest first, and calls `emit` with
    /// the start, the end and each group. `u64::MAX` closes all windows.
    pub(crate) fn close(&mut self, now: u64, mut emit: impl FnMut(u64, u64, Group)) {
        let closed = now.saturating_sub(self.late) / self.length * self.length;
        self.closed = self.closed.max(closed);
        while let Some(first) = self.open.first_entry()
            && (*first.key() < self.closed || now == u64::MAX)
        {
            let (start, window) = first.remove_entry();
            self.groups -= window.index.len();
            let end = start.saturating_add(self.length);
            window.groups.into_iter().for_each(|group| emit(start, end, group));
        }
    }

    /// Returns whether [`Windows::close`] would close another window at the time `now`.
    pub(crate) fn must_close(&self, now: u64) -> bool {
        now.saturating_sub(self.late) >= self.closed.saturating_add(self.length)
    }
}

impl Window {
    /// Adds a group and returns its index; without room, returns that of the combined group.
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
