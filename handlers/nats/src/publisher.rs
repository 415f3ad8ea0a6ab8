//! The helper thread: appends records to the log and sends them to a server in order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::pin;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep_until};
use whalewatch_core::Mailbox;
use whalewatch_kit::Backoff;

use crate::flight::Flight;
use crate::link::{Answer, Link, Published};
use crate::log::{Log, Next};
use crate::options::{NatsOptions, WhenFull};
use crate::tally::Tally;

/// Records to send before the input is checked again.
const TURN: usize = 256;
/// The pauses between attempts to connect.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Nothing more is sent while the oldest record in flight has waited this long. If the stream has a
/// new leader, it could otherwise store later records before the lost one is sent again.
const STALL: Duration = Duration::from_secs(1);
/// The interval of syncs if there is no spool.
const NEVER: Duration = Duration::from_hours(24);

/// Encoded records, as [`record`](crate::record) writes them, and their number.
pub(crate) type Records = (Bytes, u64);

/// A request to stop the helper thread.
pub(crate) struct Stop {
    /// The longest wait for acknowledgements.
    pub(crate) within: Duration,
    /// Gets a message when every event is counted.
    pub(crate) done: flume::Sender<()>,
}

/// A message to the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsMessage {
    /// There are new counts in the tally.
    Counts,
}

/// Everything that the helper thread starts with.
pub(crate) struct Publisher {
    pub(crate) options: Arc<NatsOptions>,
    pub(crate) name: Arc<str>,
    pub(crate) records: flume::Receiver<Records>,
    pub(crate) stop: flume::Receiver<Stop>,
    pub(crate) mailbox: Mailbox<NatsMessage>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) log: Log,
}

/// How a session ended.
enum SessionEnd {
    Stopped,
    Broken(String),
}

/// The state of the helper thread.
struct Work {
    p: Publisher,
    flight: Flight,
    /// Place of the first record of this run. Earlier records were counted by an earlier run.
    own: u64,
    /// Records of this run that are not yet counted as delivered or dropped.
    open: u64,
    /// The start of the current outage.
    outage: Option<Instant>,
    backoff: Backoff,
    tick: Instant,
    stopping: Option<(Instant, flume::Sender<()>)>,
    /// Whether it was logged that the spool is full.
    logged_full: bool,
    /// Whether the tally has counts that were not announced to the handler.
    has_counts: bool,
}

impl Publisher {
    /// Runs until it is stopped or the handler is dropped.
    pub(crate) fn run(self) {
        let own = self.log.end();
        let tick = Instant::now() + interval(&self.options);
        let mut work = Work {
            p: self,
            flight: Flight::default(),
            own,
            open: 0,
            outage: None,
            backoff: BACKOFF,
            tick,
            stopping: None,
            logged_full: false,
            has_counts: false,
        };
        loop {
            // A tokio runtime for each connection, so that the tasks of the client end with it,
            // whatever they are waiting for.
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    tracing::error!(
                        handler = %work.p.name,
                        "cannot start a tokio runtime, nothing more is sent: {error}"
                    );
                    break;
                }
            };
            let end = runtime.block_on(work.session());
            runtime.shutdown_background();
            match end {
                SessionEnd::Stopped => break,
                SessionEnd::Broken(reason) => work.begin_outage(&reason),
            }
        }
        work.finish();
    }
}

fn interval(options: &NatsOptions) -> Duration {
    options.spool.as_ref().map_or(NEVER, |spool| spool.sync.0)
}

impl Work {
    /// Runs one connection: the pause before it, connecting, and sending until it breaks or the
    /// helper is stopped.
    async fn session(&mut self) -> SessionEnd {
        if self.outage.is_some() {
            let until = Instant::now() + self.backoff.pause();
            loop {
                if self.is_done(true) {
                    return SessionEnd::Stopped;
                }
                tokio::select! {
                    () = sleep_until(until) => break,
                    () = self.absorb() => {}
                }
            }
        }
        let (options, name) = (Arc::clone(&self.p.options), Arc::clone(&self.p.name));
        let opening = Link::open(&options, &name);
        pin!(opening);
        let mut link = loop {
            if self.is_done(false) {
                return SessionEnd::Stopped;
            }
            tokio::select! {
                opened = &mut opening => match opened {
                    Ok(link) => break link,
                    Err(reason) => return SessionEnd::Broken(reason),
                },
                () = self.absorb() => {}
            }
        };
        self.rewind();
        match self.live(&mut link).await {
            Ok(()) => SessionEnd::Stopped,
            Err(reason) => SessionEnd::Broken(reason),
        }
    }

    /// Sends records and processes answers until the helper is stopped.
    ///
    /// # Errors
    /// If the connection breaks. The error is the reason.
    async fn live(&mut self, link: &mut Link) -> Result<(), String> {
        let limit = self.p.options.ack_timeout.0;
        let mut answers = Vec::new();
        loop {
            self.send(link).await?;
            if self.is_done(false) {
                return Ok(());
            }
            if self.outage.is_some() && self.p.log.settled() == self.p.log.end() {
                self.end_outage();
            }
            let more = self.may_send();
            let late = self.flight.since().map(|since| since + limit);
            tokio::select! {
                broken = link.next(&mut answers) => broken?,
                () = self.absorb() => {}
                () = tokio::task::yield_now(), if more => {}
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => {
                    return Err(format!("no acknowledgement within {limit:?}"));
                }
            }
            self.answered(&mut answers)?;
        }
    }

    fn may_send(&self) -> bool {
        let patience = STALL.min(self.p.options.ack_timeout.0 / 2);
        self.p.log.next_place() < self.p.log.end()
            && self.flight.len() < self.p.options.max_in_flight as usize
            && !self.flight.has_hole()
            && self.flight.since().is_none_or(|since| since.elapsed() < patience)
    }

    async fn send(&mut self, link: &Link) -> Result<(), String> {
        for _ in 0..TURN {
            if !self.may_send() {
                break;
            }
            match self.p.log.read() {
                None => break,
                Some(Next::Damage(from, to)) => {
                    let lost = to - from - self.flight.known_in(from, to);
                    tracing::warn!(
                        handler = %self.p.name, lost,
                        "the spool is damaged: the events in that part are lost"
                    );
                    self.count_dropped(from, to);
                    self.flight.give_up(from, to);
                    self.settle();
                }
                Some(Next::Record(place, _)) if self.flight.is_known(place) => self.settle(),
                Some(Next::Record(place, record)) => match link.publish(place, record).await {
                    Published::Sent => self.flight.sent(place, Instant::now()),
                    Published::Refused(why) => {
                        tracing::warn!(handler = %self.p.name, "an event is dropped: {why}");
                        self.count_dropped(place, place + 1);
                        self.flight.give_up(place, place + 1);
                        self.settle();
                    }
                    Published::Broken(why) => return Err(why),
                },
            }
        }
        Ok(())
    }

    fn answered(&mut self, answers: &mut Vec<(u64, Answer)>) -> Result<(), String> {
        if answers.is_empty() {
            return Ok(());
        }
        let mut temporary = None;
        for (place, answer) in answers.drain(..) {
            match answer {
                Answer::Temporary(why) => temporary = temporary.or(Some(why)),
                Answer::Stored if self.flight.answered(place) => self.count_delivered(place),
                Answer::Refused(why) if self.flight.answered(place) => {
                    tracing::warn!(
                        handler = %self.p.name,
                        "an event is dropped, because the stream refuses it: {why}"
                    );
                    self.count_dropped(place, place + 1);
                }
                Answer::Stored | Answer::Refused(_) => {}
            }
        }
        self.settle();
        match temporary {
            Some(why) => Err(why),
            None => {
                self.end_outage();
                Ok(())
            }
        }
    }

    /// Waits for records, a request to stop or the next sync, and processes it.
    async fn absorb(&mut self) {
        if std::mem::take(&mut self.has_counts) && self.p.tally.announce() {
            self.p.mailbox.send(NatsMessage::Counts);
        }
        let (stopping, room) = (self.stopping.as_ref().map(|(by, _)| *by), self.p.log.has_room());
        tokio::select! {
            records = self.p.records.recv_async(), if room && stopping.is_none() => match records {
                Ok(records) => self.take(records),
                Err(flume::RecvError::Disconnected) => self.handler_dropped(),
            },
            stop = self.p.stop.recv_async(), if stopping.is_none() => match stop {
                Ok(stop) => {
                    // Records that were handed over before the request come first.
                    while let Ok(records) = self.p.records.try_recv() {
                        self.take(records);
                    }
                    self.stopping = Some((Instant::now() + stop.within, stop.done));
                }
                Err(flume::RecvError::Disconnected) => self.handler_dropped(),
            },
            () = sleep_until(stopping.unwrap_or(self.tick)), if stopping.is_some() => {}
            () = sleep_until(self.tick) => self.tick(),
        }
    }

    /// Stops at once, because the handler was dropped without a request to stop.
    fn handler_dropped(&mut self) {
        self.stopping.get_or_insert_with(|| (Instant::now(), flume::bounded(1).0));
    }

    fn tick(&mut self) {
        self.tick = Instant::now() + interval(&self.p.options);
        if let Err(error) = self.p.log.tick() {
            tracing::warn!(
                handler = %self.p.name,
                "cannot sync the spool, events may be lost in a power cut: {error}"
            );
        }
    }

    /// Returns whether to end now, after a request to stop: all records are settled, the time is
    /// up, or, if `in_pause`, the spool keeps the rest, so that waiting for a server is needless.
    fn is_done(&self, in_pause: bool) -> bool {
        let Some((by, _)) = &self.stopping else { return false };
        self.p.log.settled() == self.p.log.end()
            || Instant::now() >= *by
            || (in_pause && self.p.log.has_spool())
    }

    fn take(&mut self, (bytes, count): Records) {
        self.open += count;
        let appended = self.p.log.append(bytes, count);
        if let Some((from, to)) = appended.given_up {
            self.count_dropped(from, to);
        }
        if appended.refused > 0 {
            self.open -= appended.refused;
            self.p.tally.dropped(appended.refused);
            self.has_counts = true;
        }
        let full = appended.refused > 0 || appended.given_up.is_some();
        if full && !self.logged_full {
            match (appended.error, self.p.options.spool.as_ref().map(|spool| spool.when_full)) {
                (Some(error), _) => {
                    tracing::warn!(
                        handler = %self.p.name,
                        "cannot write to the spool, events are dropped: {error}"
                    );
                }
                (None, Some(WhenFull::DropOldest)) => {
                    tracing::warn!(
                        handler = %self.p.name,
                        "the spool is full: the oldest events are dropped"
                    );
                }
                (None, _) => {
                    tracing::warn!(
                        handler = %self.p.name,
                        "the spool is full: new events are dropped"
                    );
                }
            }
        }
        self.logged_full |= full;
    }

    /// Returns to the first record without an answer. Counts as dropped the records that the log
    /// has removed meanwhile.
    fn rewind(&mut self) {
        let removed = self.p.log.rewind();
        for place in self.flight.disconnect(removed.map_or(0, |(_, first)| first)) {
            self.count_dropped(place, place + 1);
        }
        if let Some((_, first)) = removed {
            self.p.log.settle(first);
        }
    }

    fn settle(&mut self) {
        let place = self.flight.settle(self.p.log.next_place());
        self.p.log.settle(place);
    }

    fn count_delivered(&mut self, place: u64) {
        if place >= self.own {
            self.open -= 1;
            self.p.tally.delivered(1);
            self.has_counts = true;
        }
    }

    /// Counts the records of a range as dropped, except those that were answered before. Records of
    /// earlier runs were counted by their run, so they are only logged.
    fn count_dropped(&mut self, from: u64, to: u64) {
        let first = from.max(self.own);
        if first < to {
            let count = to - first - self.flight.known_in(first, to);
            self.open -= count;
            self.p.tally.dropped(count);
            self.has_counts = true;
        }
        if from < self.own {
            let to = to.min(self.own);
            let lost = to - from - self.flight.known_in(from, to);
            tracing::warn!(
                handler = %self.p.name, lost,
                "events of an earlier run are dropped from the spool"
            );
        }
    }

    fn begin_outage(&mut self, reason: &str) {
        if self.outage.is_none() {
            let place = match self.p.log.spool() {
                Some(spool) => format!("events are kept in {}", spool.dir().display()),
                None => format!("up to {} of events are kept in memory", self.p.options.buffer),
            };
            tracing::warn!(
                handler = %self.p.name,
                "no NATS server accepts events, retrying ({reason}): {place} until one does"
            );
            self.outage = Some(Instant::now());
            self.backoff.reset();
        } else {
            tracing::debug!(
                handler = %self.p.name,
                "still no NATS server accepts events: {reason}"
            );
        }
    }

    fn end_outage(&mut self) {
        if let Some(since) = self.outage.take() {
            let waiting = self.p.log.end() - self.p.log.settled();
            let seconds = since.elapsed().as_secs_f32();
            tracing::warn!(
                handler = %self.p.name, waiting,
                "a NATS server accepts events again, after {seconds:.1} s"
            );
            self.logged_full = false;
        }
    }

    /// Counts the remaining records: as delivered if they are in the spool, otherwise as dropped.
    fn finish(&mut self) {
        self.p.log.close();
        let left = std::mem::take(&mut self.open);
        if let Some(spool) = self.p.log.spool() {
            self.p.tally.delivered(left);
            let waiting = self.p.log.end() - self.p.log.settled();
            if waiting > 0 {
                let dir = spool.dir().display();
                tracing::warn!(
                    handler = %self.p.name, waiting,
                    "events stay in {dir} for the next run"
                );
            }
        } else {
            self.p.tally.dropped(left);
            if left > 0 {
                tracing::warn!(
                    handler = %self.p.name, dropped = left,
                    "events were not acknowledged, and there is no spool to keep them: dropped"
                );
            }
        }
        if let Some((_, done)) = self.stopping.take() {
            // Fails if the handler no longer waits.
            done.send(()).ok();
        }
    }
}
