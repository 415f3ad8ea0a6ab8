//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(10);

/// Looks at `condition` until it gives something or `limit` is over.
pub fn poll<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(STEP);
    }
}

/// As [`poll`], but fails the test when the time is over.
///
/// # Panics
/// When `limit` is over.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    match poll(limit, condition) {
        Some(found) => found,
        None => panic!("after {limit:?} still waiting until {what}"),
    }
}

/// `Some(())` when true: for conditions that have nothing to give.
pub fn when(condition: bool) -> Option<()> {
    condition.then_some(())
}
