//! What the kernel's file systems answer, here and now or, in a replay, as they did then; and
//! messages as recordings keep them.

use serde::{Deserialize, Serialize};
use whalewatch_core::{Namespaces, Outside, ProcessKey, Timestamp};

use crate::cgroups::{Hierarchy, Home};
use crate::manager::{Inner, Running};
use crate::proc::{Proc, Told};
use crate::request::Heard;

/// The kernel, by way of `/proc` and of the cgroup file system.
#[derive(Debug)]
pub(crate) struct KernelView {
    outside: Outside,
    proc: Proc,
    hierarchy: Option<Hierarchy>,
    cgroups_answer: bool,
}

impl KernelView {
    /// `hierarchy` opens the one whose ids events carry, if this host has it.
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

    /// One that has cgroups answer or not, whatever this host has.
    #[cfg(test)]
    pub(crate) fn scripted(proc: Proc, cgroups_answer: bool) -> Self {
        Self { outside: Outside::default(), proc, hierarchy: None, cgroups_answer }
    }

    /// Whether cgroup ids tell anything on this host.
    pub(crate) fn cgroups_answer(&self) -> bool {
        self.cgroups_answer
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.outside.now()
    }

    /// The namespaces of what runs in no container.
    pub(crate) fn host(&self) -> Namespaces {
        self.ask("host", || Some(self.proc.host())).unwrap_or_default()
    }

    /// The cgroups that there are, at most `limit`, with their paths.
    pub(crate) fn cgroups(&self, limit: usize) -> Vec<(u64, Vec<u8>)> {
        let all =
            || Some(self.hierarchy.as_ref()?.walk(limit).map(|(_, id, path)| (id, path)).collect());
        self.ask("cgroups", all).unwrap_or_default()
    }

    /// The path of a cgroup.
    pub(crate) fn path_of(&self, id: u64) -> Option<Vec<u8>> {
        self.ask(&format!("cgroup {id}"), || self.hierarchy.as_ref()?.path_of(id))
    }

    /// The container of a cgroup whose path alone does not tell it.
    pub(crate) fn claim(&self, id: u64, path: &[u8]) -> Option<Home> {
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

    /// Where a process is by its own cgroups; `None` if it is gone.
    pub(crate) fn process(&self, key: ProcessKey) -> Option<Told> {
        let question = format!("process {} of {}", key.pid, key.start_time);
        self.ask(&question, || self.proc.container(key))
    }

    /// Asks, by way of text only where somebody takes it down or has it.
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

/// What a recording keeps of a message.
#[derive(Deserialize, Serialize)]
enum Kept<N, R> {
    News(N),
    Running(R),
}

/// A message that came from outside as text.
pub(crate) fn record(message: &Inner) -> Option<String> {
    let kept: Kept<&Heard, &Vec<Running>> = match message {
        Inner::News(news) => Kept::News(news),
        Inner::Running(running) => Kept::Running(running),
        Inner::Start | Inner::Release | Inner::Sweep | Inner::Refresh => return None,
    };
    serde_json::to_string(&kept).ok()
}

/// The message that [`record`] made this of.
pub(crate) fn recall(recorded: &str) -> Option<Inner> {
    Some(match serde_json::from_str(recorded).ok()? {
        Kept::News(news) => Inner::News(news),
        Kept::Running(running) => Inner::Running(running),
    })
}

#[cfg(test)]
mod tests {
    use whalewatch_core::{Container, Runtime, Status};

    use crate::options::RuntimeKind;
    use crate::request::News;

    use super::*;

    #[test]
    fn what_a_recording_keeps_comes_back_as_it_was() {
        let container = Container {
            name: Some("web".into()),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            status: Status::Running,
            ..Container::bare("ab12", Runtime::Docker)
        };
        let news = News::Container(Box::new(container));
        let news = Heard { from: RuntimeKind::Docker, news };
        let text = record(&Inner::News(news.clone())).unwrap();
        assert!(matches!(recall(&text), Some(Inner::News(again)) if again == news), "{text}");
        assert!(record(&Inner::Sweep).is_none(), "time is not outside");
        assert!(recall("{}").is_none());
    }

    #[test]
    fn the_kernel_of_a_replay_is_the_one_that_was_recorded() {
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
