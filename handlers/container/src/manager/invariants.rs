//! The invariants of the manager's state, checked in debug builds after each call.
//!
//! Each table checks itself; here is what must hold between tables.

use super::ContainerManager;
use crate::cgroups::Answer;
use crate::containers::Naming;
use crate::hold::Missing;
use crate::pids::Place;

/// How many entries a call checks on average. A full check of small tables costs less, so it comes
/// after every call; large tables are checked after as many calls as this makes up for.
const ENTRIES_PER_CALL: usize = 32;

impl ContainerManager {
    /// Checks the invariants if enough calls have gone by since the last check.
    pub(super) fn check_invariants_sometimes(&mut self) {
        let entries = self.cgroups.len() + self.containers.len() + self.pids.len();
        self.unchecked += ENTRIES_PER_CALL;
        if self.unchecked >= entries + self.room.len() {
            self.unchecked = 0;
            self.check_invariants();
        }
    }

    /// Panics unless each table is consistent in itself, and
    ///
    /// 1. a cgroup that is there and a container that has it refer to each other, and no container
    ///    has a cgroup twice or has a removed one;
    /// 2. a cgroup that is there is in doubt only while no runtime has reported its container;
    /// 3. every number of a container that a process or a removed cgroup holds was given out once
    ///    (a number is never given out again, so that of a forgotten container finds nothing);
    /// 4. events wait for the path of a cgroup only while nothing is known of the cgroup, and for
    ///    the name of a container only while that name may still come;
    /// 5. no more events wait than configured;
    /// 6. a timer is set for whatever waits, and for whatever will be forgotten: nothing waits or
    ///    stays for ever.
    pub(super) fn check_invariants(&self) {
        self.cgroups.check_invariants();
        self.containers.check_invariants();
        self.pids.check_invariants();
        self.room.check_invariants();
        self.check_cgroups_against_containers();
        self.check_processes_against_containers();
        self.check_waiting();
        self.check_timers();
    }

    fn check_cgroups_against_containers(&self) {
        let mut owned = 0;
        for (id, answer) in self.cgroups.live() {
            let Some(serial) = answer.container() else { continue };
            let known = self.containers.get(serial);
            let known = known.unwrap_or_else(|| panic!("cgroup {id} has no container"));
            let container = &known.snapshot.id;
            assert!(known.cgroups.contains(&id), "{container} lacks its cgroup {id}");
            let doubtful = matches!(answer, Answer::Doubtful(_));
            assert!(!doubtful || known.reported_by.is_none(), "{container} is confirmed, not {id}");
            owned += 1;
        }
        let of_containers: usize = self.containers.iter().map(|(_, k)| k.cgroups.len()).sum();
        assert_eq!(of_containers, owned, "cgroups of containers, and cgroups with a container");
        for serial in self.cgroups.iter().filter_map(|(_, answer)| answer.container()) {
            assert!(self.containers.has_issued(serial), "a cgroup of {serial:?}");
        }
    }

    fn check_processes_against_containers(&self) {
        for place in self.pids.places() {
            if let Place::Container(serial) = place {
                assert!(self.containers.has_issued(serial), "a process of {serial:?}");
            }
        }
    }

    fn check_waiting(&self) {
        for missing in self.room.missing() {
            match missing {
                Missing::Path(id) => {
                    assert_eq!(self.cgroups.get(id), None, "events wait for known cgroup {id}");
                }
                // An evicted container leaves its events to the end of their hold.
                Missing::Name(serial) => {
                    let expected = self
                        .containers
                        .get(serial)
                        .is_none_or(|known| !known.named() && known.naming == Naming::Awaited);
                    assert!(expected, "events wait for a name that is known or will not come");
                }
            }
        }
        let max = self.options.max_held as usize;
        assert!(self.room.len() <= max, "{} events wait, at most {max} may", self.room.len());
    }

    fn check_timers(&self) {
        if let Some(deadline) = self.room.next() {
            let set = self.release_at.is_some_and(|at| at <= deadline);
            assert!(set, "events wait until {deadline:?}, timer: {:?}", self.release_at);
        }
        let forgets = self.next_sweep().is_some();
        assert!(!forgets || self.sweep_at.is_some(), "no timer for what will be forgotten");
    }
}
