//! A handler's access to the world outside its chains: answers of a daemon, the kernel or files,
//! and the time.
//!
//! A recording stores the answers beside the events, and a replay returns them, so that a handler
//! repeats what it did: without the daemon, on another machine, and at any speed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::time::Timestamp;

/// A handler's questions to the world, and its clock. Cheap to clone.
#[derive(Clone)]
pub struct Outside(Arc<Inner>);

enum Inner {
    Live { start: Instant, record: Option<Record> },
    Replay { answers: Answers, now: Arc<AtomicU64>, start: u64 },
}

/// Records a question with its answer.
type Record = Box<dyn Fn(&str, Option<&str>) + Send + Sync>;
/// The answers to each question, in order.
type Answers = Mutex<HashMap<String, VecDeque<Option<String>>>>;

impl Outside {
    /// Asks the world itself, and passes each answer to `record`, too. For the engine.
    pub fn live(record: Option<Record>) -> Self {
        Self(Arc::new(Inner::Live { start: Instant::now(), record }))
    }

    /// Returns recorded answers, and the time in `now`, in nanoseconds since the Unix epoch. For
    /// the engine.
    pub fn replay(
        answers: impl IntoIterator<Item = (String, Option<String>)>,
        now: Arc<AtomicU64>,
    ) -> Self {
        let mut all: HashMap<String, VecDeque<Option<String>>> = HashMap::new();
        for (question, answer) in answers {
            all.entry(question).or_default().push_back(answer);
        }
        let start = now.load(Relaxed);
        Self(Arc::new(Inner::Replay { answers: Mutex::new(all), now, start }))
    }

    /// Whether this is a replay. Helpers that ask the world must not be started then; their
    /// recorded messages arrive as [recalled](crate::Replay::recall) ones.
    pub fn is_replay(&self) -> bool {
        matches!(*self.0, Inner::Replay { .. })
    }

    /// Returns the result of `ask` or, in a replay, the recorded result for the same question;
    /// `None` if there is none.
    pub fn ask(&self, question: &str, ask: impl FnOnce() -> Option<String>) -> Option<String> {
        match &*self.0 {
            Inner::Live { record, .. } => {
                let answer = ask();
                if let Some(record) = record {
                    record(question, answer.as_deref());
                }
                answer
            }
            Inner::Replay { answers, .. } => {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                let answers = answers.get_mut(question)?;
                // If it is asked more often than in the recording, the last answer still holds.
                if answers.len() > 1 { answers.pop_front()? } else { answers.front()?.clone() }
            }
        }
    }

    /// Whether answers are neither recorded nor replayed. If so, the world can be asked without
    /// [`Outside::ask`].
    pub fn is_plain(&self) -> bool {
        matches!(*self.0, Inner::Live { record: None, .. })
    }

    /// Returns the wall-clock time.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Inner::Live { .. } => Timestamp::now(),
            Inner::Replay { now, .. } => Timestamp(now.load(Relaxed)),
        }
    }

    /// Returns the time since the start, by a clock that never goes back.
    pub fn elapsed(&self) -> Duration {
        match &*self.0 {
            Inner::Live { start, .. } => start.elapsed(),
            Inner::Replay { now, start, .. } => {
                Duration::from_nanos(now.load(Relaxed).saturating_sub(*start))
            }
        }
    }
}

impl Default for Outside {
    /// Asks the world itself, without a recording.
    fn default() -> Self {
        Self::live(None)
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_replay() { "Outside(replay)" } else { "Outside(live)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_answers_are_replayed_in_order() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&taken);
        let live = Outside::live(Some(Box::new(move |question, answer| {
            let entry = (question.to_owned(), answer.map(str::to_owned));
            record.lock().unwrap().push(entry);
        })));
        assert!(!live.is_replay() && !live.is_plain());
        for (question, answer) in [("a", Some("1")), ("b", None), ("a", Some("2"))] {
            assert_eq!(live.ask(question, || answer.map(str::to_owned)).as_deref(), answer);
        }
        let now = Arc::new(AtomicU64::new(5_000));
        let replay = Outside::replay(taken.lock().unwrap().clone(), Arc::clone(&now));
        let ask = |question| replay.ask(question, || panic!("the world is not asked"));
        assert_eq!(ask("a").as_deref(), Some("1"));
        assert_eq!(ask("a").as_deref(), Some("2"));
        assert_eq!(ask("a").as_deref(), Some("2"), "the last answer holds");
        assert_eq!((ask("b"), ask("c")), (None, None));
        now.store(7_000, Relaxed);
        assert_eq!((replay.now(), replay.elapsed()), (Timestamp(7_000), Duration::from_micros(2)));
    }
}
