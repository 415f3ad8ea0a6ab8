//! A thread of a handler's own that takes work and waits for answers.

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

/// What became of events since it was asked last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Events that arrived.
    pub delivered: u64,
    /// Events that were refused or given up.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Tally {
    delivered: AtomicU64,
    dropped: AtomicU64,
}

/// The handler's side: gives jobs, each for a number of events, to a future that runs on a thread
/// of its own, and learns what became of the events. Never holds more events than it has room for.
/// Dropping it ends the thread.
#[derive(Debug)]
pub struct Courier<J> {
    jobs: Option<mpsc::Sender<J>>,
    tally: Arc<Tally>,
    /// Dropped to end the work where it stands.
    running: Option<oneshot::Sender<()>>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    room: u64,
    waiting: u64,
}

/// The other side: where the work gets its jobs, and says what became of them.
pub struct Jobs<J> {
    waiting: mpsc::Receiver<J>,
    tally: Arc<Tally>,
    nudge: Box<dyn Fn() + Send>,
}

impl<J> Jobs<J> {
    /// The next job; `None` when no more come.
    pub async fn next(&mut self) -> Option<J> {
        self.waiting.recv().await
    }

    /// So many of a job's events arrived and so many will not. Over time each event must be told
    /// exactly once.
    pub fn answer(&self, answered: Answered) {
        self.tally.delivered.fetch_add(answered.delivered, AcqRel);
        self.tally.dropped.fetch_add(answered.dropped, AcqRel);
        (self.nudge)();
    }
}

impl<J: Send + 'static> Courier<J> {
    /// Starts the thread, with room for so many events. `work` runs there, in a tokio runtime of
    /// its own, until it has no more jobs; `nudge` is called there whenever something was answered,
    /// and must not wait.
    ///
    /// # Errors
    /// If the system gives no thread, or no means to wait for sockets.
    pub fn start<F>(
        name: &str,
        room: usize,
        nudge: impl Fn() + Send + 'static,
        work: impl FnOnce(Jobs<J>) -> F + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()>,
    {
        // A job has at least one event, so there is never less room here than for events.
        let (sender, jobs) = mpsc::channel(room.max(1));
        let (running, stopped) = oneshot::channel::<()>();
        let (tell_ended, ended) = sync_channel::<()>(0);
        let tally = Arc::new(Tally::default());
        let jobs = Jobs { waiting: jobs, tally: Arc::clone(&tally), nudge: Box::new(nudge) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Dropped when the thread ends, in whatever way.
            let _tell_ended = tell_ended;
            runtime.block_on(async {
                let work = pin!(work(jobs));
                select(work, stopped).await;
            });
            // A look-up of a name that hangs must not hang us.
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
    /// Gives a job of so many events.
    ///
    /// # Errors
    /// Gives it back if there is no room, or nobody is left to take it.
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

    /// Whether there is room for so many events more. More than all the room may come alone, or
    /// they would never go.
    pub fn has_room(&self, events: u64) -> bool {
        self.waiting == 0 || self.waiting.saturating_add(events) <= self.room
    }

    /// Events that have no answer yet.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// What was answered since this was called last.
    pub fn answered(&mut self) -> Answered {
        let answered = Answered {
            delivered: self.tally.delivered.swap(0, AcqRel),
            dropped: self.tally.dropped.swap(0, AcqRel),
        };
        self.waiting = self.waiting.saturating_sub(answered.delivered + answered.dropped);
        answered
    }

    /// Nothing is waited for any more.
    pub(crate) fn forget(&mut self) {
        self.waiting = 0;
    }

    /// Whether the work ended though more may come: it panicked.
    pub fn broken(&self) -> bool {
        self.jobs.as_ref().is_some_and(mpsc::Sender::is_closed)
    }

    /// No more jobs come: waits until all is answered, but not longer than `limit`, and ends the
    /// thread. What is still [waiting](Self::waiting) once the last answers are
    /// [taken](Self::answered) will not be answered.
    pub fn finish(&mut self, limit: Duration) {
        self.jobs = None;
        // Nothing is ever sent: that the other end is gone is the message.
        if self.ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            self.running = None;
        }
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic has been told where it happened; `broken` says that it did.
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
    fn everything_is_answered_before_the_end() {
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
    fn a_nudge_comes_with_each_answer() {
        let (tell, told) = channel();
        let nudge = move || tell.send(()).expect("the test listens");
        let mut courier = Courier::start("t", 100, nudge, deliver_all).unwrap();
        courier.offer(5, 5).unwrap();
        told.recv_timeout(LONG).unwrap();
        assert_eq!(courier.answered(), Answered { delivered: 4, dropped: 1 });
    }

    #[test]
    fn what_finds_no_room_comes_back_and_what_hangs_is_ended_in_time() {
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
    fn a_panic_breaks_it_and_nothing_else() {
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
