//! The totals that Whalewatch writes with `--stats-file`, and checks of them.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// A file of totals, parsed.
#[derive(Debug)]
pub struct Totals(Value);

impl Totals {
    /// Reads the file.
    ///
    /// # Panics
    /// If it is missing or not JSON.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path)
            .unwrap_or_else(|e| panic!("no totals at {}: {e}", path.display()));
        Self(
            serde_json::from_str(&text)
                .unwrap_or_else(|e| panic!("totals are not JSON: {e}: {text}")),
        )
    }

    /// Returns a counter of a tracker.
    #[track_caller]
    pub fn tracker(&self, name: &str, counter: &str) -> u64 {
        self.counter("trackers", name, counter)
    }

    /// Returns a counter of a handler.
    #[track_caller]
    pub fn handler(&self, name: &str, counter: &str) -> u64 {
        self.counter("handlers", name, counter)
    }

    #[track_caller]
    fn counter(&self, kind: &str, name: &str, counter: &str) -> u64 {
        self.0[kind][name][counter]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {kind}.{name}.{counter} in {:#}", self.0))
    }

    fn names(&self, kind: &str) -> Vec<&str> {
        let table = self.0[kind].as_object();
        let table = table.unwrap_or_else(|| panic!("no table {kind} in {:#}", self.0));
        table.keys().map(String::as_str).collect()
    }

    /// Checks that every tracker and every handler accounts for every event.
    ///
    /// # Panics
    /// If the sums do not add up.
    #[track_caller]
    pub fn assert_conserved(&self) {
        for name in self.names("trackers") {
            let tracker = |counter| self.tracker(name, counter);
            assert_eq!(
                tracker("generated"),
                tracker("delivered") + tracker("lost") + tracker("refused") + tracker("invalid"),
                "tracker {name}: generated = delivered + lost + refused + invalid in {:#}",
                self.0
            );
        }
        for name in self.names("handlers") {
            let handler = |counter| self.handler(name, counter);
            assert_eq!(
                handler("in") + handler("added"),
                handler("out") + handler("filtered") + handler("dropped") + handler("errors"),
                "handler {name}: in + added = out + filtered + dropped + errors in {:#}",
                self.0
            );
        }
    }

    /// Checks, along a single chain, that each part received what the one before it passed on.
    ///
    /// # Panics
    /// If events vanished in between.
    #[track_caller]
    pub fn assert_nothing_vanished(&self, tracker: &str, handlers: &[&str]) {
        let mut given = self.tracker(tracker, "delivered");
        let mut from = tracker;
        for &handler in handlers {
            let got = self.handler(handler, "in");
            assert_eq!(given, got, "from {from} to {handler} in {:#}", self.0);
            given = self.handler(handler, "out");
            from = handler;
        }
    }

    /// Checks that no tracker lost events and no handler dropped any.
    ///
    /// # Panics
    /// If events were lost or dropped.
    #[track_caller]
    pub fn assert_complete(&self) {
        for name in self.names("trackers") {
            for counter in ["lost", "invalid"] {
                let count = self.tracker(name, counter);
                assert_eq!(count, 0, "tracker {name}: {counter}: {:#}", self.0);
            }
        }
        for name in self.names("handlers") {
            for counter in ["dropped", "errors"] {
                let count = self.handler(name, counter);
                assert_eq!(count, 0, "handler {name}: {counter}: {:#}", self.0);
            }
        }
    }
}
