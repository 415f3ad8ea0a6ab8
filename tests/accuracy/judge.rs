//! What was printed, against what is known.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use whalewatch_tests::output::{Event, Key};

/// How many of what was wrong are shown.
const SHOWN: usize = 5;

/// Where a process is, and what may be said of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// Its container's id; `None` on the host.
    pub(crate) id: Option<String>,
    /// What the container may be called; nothing where nobody could know.
    pub(crate) names: Vec<String>,
    /// Ids of the containers that it runs in, the nearest first.
    pub(crate) parents: Vec<String>,
    /// Name of the container whose mounts a process of the host's has entered.
    pub(crate) entered: Option<String>,
}

impl Truth {
    pub(crate) fn host() -> Self {
        Self::default()
    }

    pub(crate) fn container(id: &str, name: &str) -> Self {
        Self { id: Some(id.to_owned()), names: vec![name.to_owned()], ..Self::default() }
    }
}

/// All marks of a run, and the truth of each.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    truths: Mutex<HashMap<String, Truth>>,
    next: AtomicU64,
}

impl Ledger {
    /// A mark that no other process has, on this machine and in this run: case, container or host
    /// as its process believes, and a number.
    pub(crate) fn mark(&self, case: &str, who: &str) -> String {
        let number = self.next.fetch_add(1, Relaxed);
        format!("ww:{case}:{who}:{}-{number}", std::process::id())
    }

    /// What is true of the processes with this mark.
    pub(crate) fn enter(&self, mark: &str, truth: Truth) {
        let mut truths = self.truths.lock().expect("nobody panics while holding it");
        truths.insert(mark.to_owned(), truth);
    }

    /// A mark of a process on the host.
    pub(crate) fn host(&self, case: &str) -> String {
        let mark = self.mark(case, "host");
        self.enter(&mark, Truth::host());
        mark
    }

    /// Joins what was printed with what is known. `whole`: whether all of it must be there.
    pub(crate) fn judge(&self, printed: &Path, whole: bool) -> Result<Tally> {
        let truths = self.truths.lock().expect("nobody panics while holding it");
        let mut judge = Judge { truths: &truths, marked: HashMap::new(), tally: Tally::default() };
        // Trackers are drained in turns: an event can be printed before the exec that came first.
        lines(printed, |event| judge.learn(event))?;
        let mut unnamed: HashMap<String, u64> = HashMap::new();
        lines(printed, |event| {
            if event.kind() == "container.resolved" {
                let late = event.container_id().and_then(|id| unnamed.remove(id));
                judge.tally.name_late += late.unwrap_or(0);
            } else if let Some(id) = judge.hear(event) {
                *unnamed.entry(id).or_default() += 1;
            }
        })?;
        judge.tally.name_never = unnamed.values().sum();
        judge.count_processes();
        if whole {
            judge.count_missing();
        }
        Ok(judge.tally)
    }
}

/// Each whole line of what was printed: while Whalewatch runs the last one may be cut.
fn lines(printed: &Path, mut with: impl FnMut(&Event)) -> Result<()> {
    let file = File::open(printed).with_context(|| printed.display().to_string())?;
    let (mut file, mut line) = (BufReader::new(file), String::new());
    while file.read_line(&mut line)? > 0 && line.ends_with('\n') {
        with(&Event(serde_json::from_str(&line).context("a line is not JSON")?));
        line.clear();
    }
    Ok(())
}

/// The mark of an exec, which is the last argument of a program that does nothing else, or of the
/// workload's.
fn mark(event: &Event) -> Option<&str> {
    let args = event.args();
    let (["/bin/true", mark] | ["/workload", .., mark]) = args[..] else { return None };
    (event.kind() == "process.exec").then_some(mark)
}

/// A marked process that was seen.
struct Seen<'a> {
    mark: &'a str,
    truth: &'a Truth,
    /// When it began to be what is marked.
    since: String,
    ended: Option<String>,
}

struct Judge<'a> {
    truths: &'a HashMap<String, Truth>,
    marked: HashMap<Key, Seen<'a>>,
    tally: Tally,
}

impl Judge<'_> {
    /// Takes note of marked processes.
    fn learn(&mut self, event: &Event) {
        let Some(key) = event.key() else { return };
        if let Some((mark, truth)) = mark(event).and_then(|m| self.truths.get_key_value(m)) {
            let since = event.time().to_owned();
            self.marked.insert(key, Seen { mark, truth, since, ended: None });
        } else if event.kind() == "process.exit"
            && let Some(seen) = self.marked.get_mut(&key)
        {
            seen.ended = Some(event.time().to_owned());
        }
    }

    /// Judges an event. Gives the id of a container whose name is owed.
    fn hear(&mut self, event: &Event) -> Option<String> {
        let seen = self.marked.get(&event.key()?)?;
        // All times are written alike, so they compare as text.
        if event.time() < seen.since.as_str() {
            return None;
        }
        let late = seen.ended.as_ref().is_some_and(|ended| event.time() > ended.as_str());
        self.tally.after_exit += u64::from(late);
        let truth = seen.truth;
        self.tally.events += 1;
        let wrong = match (&truth.id, event.container_id(), event.state()) {
            (_, None, "unknown") => {
                self.tally.unknown += 1;
                return None;
            }
            (None, None, "host") => wrong_about_host(event, truth),
            (Some(id), Some(printed), _) if id == printed => wrong_about_parents(event, truth),
            (None, _, _) => Some("the host's"),
            (Some(_), _, _) => Some("another's"),
        };
        if let Some(what) = wrong {
            self.tally.wrong(what, event, truth);
            return None;
        }
        self.tally.id_right += 1;
        let id = truth.id.as_ref().filter(|_| !truth.names.is_empty())?;
        self.tally.in_containers += 1;
        match event.container_name() {
            Some(name) if truth.names.iter().any(|n| n == name) => self.tally.name_at_once += 1,
            Some(_) => self.tally.wrong("called otherwise", event, truth),
            None => return Some(id.clone()),
        }
        None
    }

    /// Marks whose process was not seen, or not seen to end.
    fn count_missing(&mut self) {
        let ended = self.marked.values().filter(|seen| seen.ended.is_some()).map(|seen| seen.mark);
        let ended: HashSet<&str> = ended.collect();
        let missing = self.truths.keys().filter(|mark| !ended.contains(mark.as_str()));
        for mark in missing {
            self.tally.missing += 1;
            if self.tally.examples.len() < SHOWN {
                self.tally.examples.push(format!("missing: {mark}"));
            }
        }
    }

    fn count_processes(&mut self) {
        let numbers: HashSet<u64> = self.marked.keys().map(|&(pid, _)| pid).collect();
        self.tally.processes = self.marked.len() as u64;
        self.tally.reused = (self.marked.len() - numbers.len()) as u64;
    }
}

/// A process of the host's that is among a container's mounts says that too.
fn wrong_about_host(event: &Event, truth: &Truth) -> Option<&'static str> {
    let entered = event.0["entered"]["container"]["name"].as_str();
    (entered != truth.entered.as_deref()).then_some("in the mounts of another")
}

fn wrong_about_parents(event: &Event, truth: &Truth) -> Option<&'static str> {
    let parents = event.0["container"]["parents"]["id"].as_array();
    let parents = parents.into_iter().flatten().map(Value::as_str);
    (!parents.eq(truth.parents.iter().map(|id| Some(id.as_str())))).then_some("in other containers")
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Marked processes that were seen.
    pub(crate) processes: u64,
    /// Marks that were not seen, or whose process was not seen to end.
    pub(crate) missing: u64,
    /// Events of marked processes, from their marked exec on.
    pub(crate) events: u64,
    /// Of these, attributed to the right container, or rightly to the host.
    pub(crate) id_right: u64,
    /// Attributed to a container that it was not, or called what it is not.
    pub(crate) wrong: u64,
    /// Said to be unknown.
    pub(crate) unknown: u64,
    /// Events of containers with the right id,
    pub(crate) in_containers: u64,
    /// those that had the right name when they were printed,
    pub(crate) name_at_once: u64,
    /// those completed by `container.resolved`,
    pub(crate) name_late: u64,
    /// and those that never were.
    pub(crate) name_never: u64,
    /// Marked processes whose number another had had before.
    pub(crate) reused: u64,
    /// Events that came after their process's end.
    pub(crate) after_exit: u64,
    /// Some of what was wrong or missing.
    pub(crate) examples: Vec<String>,
}

impl Tally {
    fn wrong(&mut self, what: &str, event: &Event, truth: &Truth) {
        self.wrong += 1;
        if self.examples.len() < SHOWN {
            self.examples.push(format!("{what}: {truth:?}: {}", event.0));
        }
    }

    /// Adds another one up.
    pub(crate) fn add(&mut self, other: &Self) {
        self.processes += other.processes;
        self.missing += other.missing;
        self.events += other.events;
        self.id_right += other.id_right;
        self.wrong += other.wrong;
        self.unknown += other.unknown;
        self.in_containers += other.in_containers;
        self.name_at_once += other.name_at_once;
        self.name_late += other.name_late;
        self.name_never += other.name_never;
        self.reused += other.reused;
        self.after_exit += other.after_exit;
        self.examples.extend(other.examples.iter().cloned());
        self.examples.truncate(SHOWN);
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "processes": self.processes, "missing": self.missing, "events": self.events,
            "id_right": self.id_right, "wrong": self.wrong, "unknown": self.unknown,
            "in_containers": self.in_containers, "name_at_once": self.name_at_once,
            "name_late": self.name_late, "name_never": self.name_never, "examples": self.examples,
        })
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} processes, {} events: {} right, {} wrong, {} unknown, {} missing; \
             of {} in containers {} named at once, {} later, {} never",
            self.processes,
            self.events,
            self.id_right,
            self.wrong,
            self.unknown,
            self.missing,
            self.in_containers,
            self.name_at_once,
            self.name_late,
            self.name_never
        )?;
        self.examples.iter().try_for_each(|example| write!(f, "\n     {example}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn event(kind: &str, pid: u32, container: &Value, state: &str) -> Value {
        json!({"kind": kind, "time": "2026-01-01T00:00:00Z",
               "process": {"pid": pid, "start_time": 1}, "container": container,
               "attribution": {"state": state}})
    }

    fn exec(mark: &str, pid: u32, container: &Value, state: &str) -> Value {
        let mut event = event("process.exec", pid, container, state);
        event["process"]["command_args"] = json!(["/bin/true", mark]);
        event
    }

    fn judge(events: &[Value]) -> Tally {
        let ledger = Ledger::default();
        ledger.enter("in", Truth::container("c", "web"));
        ledger.enter("out", Truth::host());
        let file = std::env::temp_dir().join(format!("ww-judge-{:?}", std::thread::current().id()));
        let mut out = File::create(&file).unwrap();
        for event in events {
            writeln!(out, "{event}").unwrap();
        }
        let tally = ledger.judge(&file, true).unwrap();
        std::fs::remove_file(file).unwrap();
        tally
    }

    fn right() -> Vec<Value> {
        let web = json!({"id": "c", "name": "web"});
        vec![
            exec("in", 1, &web, "resolved"),
            exec("out", 2, &Value::Null, "host"),
            event("process.exit", 1, &web, "resolved"),
            event("process.exit", 2, &Value::Null, "host"),
        ]
    }

    #[test]
    fn what_is_right_is_right_and_others_are_left_alone() {
        let mut events = right();
        events.push(event("process.exit", 3, &json!({"id": "x"}), "pending"));
        let tally = judge(&events);
        assert_eq!((tally.processes, tally.events, tally.id_right), (2, 4, 4));
        assert_eq!((tally.in_containers, tally.name_at_once), (2, 2));
        assert_eq!((tally.wrong, tally.unknown, tally.missing), (0, 0, 0));
    }

    #[test]
    fn each_wrong_is_counted() {
        for (at, container, state) in [
            (2, Value::Null, "host"),
            (2, json!({"id": "d", "name": "web"}), "resolved"),
            (2, json!({"id": "c", "name": "wab"}), "resolved"),
            (2, json!({"id": "c", "name": "web", "parents": {"id": ["p"]}}), "resolved"),
            (3, json!({"id": "c", "name": "web"}), "resolved"),
        ] {
            let mut events = right();
            events[at] = event("process.exit", at as u32 - 1, &container, state);
            let tally = judge(&events);
            assert_eq!((tally.wrong, tally.missing), (1, 0), "{container}");
        }
        let mut events = right();
        events[3]["entered"] = json!({"container": {"name": "web"}});
        assert_eq!(judge(&events).wrong, 1);
    }

    #[test]
    fn what_is_not_said_is_counted_apart() {
        let mut events = right();
        events[2] = event("process.exit", 1, &Value::Null, "unknown");
        assert_eq!((judge(&events).unknown, judge(&events).wrong), (1, 0));
        events.pop();
        assert_eq!(judge(&events).missing, 1);
        let mut events = right();
        events[2] = event("process.exit", 1, &json!({"id": "c"}), "pending");
        assert_eq!((judge(&events).name_at_once, judge(&events).name_never), (1, 1));
        events.push(json!({"kind": "container.resolved", "container": {"id": "c"}}));
        assert_eq!((judge(&events).name_late, judge(&events).name_never), (1, 0));
    }
}
