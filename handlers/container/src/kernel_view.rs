//! The kernel's file systems as the manager sees them: read now or, in a replay, as they were
//! recorded.

use serde::{Deserialize, Serialize};
use whalewatch_core::{Namespaces, Outside, ProcessKey, Timestamp};

use crate::cgroups::{Hierarchy, OwnedIdentity};
use crate::proc::{Membership, Proc};

/// `/proc` and the cgroup file system, read now or, in a replay, as they were recorded.
#[derive(Debug)]
pub(crate) struct KernelView {
    outside: Outside,
    proc: Proc,
    hierarchy: Option<Hierarchy>,
    cgroups_answer: bool,
}

impl KernelView {
    /// `hierarchy` opens the hierarchy whose ids events carry, if the host has it. A replay does
    /// not call it.
    pub(crate) fn new(
        outside: Outside,
        proc: Proc,
        hierarchy: impl FnOnce() -> Option<Hierarchy>,
    ) -> Self {
        let hierarchy = if outside.is_replay() { None } else { hierarchy() };
        let there = hierarchy.is_some();
        let cgroups_answer = outside.ask("cgroup ids", || there.then(String::new)).is_some();
        Self { outside, proc, hierarchy, cgroups_answer }
    }

    /// A view whose cgroups answer or not, whatever this host has.
    #[cfg(test)]
    pub(crate) fn scripted(proc: Proc, cgroups_answer: bool) -> Self {
        Self { outside: Outside::default(), proc, hierarchy: None, cgroups_answer }
    }

    /// Whether cgroup ids mean anything on this host: whether it has a cgroup2 hierarchy.
    pub(crate) fn cgroups_answer(&self) -> bool {
        self.cgroups_answer
    }

    /// Returns the wall-clock time.
    pub(crate) fn now(&self) -> Timestamp {
        self.outside.now()
    }

    /// Returns the host's namespaces.
    pub(crate) fn host(&self) -> Namespaces {
        self.ask("host", || Some(self.proc.host())).unwrap_or_default()
    }

    /// Returns the existing cgroups with their paths, at most `limit`.
    pub(crate) fn cgroups(&self, limit: usize) -> Vec<(u64, Vec<u8>)> {
        let all =
            || Some(self.hierarchy.as_ref()?.walk(limit).map(|(_, id, path)| (id, path)).collect());
        self.ask("cgroups", all).unwrap_or_default()
    }

    /// Returns the path of a cgroup; `None` if it is gone or the kernel may not be asked.
    pub(crate) fn path_of(&self, id: u64) -> Option<Vec<u8>> {
        self.ask(&format!("cgroup {id}"), || self.hierarchy.as_ref()?.path_of(id))
    }

    /// Returns the container of a cgroup whose path alone does not show it, from a runtime's state
    /// folder.
    pub(crate) fn claim(&self, id: u64, path: &[u8]) -> Option<OwnedIdentity> {
        let gone = || self.hierarchy.as_ref().is_some_and(|hierarchy| hierarchy.lacks(id));
        let question = || format!("state of {}", String::from_utf8_lossy(path));
        if self.outside.is_plain() {
            return self.proc.claim(path, gone);
        }
        self.ask(&question(), || self.proc.claim(path, gone))
    }

    /// Whether there is certainly no cgroup with this id.
    pub(crate) fn lacks(&self, id: u64) -> bool {
        let lacks = || self.hierarchy.as_ref().is_some_and(|hierarchy| hierarchy.lacks(id));
        self.ask(&format!("no cgroup {id}"), || Some(lacks())).unwrap_or(false)
    }

    /// Returns where a process is according to its own cgroups; `None` if it is gone.
    pub(crate) fn process(&self, key: ProcessKey) -> Option<Membership> {
        let question = format!("process {} of {}", key.pid, key.start_time);
        self.ask(&question, || self.proc.membership(key))
    }

    /// Asks a question. Only while recording, and in a replay, does the answer pass through text.
    fn ask<T: Serialize + for<'de> Deserialize<'de>>(
        &self,
        question: &str,
        ask: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        if self.outside.is_plain() {
            return ask();
        }
        let text = self.outside.ask(question, || serde_json::to_string(&ask()?).ok())?;
        serde_json::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_sees_the_kernel_that_was_recorded() {
        let taken = std::sync::Arc::<std::sync::Mutex<Vec<_>>>::default();
        let record = std::sync::Arc::clone(&taken);
        let outside = Outside::live(Some(Box::new(move |question, answer| {
            record.lock().unwrap().push((question.to_owned(), answer.map(str::to_owned)));
        })));
        let live = KernelView::new(outside, Proc::default(), Hierarchy::version_2);
        let me = Proc::default().see(std::process::id()).unwrap().key;
        let nobody = ProcessKey { pid: u32::MAX, start_time: 1 };
        let ask = |kernel: &KernelView| {
            let processes = (kernel.process(me), kernel.process(nobody));
            (kernel.cgroups_answer(), kernel.host(), kernel.cgroups(10), processes, kernel.lacks(1))
        };
        let then = ask(&live);
        let answers = taken.lock().unwrap().clone();
        let replay = Outside::replay(answers, std::sync::Arc::default());
        let replay = KernelView::new(replay, Proc::at("/nowhere"), || panic!("not asked"));
        assert_eq!(ask(&replay), then);
    }
}
