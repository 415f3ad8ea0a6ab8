//! The directory: which container each cgroup belongs to.
//!
//! A container manager publishes it and trackers subscribe, so that they can leave out unwanted
//! containers in the kernel. Neither knows the other.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::attribution::Container;

/// The owner of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resident {
    /// The host: no container.
    Host,
    /// This container, as it is known now.
    Container(Arc<Container>),
}

/// Receives a change: a cgroup's id and its owner from now on; `None` when the cgroup is removed.
type Subscriber = Box<dyn FnMut(u64, Option<&Resident>) + Send>;

/// The directory of one run. Clones are the same directory.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    residents: HashMap<u64, Resident>,
    subscribers: Vec<Subscriber>,
}

impl Directory {
    /// Publishes the owner of a cgroup. Every subscriber has received it when this returns.
    /// Publishing the same owner again does nothing.
    pub fn publish(&self, cgroup: u64, resident: Resident) {
        let mut state = self.lock();
        if state.residents.get(&cgroup) == Some(&resident) {
            return;
        }
        for subscriber in &mut state.subscribers {
            subscriber(cgroup, Some(&resident));
        }
        state.residents.insert(cgroup, resident);
    }

    /// Removes a cgroup.
    pub fn retract(&self, cgroup: u64) {
        let mut state = self.lock();
        if state.residents.remove(&cgroup).is_some() {
            for subscriber in &mut state.subscribers {
                subscriber(cgroup, None);
            }
        }
    }

    /// Calls `subscriber` for every known cgroup now, and for every later change on the publisher's
    /// thread. It must be quick, and must not use the directory itself.
    pub fn subscribe(&self, mut subscriber: impl FnMut(u64, Option<&Resident>) + Send + 'static) {
        let mut state = self.lock();
        for (&cgroup, resident) in &state.residents {
            subscriber(cgroup, Some(resident));
        }
        state.subscribers.push(Box::new(subscriber));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("residents", &self.lock().residents.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::attribution::Runtime;

    #[test]
    fn subscriber_receives_known_cgroups_and_each_change_once() {
        let directory = Directory::default();
        let web = Resident::Container(Arc::new(Container::bare("web", Runtime::Docker)));
        directory.publish(1, Resident::Host);
        let (sender, changes) = channel();
        directory.subscribe(move |cgroup, resident| {
            sender.send((cgroup, resident.cloned())).expect("the test listens");
        });
        directory.publish(2, web.clone());
        directory.publish(2, web.clone());
        directory.retract(2);
        directory.retract(2);
        let changes: Vec<_> = changes.try_iter().collect();
        assert_eq!(changes, [(1, Some(Resident::Host)), (2, Some(web)), (2, None)]);
    }
}
