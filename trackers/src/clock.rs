//! Converts the kernel's clock to the wall clock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::time::{ClockId, Timespec, clock_gettime};
use whalewatch_core::Timestamp;

/// The wall clock at boot. All trackers share it, so that their events can be ordered by time.
static BOOTED_AT: AtomicU64 = AtomicU64::new(0);

/// Two readings of both clocks differ by less than this, in nanoseconds, unless the wall clock was
/// set.
const NOISE: u64 = 1_000_000;

/// Turns nanoseconds since boot into points in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BootClock {
    booted_at: u64,
}

impl BootClock {
    /// Reads the clocks. The result is the same as before unless the wall clock was set: the noise
    /// of separate readings would put events out of order.
    pub(crate) fn now() -> Self {
        let wall = nanoseconds(clock_gettime(ClockId::Realtime));
        let read = wall.saturating_sub(nanoseconds(clock_gettime(ClockId::Boottime)));
        let known = BOOTED_AT.load(Relaxed);
        if known.abs_diff(read) < NOISE {
            return Self { booted_at: known };
        }
        BOOTED_AT.store(read, Relaxed);
        Self { booted_at: read }
    }

    /// Converts nanoseconds since boot into a point in time.
    pub(crate) fn at(self, since_boot: u64) -> Timestamp {
        Timestamp(self.booted_at.saturating_add(since_boot))
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_becomes_wall_clock_time() {
        let since_boot = nanoseconds(clock_gettime(ClockId::Boottime));
        let clock = BootClock::now();
        let wall = Timestamp::now();
        assert!(clock.at(since_boot).0.abs_diff(wall.0) < 100_000_000);
        assert_eq!(clock.booted_at, BootClock::now().booted_at, "readings do not jitter");
    }
}
