//! A steady clock for drains.

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

/// Ticks at multiples of an interval since boot, so that tickers of one interval tick together and
/// wake the thread once.
///
/// The kernel's timer, and not tokio's: that one wakes the thread some 16 times a second more, to
/// keep its own books.
pub(crate) struct Ticker {
    timer: AsyncFd<OwnedFd>,
}

impl Ticker {
    pub(crate) fn new(interval: Duration) -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
        let every = Timespec { tv_sec: seconds, tv_nsec: interval.subsec_nanos().into() };
        // A first tick in the past is told at once; all others fall on multiples of the interval.
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &times)?;
        watch(timer).map(|timer| Self { timer })
    }

    /// Ready once for each tick, or for several that nobody asked for in time.
    pub(crate) fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if let Ok(mut guard) = ready!(self.timer.poll_read_ready(task)) {
            // The kernel starts the timer again when the count of its ticks is read. That it was
            // read already is no error.
            rustix::io::read(guard.get_inner(), &mut [0; 8]).ok();
            guard.clear_ready();
        }
        Poll::Ready(())
    }
}

/// Has the reactor watch a descriptor.
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
    fn it_ticks_again_and_again() {
        actix::System::new().block_on(async {
            let mut ticker = Ticker::new(Duration::from_millis(2)).unwrap();
            let begin = Instant::now();
            for _ in 0..20 {
                poll_fn(|task| ticker.poll(task)).await;
            }
            // The first may come at once, and one that waited for its reader counts twice.
            assert!(begin.elapsed() >= Duration::from_millis(2 * 10), "{:?}", begin.elapsed());
        });
    }
}
