//! The helper: takes records in, has them in the log, and brings them to a server in their order.

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

/// Records sent before what comes in is looked at again.
const TURN: usize = 256;
/// Pauses between attempts to connect.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Nothing more is sent while the first on its way waits so long: should the stream have got a new
/// leader, it must not take what is sent now before what was lost.
const STALL: Duration = Duration::from_secs(1);
/// How often the spool is looked at where there is none.
const NEVER: Duration = Duration::from_hours(24);

/// Records that are handed over: bytes as [`record`](crate::record) writes them, and how many.
pub(crate) type Records = (Bytes, u64);

/// Asks for the end.
pub(crate) struct Stop {
    /// How long acknowledgements are waited for.
    pub(crate) within: Duration,
    /// Told when everything is counted.
    pub(crate) done: flume::Sender<()>,
}

/// A message to the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsMessage {
    /// There is something to count.
    Counts,
}

/// What the helper is made with.
pub(crate) struct Publisher {
    pub(crate) options: Arc<NatsOptions>,
    pub(crate) name: Arc<str>,
    pub(crate) records: flume::Receiver<Records>,
    pub(crate) stop: flume::Receiver<Stop>,
    pub(crate) mailbox: Mailbox<NatsMessage>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) log: Log,
}

/// How a connection, or the attempt at one, ended.
enum Over {
    Stopped,
    Broken(String),
}

/// The helper at work.
struct Work {
    p: Publisher,
    flight: Flight,
    /// Place of the first record of this run: those before it were counted by an earlier one.
    own: u64,
    /// Records of this run that are not counted as delivered or dropped.
    open: u64,
    /// Since when there is no server that takes events.
    outage: Option<Instant>,
    backoff: Backoff,
    tick: Instant,
    stopping: Option<(Instant, flume::Sender<()>)>,
    /// Whether it was told that the spool is full.
    told_full: bool,
    /// Whether there is something that the handler has not been told.
    news: bool,
}

impl Publisher {
    /// Works until it is stopped, or the handler is gone.
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
            told_full: false,
            news: false,
        };
        loop {
            // A runtime for each connection: what the client has started ends with it, whatever it
            // is waiting for.
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    tracing::error!(handler = %work.p.name, "cannot go on: {error}");
                    break;
                }
            };
            let over = runtime.block_on(work.session());
            runtime.shutdown_background();
            match over {
                Over::Stopped => break,
                Over::Broken(reason) => work.broke(&reason),
            }
        }
        work.finish();
    }
}

fn interval(options: &NatsOptions) -> Duration {
    options.spool.as_ref().map_or(NEVER, |spool| spool.sync.0)
}

impl Work {
    /// One connection, from the pause before it until it breaks.
    async fn session(&mut self) -> Over {
        if self.outage.is_some() {
            let until = Instant::now() + self.backoff.pause();
            loop {
                if self.is_done(true) {
                    return Over::Stopped;
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
                return Over::Stopped;
            }
            tokio::select! {
                opened = &mut opening => match opened {
                    Ok(link) => break link,
                    Err(reason) => return Over::Broken(reason),
                },
                () = self.absorb() => {}
            }
        };
        self.rewind();
        match self.live(&mut link).await {
            Ok(()) => Over::Stopped,
            Err(reason) => Over::Broken(reason),
        }
    }

    /// Sends, and takes answers, until it is stopped or the connection breaks: why.
    async fn live(&mut self, link: &mut Link) -> Result<(), String> {
        let limit = self.p.options.ack_timeout.0;
        let mut answers = Vec::new();
        loop {
            self.send(link).await?;
            if self.is_done(false) {
                return Ok(());
            }
            if self.outage.is_some() && self.p.log.settled() == self.p.log.end() {
                self.mended();
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
                    tracing::warn!(handler = %self.p.name, lost, "events in the spool are damaged");
                    self.count_dropped(from, to);
                    self.flight.give_up(from, to);
                    self.settle();
                }
                Some(Next::Record(place, _)) if self.flight.is_known(place) => self.settle(),
                Some(Next::Record(place, record)) => match link.publish(place, record).await {
                    Published::OnItsWay => self.flight.sent(place, Instant::now()),
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
        let mut not_now = None;
        for (place, answer) in answers.drain(..) {
            match answer {
                Answer::NotNow(why) => not_now = not_now.or(Some(why)),
                Answer::Taken if self.flight.answered(place) => self.count_delivered(place),
                Answer::Refused(why) if self.flight.answered(place) => {
                    tracing::warn!(handler = %self.p.name, "an event is dropped: the stream says: {why}");
                    self.count_dropped(place, place + 1);
                }
                Answer::Taken | Answer::Refused(_) => {}
            }
        }
        self.settle();
        match not_now {
            Some(why) => Err(why),
            None => {
                self.mended();
                Ok(())
            }
        }
    }

    /// Waits for what comes in, and takes it.
    async fn absorb(&mut self) {
        if std::mem::take(&mut self.news) && self.p.tally.is_to_be_told() {
            self.p.mailbox.send(NatsMessage::Counts);
        }
        let (stopping, room) = (self.stopping.as_ref().map(|(by, _)| *by), self.p.log.has_room());
        tokio::select! {
            records = self.p.records.recv_async(), if room && stopping.is_none() => match records {
                Ok(records) => self.take(records),
                Err(flume::RecvError::Disconnected) => self.left(),
            },
            stop = self.p.stop.recv_async(), if stopping.is_none() => match stop {
                Ok(stop) => {
                    // What was handed over before comes first.
                    while let Ok(records) = self.p.records.try_recv() {
                        self.take(records);
                    }
                    self.stopping = Some((Instant::now() + stop.within, stop.done));
                }
                Err(flume::RecvError::Disconnected) => self.left(),
            },
            () = sleep_until(stopping.unwrap_or(self.tick)), if stopping.is_some() => {}
            () = sleep_until(self.tick) => self.tick(),
        }
    }

    /// The handler is gone without a word.
    fn left(&mut self) {
        self.stopping.get_or_insert_with(|| (Instant::now(), flume::bounded(1).0));
    }

    fn tick(&mut self) {
        self.tick = Instant::now() + interval(&self.p.options);
        if let Err(error) = self.p.log.tick() {
            tracing::warn!(handler = %self.p.name, "the spool cannot be brought to the disk: {error}");
        }
    }

    /// Whether it is time to end: all is settled, the time is over, or it would have to wait for a
    /// server though the rest is well in the spool.
    fn is_done(&self, waits: bool) -> bool {
        let Some((by, _)) = &self.stopping else { return false };
        self.p.log.settled() == self.p.log.end()
            || Instant::now() >= *by
            || (waits && self.p.log.has_spool())
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
            self.news = true;
        }
        let full = appended.refused > 0 || appended.given_up.is_some();
        if full && !self.told_full {
            match (appended.error, self.p.options.spool.as_ref().map(|spool| spool.when_full)) {
                (Some(error), _) => {
                    tracing::warn!(handler = %self.p.name, "the spool cannot be written to, events are dropped: {error}");
                }
                (None, Some(WhenFull::DropOldest)) => {
                    tracing::warn!(handler = %self.p.name, "the spool is full: the oldest events are dropped");
                }
                (None, _) => {
                    tracing::warn!(handler = %self.p.name, "the spool is full: new events are dropped");
                }
            }
        }
        self.told_full |= full;
    }

    /// Goes back to the first record without an answer.
    fn rewind(&mut self) {
        let gone = self.p.log.rewind();
        for place in self.flight.break_off(gone.map_or(0, |(_, there)| there)) {
            self.count_dropped(place, place + 1);
        }
        if let Some((_, there)) = gone {
            self.p.log.settle(there);
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
            self.news = true;
        }
    }

    /// Counts records of a range as dropped, those apart that were answered before. Those of
    /// earlier runs are no longer in any total: of them it is only told.
    fn count_dropped(&mut self, from: u64, to: u64) {
        let first = from.max(self.own);
        if first < to {
            let count = to - first - self.flight.known_in(first, to);
            self.open -= count;
            self.p.tally.dropped(count);
            self.news = true;
        }
        if from < self.own {
            let to = to.min(self.own);
            let lost = to - from - self.flight.known_in(from, to);
            tracing::warn!(handler = %self.p.name, lost, "events of an earlier run are dropped from the spool");
        }
    }

    fn broke(&mut self, reason: &str) {
        if self.outage.is_none() {
            let place = match self.p.log.spool() {
                Some(spool) => format!("events go to {}", spool.dir().display()),
                None => format!("up to {} of events are kept in memory", self.p.options.buffer),
            };
            tracing::warn!(handler = %self.p.name, "no NATS server takes events ({reason}); {place} until one does");
            self.outage = Some(Instant::now());
            self.backoff.reset();
        } else {
            tracing::debug!(handler = %self.p.name, "still no NATS server: {reason}");
        }
    }

    fn mended(&mut self) {
        if let Some(since) = self.outage.take() {
            let waiting = self.p.log.end() - self.p.log.settled();
            let seconds = since.elapsed().as_secs_f32();
            tracing::warn!(handler = %self.p.name, waiting, "a NATS server takes events again, after {seconds:.1} s");
            self.told_full = false;
        }
    }

    /// What is left is in the spool, and delivered by that, or dropped.
    fn finish(&mut self) {
        self.p.log.close();
        let left = std::mem::take(&mut self.open);
        if let Some(spool) = self.p.log.spool() {
            self.p.tally.delivered(left);
            let waiting = self.p.log.end() - self.p.log.settled();
            if waiting > 0 {
                let dir = spool.dir().display();
                tracing::warn!(handler = %self.p.name, waiting, "events stay in {dir} for the next run");
            }
        } else {
            self.p.tally.dropped(left);
            if left > 0 {
                tracing::warn!(handler = %self.p.name, dropped = left, "events were not acknowledged, and there is no spool to keep them");
            }
        }
        if let Some((_, done)) = self.stopping.take() {
            // Who does not wait any more need not be told.
            done.send(()).ok();
        }
    }
}
