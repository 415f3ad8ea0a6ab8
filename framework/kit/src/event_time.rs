//! Time as the events tell it.

use std::time::Duration;

use whalewatch_core::Timestamp;

/// The time of the latest event; while nothing comes, real time is added to it. So what depends on
/// it comes out the same when events are replayed, however fast, and what waits for a time to come
/// does not wait for ever.
///
/// The real time is that of a timer which the handler sets for itself: it calls [`EventTime::tick`]
/// each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventTime {
    latest: Timestamp,
    idle: Duration,
    /// Whether an event has come since the last tick.
    came: bool,
}

impl EventTime {
    /// An event came; events that come late do not turn time back.
    pub fn saw(&mut self, time: Timestamp) {
        self.latest = self.latest.max(time);
        self.came = true;
    }

    /// `step` has gone by since the last tick. Does not count if events are still on their way
    /// ([`Context::behind`](whalewatch_core::Context::behind)).
    pub fn tick(&mut self, step: Duration, behind: bool) {
        if std::mem::take(&mut self.came) {
            self.idle = Duration::ZERO;
        } else if !behind {
            self.idle = self.idle.saturating_add(step);
        }
    }

    /// The time of the latest event.
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// The time now: of the latest event, and what has gone by since.
    pub fn now(&self) -> Timestamp {
        let idle = if self.came { Duration::ZERO } else { self.idle };
        let idle = u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX);
        Timestamp(self.latest.as_nanos().saturating_add(idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_counts_only_while_nothing_comes() {
        let step = Duration::from_nanos(10);
        let mut time = EventTime::default();
        time.saw(Timestamp(100));
        time.saw(Timestamp(90));
        assert_eq!(time.now(), Timestamp(100));
        time.tick(step, false);
        assert_eq!(time.now(), Timestamp(100), "an event came within this step");
        time.tick(step, false);
        time.tick(step, true);
        time.tick(step, false);
        assert_eq!((time.now(), time.latest()), (Timestamp(120), Timestamp(100)));
        time.saw(Timestamp(101));
        assert_eq!(time.now(), Timestamp(101));
        time.tick(step, false);
        time.tick(step, false);
        assert_eq!(time.now(), Timestamp(111));
    }
}
