//! Who lives in which cgroup: what a container manager tells trackers, so that they can leave out
//! in the kernel what nobody wants to see. Neither knows the other; both know the directory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::attribution::Container;

/// Who lives in a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resident {
    /// No container.
    Host,
    /// This one, as it is known now.
    Container(Arc<Container>),
}

/// Takes news: a cgroup's id, and who lives there from now on; `None` when the cgroup is gone.
type Subscriber = Box<dyn FnMut(u64, Option<&Resident>) + Send>;

/// The directory of one run. Clones are the same directory.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    residents: HashMap<u64, Resident>,
    subscribers: Vec<Subscriber>,
}

impl Directory {
    /// Says who lives in a cgroup. Subscribers have heard when this returns. What is known already
    /// is not told again.
    pub fn publish(&self, cgroup: u64, resident: Resident) {
        let mut inner = self.lock();
        if inner.residents.get(&cgroup) == Some(&resident) {
            return;
        }
        for subscriber in &mut inner.subscribers {
            subscriber(cgroup, Some(&resident));
        }
        inner.residents.insert(cgroup, resident);
    }

    /// Says that a cgroup is gone.
    pub fn retract(&self, cgroup: u64) {
        let mut inner = self.lock();
        if inner.residents.remove(&cgroup).is_some() {
            for subscriber in &mut inner.subscribers {
                subscriber(cgroup, None);
            }
        }
    }

    /// Has `subscriber` hear of every cgroup that is known, now, and of every change from now on,
    /// on the thread of whoever publishes it. It must be quick and must not use the directory.
    pub fn subscribe(&self, mut subscriber: impl FnMut(u64, Option<&Resident>) + Send + 'static) {
        let mut inner = self.lock();
        for (&cgroup, resident) in &inner.residents {
            subscriber(cgroup, Some(resident));
        }
        inner.subscribers.push(Box::new(subscriber));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
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
    fn a_subscriber_hears_what_is_known_and_each_change_once() {
        let directory = Directory::default();
        let web = Resident::Container(Arc::new(Container::bare("web", Runtime::Docker)));
        directory.publish(1, Resident::Host);
        let (tell, heard) = channel();
        directory.subscribe(move |cgroup, resident| {
            tell.send((cgroup, resident.cloned())).expect("the test listens");
        });
        directory.publish(2, web.clone());
        directory.publish(2, web.clone());
        directory.retract(2);
        directory.retract(2);
        let heard: Vec<_> = heard.try_iter().collect();
        assert_eq!(heard, [(1, Some(Resident::Host)), (2, Some(web)), (2, None)]);
    }
}
