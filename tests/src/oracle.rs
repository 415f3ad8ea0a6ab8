//! An oracle that knows which container did what without asking Whalewatch.
//!
//! Every process that a test starts carries an argument that no other process has (its *mark*). Its
//! exec identifies the cgroup of its container. From then on the kernel's cgroup id, which is in
//! every event, decides which container is right. Events of other programs are not judged.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::output::Event;
use crate::tracer::{Finished, Tracer};
use crate::wait;

/// How long it may take until the last marked process is printed and named.
const LIMIT: Duration = Duration::from_secs(30);

/// Returns a number that no other call returns, in this run or another.
pub fn unique() -> u128 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    now * 1000 + u128::from(NUMBER.fetch_add(1, Relaxed) % 1000)
}

/// Returns a mark that no other process has.
pub fn mark(words: &str) -> String {
    format!("{words}-{}", unique())
}

/// A container that a test started.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What a test knows about its own processes.
#[derive(Debug, Default)]
pub struct Oracle {
    by_mark: HashMap<String, Known>,
    host_marks: HashSet<String>,
}

/// Whalewatch's output, compared with the oracle.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Events of the containers, from their first marked exec on.
    pub in_containers: usize,
    /// Those of them that had the right name when they were first printed.
    pub named_at_once: usize,
    /// Events of marked host processes and of the test's own cgroup.
    pub on_host: usize,
    /// Events attributed to another container, to the host instead of a container, or the reverse.
    pub wrong: Vec<String>,
    /// Containers that never got their name.
    pub never_named: Vec<String>,
    /// Marks without an exec or an exit.
    pub missing: Vec<String>,
}

impl Oracle {
    /// Records that a process with `mark` as its second argument runs in a container.
    pub fn in_container(&mut self, mark: &str, id: &str, name: &str) {
        let known = Known { id: id.to_owned(), name: name.to_owned() };
        self.by_mark.insert(mark.to_owned(), known);
    }

    /// Records that a process with `mark` as its second argument runs on the host.
    pub fn on_host(&mut self, mark: &str) {
        self.host_marks.insert(mark.to_owned());
    }

    /// Waits until all marked processes have exited in the tracer's output and are named, stops it,
    /// and judges its events.
    ///
    /// # Panics
    /// If an event was wrong, came only at the end, or was lost in the chain.
    #[track_caller]
    pub fn see_out(&self, mut tracer: Tracer) -> Finished {
        let seen = wait::poll(LIMIT, || {
            let verdict = self.judge(tracer.events());
            wait::when(verdict.missing.is_empty() && verdict.never_named.is_empty())
        });
        let finished = tracer.stop();
        let verdict = self.judge(&finished.events);
        println!("{verdict}");
        verdict.assert_right();
        assert!(seen.is_some(), "events came only when Whalewatch was stopped");
        assert!(verdict.in_containers > 0 || verdict.on_host > 0, "nothing was judged");
        finished.totals.assert_complete();
        finished.totals.assert_nothing_vanished("procs", &["container", "out"]);
        finished
    }

    /// Judges all events.
    pub fn judge(&self, events: &[Event]) -> Verdict {
        let mut verdict = Verdict { missing: self.missing(events), ..Verdict::default() };
        let cgroups = self.cgroups(events);
        let own_cgroup = own_cgroup();
        let mut host_keys = HashSet::new();
        let mut started = HashSet::new();
        let mut unnamed: HashMap<&str, &Known> = HashMap::new();
        for event in events {
            if event.kind().starts_with("container.") {
                if event.kind() == "container.resolved" {
                    event.container_id().map(|id| unnamed.remove(id));
                }
                continue;
            }
            let mark = mark_of(event);
            if mark.is_some_and(|mark| self.host_marks.contains(mark)) {
                host_keys.extend(event.key());
            }
            let in_cgroup = event.cgroup().and_then(|cgroup| cgroups.get(&cgroup).copied());
            if let Some(known) = in_cgroup {
                if mark.is_some_and(|mark| self.by_mark.contains_key(mark)) {
                    started.insert(known.id.as_str());
                }
                verdict.judge_contained(event, known);
                if started.contains(known.id.as_str()) && !verdict.count_name(event, known) {
                    unnamed.insert(&known.id, known);
                }
            } else {
                let host = event.key().is_some_and(|key| host_keys.contains(&key));
                let host = host || (event.cgroup().is_some() && event.cgroup() == own_cgroup);
                self.judge_outside(event, host, &mut verdict);
            }
        }
        verdict.never_named = unnamed.values().map(|known| known.name.clone()).collect();
        verdict
    }

    /// Returns each container's cgroup, from the marked execs.
    fn cgroups(&self, events: &[Event]) -> HashMap<u64, &Known> {
        let known = |event: &Event| Some((event.cgroup()?, self.by_mark.get(mark_of(event)?)?));
        events.iter().filter_map(known).collect()
    }

    fn judge_outside(&self, event: &Event, host: bool, verdict: &mut Verdict) {
        let ours = |id| self.by_mark.values().any(|known| known.id == id);
        if event.container_id().is_some_and(ours) {
            verdict.wrong.push(format!("not in that container's cgroup: {}", event.0));
        } else if host {
            verdict.on_host += 1;
            if event.state() != "host" || event.container_id().is_some() {
                verdict.wrong.push(format!("of the host: {}", event.0));
            }
        }
    }

    fn missing(&self, events: &[Event]) -> Vec<String> {
        let exits: HashSet<_> =
            events.iter().filter(|e| e.kind() == "process.exit").filter_map(Event::key).collect();
        let execs: HashMap<_, _> =
            events.iter().filter_map(|event| Some((mark_of(event)?, event.key()?))).collect();
        let marks = self.by_mark.keys().chain(&self.host_marks);
        let lacks =
            |mark: &&String| !execs.get(mark.as_str()).is_some_and(|key| exits.contains(key));
        marks.filter(lacks).cloned().collect()
    }
}

impl Verdict {
    fn judge_contained(&mut self, event: &Event, known: &Known) {
        if event.container_id() != Some(&known.id) {
            self.wrong.push(format!("of {} ({}): {}", known.name, known.id, event.0));
        } else if event.container_name().is_some_and(|name| name != known.name) {
            self.wrong.push(format!("named otherwise than {}: {}", known.name, event.0));
        }
    }

    fn count_name(&mut self, event: &Event, known: &Known) -> bool {
        let named = event.state() == "resolved" && event.container_name() == Some(&known.name);
        self.in_containers += 1;
        self.named_at_once += usize::from(named);
        named
    }

    /// Checks that nothing is wrong or missing, everything is named in the end, and 99 % at once.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_right(&self) {
        assert!(self.wrong.is_empty(), "{} wrong, the first: {}", self.wrong.len(), self.wrong[0]);
        assert!(self.missing.is_empty(), "no exec or no exit of {:?}", self.missing);
        assert!(self.never_named.is_empty(), "never named: {:?}", self.never_named);
        assert!(self.named_at_once * 100 >= self.in_containers * 99, "named too late: {self}");
    }
}

impl Display for Verdict {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { in_containers, named_at_once, on_host, wrong, .. } = self;
        let wrong = wrong.len();
        write!(
            out,
            "{in_containers} events in containers, {named_at_once} named at once, {on_host} on the host, {wrong} wrong"
        )
    }
}

/// Returns the mark of a marked exec, the second argument of `/bin/true`.
fn mark_of(event: &Event) -> Option<&str> {
    match event.args()[..] {
        ["/bin/true", _] => event.0["process"]["command_args"][1].as_str(),
        _ => None,
    }
}

/// Returns the id of the test's own v2 cgroup, in which every process is on the host.
fn own_cgroup() -> Option<u64> {
    Some(fs::metadata(crate::cgroup::of_process("self").ok()?).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn process(kind: &str, pid: u32, cgroup: u64, container: &Value, state: &str) -> Event {
        Event(json!({"kind": kind, "process": {"pid": pid, "start_time": 1, "cgroup_id": cgroup},
                     "container": container, "attribution": {"state": state}}))
    }

    fn exec(mark: &str, pid: u32, cgroup: u64, container: &Value, state: &str) -> Event {
        let mut event = process("process.exec", pid, cgroup, container, state);
        event.0["process"]["command_args"] = json!(["/bin/true", mark]);
        event
    }

    /// Knows a container `c` with process 1 in cgroup 7, and a host process 2 in cgroup 9.
    fn oracle() -> Oracle {
        let mut oracle = Oracle::default();
        oracle.in_container("in", "c", "name");
        oracle.on_host("out");
        oracle
    }

    fn all_right() -> Vec<Event> {
        let container = json!({"id": "c", "name": "name"});
        vec![
            exec("in", 1, 7, &container, "resolved"),
            exec("out", 2, 9, &Value::Null, "host"),
            process("process.exit", 1, 7, &container, "resolved"),
            process("process.exit", 2, 9, &Value::Null, "host"),
        ]
    }

    #[test]
    fn right_events_are_right() {
        let verdict = oracle().judge(&all_right());
        verdict.assert_right();
        assert_eq!((verdict.in_containers, verdict.named_at_once, verdict.on_host), (2, 2, 2));
    }

    #[test]
    fn container_events_attributed_to_the_host_are_wrong() {
        let mut events = all_right();
        events[2] = process("process.exit", 1, 7, &Value::Null, "host");
        assert_eq!(oracle().judge(&events).wrong.len(), 1);
    }

    #[test]
    fn host_events_attributed_to_a_container_are_wrong() {
        let mut events = all_right();
        for (id, state) in [("c", "resolved"), ("another", "pending")] {
            events[3] = process("process.exit", 2, 9, &json!({"id": id}), state);
            assert_eq!(oracle().judge(&events).wrong.len(), 1, "{id}");
        }
        events[3] = process("process.exit", 2, 9, &Value::Null, "unknown");
        assert_eq!(oracle().judge(&events).wrong.len(), 1, "unknown is not host");
    }

    #[test]
    fn another_container_and_another_name_are_wrong() {
        let mut events = all_right();
        for container in [json!({"id": "d", "name": "name"}), json!({"id": "c", "name": "nam"})] {
            events[2] = process("process.exit", 1, 7, &container, "resolved");
            assert_eq!(oracle().judge(&events).wrong.len(), 1, "{container}");
        }
    }

    #[test]
    fn a_missing_exit_is_reported() {
        let mut events = all_right();
        events.pop();
        assert_eq!(oracle().judge(&events).missing, ["out"]);
    }

    #[test]
    fn a_name_may_come_later_but_must_come() {
        let mut events = all_right();
        events[2] = process("process.exit", 1, 7, &json!({"id": "c"}), "pending");
        let verdict = oracle().judge(&events);
        assert_eq!((verdict.named_at_once, verdict.never_named.len()), (1, 1));
        events.push(Event(json!({"kind": "container.resolved", "container": {"id": "c"}})));
        assert!(oracle().judge(&events).never_named.is_empty());
    }
}
