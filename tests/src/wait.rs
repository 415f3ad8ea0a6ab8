//! Waits for conditions, never for a time.

use std::thread;
use std::time::{Duration, Instant};

/// The interval at which a condition is checked.
const STEP: Duration = Duration::from_millis(10);

/// Calls `condition` until it returns a value, or `None` when `limit` has passed.
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

/// Waits as [`poll`] does, and fails the test at the deadline.
///
/// # Panics
/// When `limit` has passed.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    match poll(limit, condition) {
        Some(found) => found,
        None => panic!("{limit:?} passed, still waiting until {what}"),
    }
}

/// Returns `Some(())` if true: for conditions without a value.
pub fn when(condition: bool) -> Option<()> {
    condition.then_some(())
}
