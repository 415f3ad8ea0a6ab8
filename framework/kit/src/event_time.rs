//! Time as given by events.

use std::time::Duration;

use whalewatch_core::Timestamp;

/// The time of the latest event, plus real time while no event arrives. Results that depend on it
/// are the same in a replay, however fast it runs, and deadlines pass even if no more events come.
///
/// Real time comes from a timer of the handler, which calls [`EventTime::tick`] each time it fires.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventTime {
    latest: Timestamp,
    idle: Duration,
    /// Whether an event has arrived since the last tick.
    active: bool,
}

impl EventTime {
    /// Advances to the time of an event. A late event does not set time back.
    pub fn saw(&mut self, time: Timestamp) {
        self.latest = self.latest.max(time);
        self.active = true;
    }

    /// Adds `step`, the time since the last tick, if no event arrived in it. Adds nothing while
    /// earlier events may still arrive ([`Context::behind`](whalewatch_core::Context::behind)).
    pub fn tick(&mut self, step: Duration, behind: bool) {
        if std::mem::take(&mut self.active) {
            self.idle = Duration::ZERO;
        } else if !behind {
            self.idle = self.idle.saturating_add(step);
        }
    }

    /// Returns the time of the latest event.
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Returns the current time: that of the latest event plus the time since.
    pub fn now(&self) -> Timestamp {
        let idle = if self.active { Duration::ZERO } else { self.idle };
        let idle = u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX);
        Timestamp(self.latest.as_nanos().saturating_add(idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_counts_only_while_no_event_arrives() {
        let step = Duration::from_nanos(10);
        let mut time = EventTime::default();
        time.saw(Timestamp(100));
        time.saw(Timestamp(90));
        assert_eq!(time.now(), Timestamp(100));
        time.tick(step, false);
        assert_eq!(time.now(), Timestamp(100), "an event arrived within this step");
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
