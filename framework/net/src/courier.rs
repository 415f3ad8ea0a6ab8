//! A thread of a handler that takes jobs and waits for answers.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use futures_util::future::select;
use tokio::sync::{mpsc, oneshot};

/// The outcome of events since the last query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Events that arrived.
    pub delivered: u64,
    /// Events that were refused or given up on.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Tally {
    delivered: AtomicU64,
    dropped: AtomicU64,
}

/// The handler's side: passes jobs, each for a number of events, to a future that runs on a
/// separate thread, and learns the outcome of the events. The number of events it holds is bounded.
/// Dropping it ends the thread.
#[derive(Debug)]
pub struct Courier<J> {
    jobs: Option<mpsc::Sender<J>>,
    tally: Arc<Tally>,
    /// Dropped to stop the work at once.
    running: Option<oneshot::Sender<()>>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    room: u64,
    waiting: u64,
}

/// The worker's side: takes jobs and reports their outcome.
pub struct Jobs<J> {
    waiting: mpsc::Receiver<J>,
    tally: Arc<Tally>,
    nudge: Box<dyn Fn() + Send>,
}

impl<J> Jobs<J> {
    /// Returns the next job; `None` once there are no more.
    pub async fn next(&mut self) -> Option<J> {
        self.waiting.recv().await
    }

    /// Reports how many of a job's events arrived and how many will not. Each event must be
    /// reported exactly once.
    pub fn answer(&self, answered: Answered) {
        self.tally.delivered.fetch_add(answered.delivered, AcqRel);
        self.tally.dropped.fetch_add(answered.dropped, AcqRel);
        (self.nudge)();
    }
}

impl<J: Send + 'static> Courier<J> {
    /// Starts the thread, with `room` for this many events. `work` runs there, in a separate tokio
    /// runtime, until it has no more jobs. `nudge` is called there after each answer and must not
    /// block.
    ///
    /// # Errors
    /// If the system cannot start the thread or its event loop.
    pub fn start<F>(
        name: &str,
        room: usize,
        nudge: impl Fn() + Send + 'static,
        work: impl FnOnce(Jobs<J>) -> F + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()>,
    {
        // A job has at least one event, so this never limits more than the room for events.
        let (sender, jobs) = mpsc::channel(room.max(1));
        let (running, stopped) = oneshot::channel::<()>();
        let (tell_ended, ended) = sync_channel::<()>(0);
        let tally = Arc::new(Tally::default());
        let jobs = Jobs { waiting: jobs, tally: Arc::clone(&tally), nudge: Box::new(nudge) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Dropped when the thread ends, even by a panic.
            let _tell_ended = tell_ended;
            runtime.block_on(async {
                let work = pin!(work(jobs));
                select(work, stopped).await;
            });
            // A name look-up that hangs must not block this thread.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            jobs: Some(sender),
            tally,
            running: Some(running),
            ended,
            thread: Some(thread),
            room: room as u64,
            waiting: 0,
        })
    }
}

impl<J> Courier<J> {
    /// Passes on a job of this many events.
    ///
    /// # Errors
    /// Returns the job if there is no room, or the work has ended.
    pub fn offer(&mut self, job: J, events: u64) -> Result<(), J> {
        let Some(jobs) = self.jobs.as_ref().filter(|_| self.has_room(events)) else {
            return Err(job);
        };
        jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job) => job,
        })?;
        self.waiting += events;
        Ok(())
    }

    /// Whether there is room for this many more events. A job that is larger than the whole room is
    /// accepted when nothing else waits, or it could never be sent.
    pub fn has_room(&self, events: u64) -> bool {
        self.waiting == 0 || self.waiting.saturating_add(events) <= self.room
    }

    /// Returns the number of events without an answer.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Returns the outcome of events since the last call.
    pub fn answered(&mut self) -> Answered {
        let answered = Answered {
            delivered: self.tally.delivered.swap(0, AcqRel),
            dropped: self.tally.dropped.swap(0, AcqRel),
        };
        self.waiting = self.waiting.saturating_sub(answered.delivered + answered.dropped);
        answered
    }

    /// Stops waiting for answers.
    pub(crate) fn forget(&mut self) {
        self.waiting = 0;
    }

    /// Whether the work ended early: it panicked.
    pub fn broken(&self) -> bool {
        self.jobs.as_ref().is_some_and(mpsc::Sender::is_closed)
    }

    /// Waits until every job is answered, at most for `limit`, and ends the thread. Events that are
    /// still [waiting](Self::waiting) after the last [answers](Self::answered) get none.
    pub fn finish(&mut self, limit: Duration) {
        self.jobs = None;
        // Nothing is ever sent: the channel closes when the thread ends.
        if self.ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            self.running = None;
        }
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported it; `broken` says that it happened.
            thread.join().ok();
        }
    }
}

impl<J> Drop for Courier<J> {
    fn drop(&mut self) {
        self.running = None;
        self.jobs = None;
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    async fn deliver_all(mut jobs: Jobs<u64>) {
        while let Some(events) = jobs.next().await {
            jobs.answer(Answered { delivered: events - 1, dropped: 1 });
        }
    }

    #[test]
    fn all_jobs_are_answered_before_the_end() {
        let mut courier = Courier::start("t", 100, || (), deliver_all).unwrap();
        for events in [10, 20, 30] {
            courier.offer(events, events).unwrap();
        }
        courier.finish(LONG);
        assert_eq!(courier.answered(), Answered { delivered: 57, dropped: 3 });
        assert_eq!(courier.waiting(), 0);
        assert_eq!(courier.offer(1, 1), Err(1), "it has ended");
    }

    #[test]
    fn each_answer_comes_with_a_nudge() {
        let (nudged, nudges) = channel();
        let nudge = move || nudged.send(()).expect("the test listens");
        let mut courier = Courier::start("t", 100, nudge, deliver_all).unwrap();
        courier.offer(5, 5).unwrap();
        nudges.recv_timeout(LONG).unwrap();
        assert_eq!(courier.answered(), Answered { delivered: 4, dropped: 1 });
    }

    #[test]
    fn job_without_room_comes_back_and_a_hanging_one_is_stopped() {
        let work = |mut jobs: Jobs<u64>| async move {
            jobs.next().await;
            std::future::pending::<()>().await;
        };
        let mut courier = Courier::start("t", 100, || (), work).unwrap();
        courier.offer(150, 150).unwrap();
        assert_eq!(courier.offer(1, 1), Err(1));
        courier.finish(Duration::from_millis(10));
        assert_eq!((courier.answered(), courier.waiting()), (Answered::default(), 150));
    }

    #[test]
    fn panic_of_the_work_is_noticed() {
        let work = |mut jobs: Jobs<u64>| async move {
            jobs.next().await;
            panic!("as a test asked");
        };
        let mut courier = Courier::start("t", 100, || (), work).unwrap();
        assert!(!courier.broken());
        courier.offer(5, 5).unwrap();
        courier.ended.recv_timeout(LONG).unwrap_err();
        assert!(courier.broken());
        assert_eq!(courier.offer(1, 1), Err(1));
        drop(courier);
    }
}
