//! The timer that tells a tracker when to drain its source.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Ticks at multiples of an interval since boot, so that timers of one interval tick together and
/// wake the thread once.
///
/// The kernel's timer, and not tokio's: that one wakes the thread some 16 times a second more, to
/// keep its own books.
pub(crate) struct DrainTimer {
    timer: AsyncFd<OwnedFd>,
}

impl DrainTimer {
    pub(crate) fn new(interval: Duration) -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
        let every = Timespec { tv_sec: seconds, tv_nsec: interval.subsec_nanos().into() };
        // A first tick in the past goes off at once; all others fall on multiples of the interval.
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &times)?;
        watch(timer).map(|timer| Self { timer })
    }

    /// Ready once for each tick, or once for several that were missed.
    pub(crate) fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if let Ok(mut guard) = ready!(self.timer.poll_read_ready(task)) {
            // Reading the count of ticks rearms the timer. If somebody has read it already, that is
            // not an error.
            rustix::io::read(guard.get_inner(), &mut [0; 8]).ok();
            guard.clear_ready();
        }
        Poll::Ready(())
    }
}

/// Registers a descriptor with the reactor.
#[expect(
    unsafe_code,
    reason = "tokio asks for a promise about the descriptor that types do not give"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the `AsyncFd` alone, which deregisters it before it is
    // closed.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Instant;

    use super::*;

    #[test]
    fn timer_keeps_ticking() {
        actix::System::new().block_on(async {
            let mut timer = DrainTimer::new(Duration::from_millis(2)).unwrap();
            let begin = Instant::now();
            for _ in 0..20 {
                poll_fn(|task| timer.poll(task)).await;
            }
            // The first tick may come at once, and a tick that was missed counts with the next.
            assert!(begin.elapsed() >= Duration::from_millis(2 * 10), "{:?}", begin.elapsed());
        });
    }
}
