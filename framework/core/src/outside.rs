//! What comes to a handler from outside its chain: answers of a daemon, of the kernel, of files,
//! and the time.
//!
//! A recording keeps it beside the events, and a replay brings it again, so that a handler does in
//! a replay what it did then: without the daemon, on another machine, and however fast the replay
//! goes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::time::Timestamp;

/// What a handler asks the world through, and its clock. Cheap to clone.
#[derive(Clone)]
pub struct Outside(Arc<Inner>);

enum Inner {
    Live { start: Instant, record: Option<Record> },
    Replay { answers: Answers, now: Arc<AtomicU64>, start: u64 },
}

/// Takes down a question with its answer.
type Record = Box<dyn Fn(&str, Option<&str>) + Send + Sync>;
/// What was answered to each question, in order.
type Answers = Mutex<HashMap<String, VecDeque<Option<String>>>>;

impl Outside {
    /// The world itself; answers go to `record` too, if there is one. For the runtime.
    pub fn live(record: Option<Record>) -> Self {
        Self(Arc::new(Inner::Live { start: Instant::now(), record }))
    }

    /// What was answered then, and a clock that is set from outside, in nanoseconds since the Unix
    /// epoch. For the runtime.
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

    /// Whether this is a replay: then helpers that ask the world must not be started, and what they
    /// told comes as [recalled](crate::Replay::recall) messages.
    pub fn is_replay(&self) -> bool {
        matches!(*self.0, Inner::Replay { .. })
    }

    /// What `ask` finds or, in a replay, what it found when the same was asked then; `None` also
    /// where it was not asked.
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
                // Asked more often than then, the last answer still holds.
                if answers.len() > 1 { answers.pop_front()? } else { answers.front()?.clone() }
            }
        }
    }

    /// Whether what is asked is taken down or played back: if not, [`Outside::ask`] need not be
    /// bothered.
    pub fn is_plain(&self) -> bool {
        matches!(*self.0, Inner::Live { record: None, .. })
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Inner::Live { .. } => Timestamp::now(),
            Inner::Replay { now, .. } => Timestamp(now.load(Relaxed)),
        }
    }

    /// How long since the start, by a clock that never goes back.
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
    /// The world itself, without a recording.
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
    fn what_was_recorded_is_answered_in_its_order() {
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
