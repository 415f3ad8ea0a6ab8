//! The `nats` handler: publishes events to NATS `JetStream`, each with an acknowledgement, and
//! keeps them in a spool on disk while no server takes them.
//!
//! Every event goes through one ordered log: it is written to the spool, sent, and settled once the
//! stream has acknowledged it. A helper thread does this; the handler itself only makes records of
//! events, so a server that is dead or slow never holds the chain up for longer than [`PATIENCE`].
//!
//! An event counts as delivered once `JetStream` has acknowledged it or, when the run ends, it is
//! safely in the spool.

mod encode;
mod flight;
mod link;
mod log;
mod options;
mod publisher;
mod record;
mod spool;
mod subject;
mod tally;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flume::{SendTimeoutError, TrySendError};
use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, Lifecycle,
    Problem, Schema, Setup,
};
use whalewatch_kit::Template;

pub use options::{AuthOptions, NatsOptions, SpoolOptions, StreamOptions, TlsOptions, WhenFull};
pub use publisher::NatsMessage;
pub use spool::SpoolError;

use encode::Encoder;
use log::Log;
use publisher::{Publisher, Records, Stop};
use tally::Tally;

/// How long a batch may wait for the helper to take it: that is for the disk, or for room in memory
/// where there is no spool. Then events are dropped without waiting, until there is room again.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Records wait for the helper in so many pieces of 64 KiB.
const QUEUE: usize = 16;
/// How much longer than `stop_timeout` the end is waited for: for the disk.
const LAST: Duration = Duration::from_secs(10);

/// Publishes events to NATS `JetStream`.
pub struct Nats {
    encoder: Encoder,
    records: flume::Sender<Records>,
    stop: flume::Sender<Stop>,
    helper: Option<JoinHandle<()>>,
    tally: Arc<Tally>,
    stop_timeout: Duration,
    name: Arc<str>,
    /// Whether the helper did not take the last batch in time.
    congested: bool,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Handler for Nats {
    const ABOUT: &'static str = "publishes events to NATS JetStream with acknowledgements, and spools them on disk during an outage";
    type Options = NatsOptions;
    type Message = NatsMessage;
    // One spool, one order, one connection for all chains that name it.
    // The helper may have to wait for the disk, and the handler for the helper.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().output().blocking().lifecycle();

    fn check(options: &NatsOptions, input: &[Schema]) -> Vec<Problem> {
        options.check(input)
    }

    fn build(options: &NatsOptions, setup: &Setup<NatsMessage>) -> Result<Self, BuildError> {
        let template = Template::parse("subject", &options.subject)
            .map_err(|problem| BuildError(problem.message))?;
        if let Some(auth) = &options.auth {
            // What cannot be read now is a mistake; later it may be on its way to being replaced.
            link::Secret::of(auth).map_err(BuildError)?;
        }
        // Whatever else in the program brings its own: one that is installed already is as good.
        async_nats::rustls::crypto::ring::default_provider().install_default().ok();
        let (log, epoch) = open_log(options, &setup.name)?;
        let (records, from_handler) = flume::bounded(QUEUE);
        let (stop, stops) = flume::bounded(1);
        let tally = Arc::new(Tally::default());
        let publisher = Publisher {
            options: Arc::new(options.clone()),
            name: Arc::clone(&setup.name),
            records: from_handler,
            stop: stops,
            mailbox: setup.mailbox.clone(),
            tally: Arc::clone(&tally),
            log,
        };
        let helper = thread::Builder::new()
            .name(format!("nats-{}", setup.name))
            .spawn(move || publisher.run())
            .map_err(|error| BuildError(format!("no thread can be started: {error}")))?;
        Ok(Self {
            encoder: Encoder::new(template, Arc::clone(&setup.host_name), epoch),
            records,
            stop,
            helper: Some(helper),
            tally,
            stop_timeout: options.stop_timeout.0,
            name: Arc::clone(&setup.name),
            congested: false,
        })
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, NatsMessage>,
    ) -> Result<(), HandlerError> {
        let Self { encoder, records, congested, name, .. } = self;
        let deadline = Instant::now() + PATIENCE;
        encoder.encode(&batch, |bytes, count| {
            match hand_over(records, (bytes, count), if *congested { None } else { Some(deadline) })? {
                Handed::Over => *congested = false,
                Handed::Dropped => {
                    cx.dropped(count);
                    if !*congested {
                        tracing::warn!(handler = %name, "events are dropped: there is no room for them until a server takes some");
                    }
                    *congested = true;
                }
            }
            Ok(())
        })?;
        self.count(cx);
        Ok(())
    }

    fn message(
        &mut self,
        NatsMessage::Counts: NatsMessage,
        cx: &mut Context<'_, NatsMessage>,
    ) -> Result<(), HandlerError> {
        self.count(cx);
        Ok(())
    }
}

impl Lifecycle for Nats {
    fn finish(&mut self, cx: &mut Context<'_, NatsMessage>) -> Result<(), HandlerError> {
        let ended = self.stop(self.stop_timeout);
        self.count(cx);
        if !ended {
            return Err(failed("the helper has not come to its end: is the disk in order?"));
        }
        Ok(())
    }
}

impl Nats {
    fn count(&self, cx: &Context<'_, NatsMessage>) {
        let (delivered, dropped) = self.tally.take();
        cx.delivered(delivered);
        cx.dropped(dropped);
    }

    /// Stops the helper; whether it has ended.
    fn stop(&mut self, within: Duration) -> bool {
        let Some(helper) = self.helper.take() else { return true };
        let (done, told) = flume::bounded(1);
        // One that is gone already has nothing more to say.
        self.stop.send(Stop { within, done }).ok();
        match told.recv_timeout(within + LAST) {
            Ok(()) => helper.join().is_ok(),
            Err(flume::RecvTimeoutError::Disconnected) => {
                helper.join().ok();
                false
            }
            Err(flume::RecvTimeoutError::Timeout) => false,
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // After a failure: what is in the spool is for the handler that takes this one's place.
        self.stop(Duration::ZERO);
    }
}

enum Handed {
    Over,
    Dropped,
}

/// Hands records to the helper, and waits for room until `deadline` if there is one.
fn hand_over(
    to: &flume::Sender<Records>,
    records: Records,
    deadline: Option<Instant>,
) -> Result<Handed, HandlerError> {
    let gone = || failed("its helper has ended");
    match deadline {
        Some(deadline) => match to.send_deadline(records, deadline) {
            Ok(()) => Ok(Handed::Over),
            Err(SendTimeoutError::Timeout(_)) => Ok(Handed::Dropped),
            Err(SendTimeoutError::Disconnected(_)) => Err(gone()),
        },
        None => match to.try_send(records) {
            Ok(()) => Ok(Handed::Over),
            Err(TrySendError::Full(_)) => Ok(Handed::Dropped),
            Err(TrySendError::Disconnected(_)) => Err(gone()),
        },
    }
}

fn failed(message: &str) -> HandlerError {
    HandlerError::Failed { message: message.to_owned(), source: None }
}

/// The log, and this run's epoch.
fn open_log(options: &NatsOptions, name: &str) -> Result<(Log, u64), BuildError> {
    let most = usize::try_from(options.buffer.0).unwrap_or(usize::MAX);
    let Some(wanted) = &options.spool else {
        let epoch = spool::epoch(None).map_err(|error| BuildError(error.to_string()))?;
        return Ok((Log::new(most, None, 0, WhenFull::DropNewest), epoch));
    };
    let opened = spool::open(&wanted.dir, wanted.max_size.0)
        .map_err(|error| BuildError(error.to_string()))?;
    let dir = wanted.dir.display();
    let epoch = spool::epoch(Some(&wanted.dir))
        .map_err(|error| BuildError(format!("the spool {dir} cannot be written to: {error}")))?;
    if opened.cut > 0 {
        let bytes = opened.cut;
        tracing::warn!(
            handler = name,
            bytes,
            "the end of the spool {dir} was damaged by a crash, and is cut off"
        );
    }
    let waiting = opened.spool.end() - opened.settled;
    if waiting > 0 {
        tracing::warn!(handler = name, waiting, "events of an earlier run are sent first");
    }
    Ok((Log::new(most, Some(opened.spool), opened.settled, wanted.when_full), epoch))
}

/// For benchmarks: the work for each event on the handler's thread and on the helper's.
#[doc(hidden)]
pub mod measure {
    use super::{Batch, Bytes, Encoder, Log, Template, WhenFull, spool};

    /// An encoder and a spool below `dir`.
    pub struct Path {
        encoder: Encoder,
        log: Log,
    }

    impl Path {
        /// Opens them.
        ///
        /// # Panics
        /// If the spool cannot be used.
        pub fn new(dir: &std::path::Path, subject: &str) -> Self {
            let template = Template::parse("subject", subject).expect("a template");
            let opened = spool::open(dir, 1 << 30).expect("a spool");
            let log = Log::new(16 << 20, Some(opened.spool), opened.settled, WhenFull::DropOldest);
            Self { encoder: Encoder::new(template, "node-1".into(), 1), log }
        }

        /// Makes records of a batch; how many bytes.
        pub fn encode(&mut self, batch: &Batch) -> usize {
            let mut bytes = 0;
            let give = |records: Bytes, _| {
                bytes += records.len();
                Ok::<(), ()>(())
            };
            self.encoder.encode(batch, give).ok();
            bytes
        }

        /// Brings a batch through: encodes, spools, reads, settles.
        pub fn pass(&mut self, batch: &Batch) -> u64 {
            let Self { encoder, log } = self;
            let give = |records: Bytes, count| {
                log.append(records, count);
                Ok::<(), ()>(())
            };
            encoder.encode(batch, give).ok();
            while log.read().is_some() {}
            log.settle(log.end());
            log.end()
        }
    }
}
