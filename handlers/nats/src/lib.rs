//! The `nats` handler: publishes events to NATS `JetStream`, waits for an acknowledgement of each,
//! and keeps them in a spool on disk while no server accepts them.
//!
//! Every event passes through one ordered log: it is written to the spool, sent, and settled when
//! the stream has acknowledged it. A helper thread does this. The handler itself only converts
//! events to records, so a dead or slow server never blocks the chain for longer than [`PATIENCE`].
//!
//! An event counts as delivered when `JetStream` has acknowledged it or, at the end of the run,
//! when it is in the spool.

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

/// The longest wait of a batch for the helper thread, which may be waiting for the disk or, without
/// a spool, for room in memory. After that, events are dropped without waiting until there is room.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// The most pieces of records, of about 64 KiB each, that wait for the helper thread.
const QUEUE: usize = 16;
/// Time for the disk at the end of the run, in addition to `stop_timeout`.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes events to NATS `JetStream`.
pub struct Nats {
    encoder: Encoder,
    records: flume::Sender<Records>,
    stop: flume::Sender<Stop>,
    helper: Option<JoinHandle<()>>,
    tally: Arc<Tally>,
    stop_timeout: Duration,
    name: Arc<str>,
    /// Whether the last piece of records found no room in the queue.
    congested: bool,
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nats").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Handler for Nats {
    const ABOUT: &'static str = "publishes events to NATS JetStream with acknowledgements, and \
                                 spools them on disk during an outage";
    type Options = NatsOptions;
    type Message = NatsMessage;
    // Shared: one spool, one order and one connection for all chains that name the handler.
    // Blocking: the helper may wait for the disk, and the handler for the helper.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().output().blocking().lifecycle();

    fn check(options: &NatsOptions, input: &[Schema]) -> Vec<Problem> {
        options.check(input)
    }

    fn build(options: &NatsOptions, setup: &Setup<NatsMessage>) -> Result<Self, BuildError> {
        let template = Template::parse("subject", &options.subject)
            .map_err(|problem| BuildError(problem.message))?;
        if let Some(auth) = &options.auth {
            // A secret that cannot be read now is a mistake. Later its file may be missing because
            // it is being replaced, so that counts as an outage.
            link::Secret::of(auth).map_err(BuildError)?;
        }
        // Fails if another part of the program has installed a provider, which is as good.
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
            .map_err(|error| BuildError(format!("cannot start a thread: {error}")))?;
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
            match hand_over(records, (bytes, count), (!*congested).then_some(deadline))? {
                Handed::Queued => *congested = false,
                Handed::Dropped => {
                    cx.dropped(count);
                    if !*congested {
                        tracing::warn!(
                            handler = %name,
                            "events are dropped: no room until the server or the disk catches up"
                        );
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
            return Err(failed("the helper thread does not end: check the disk of the spool"));
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

    /// Stops the helper thread. Returns whether it has ended.
    fn stop(&mut self, within: Duration) -> bool {
        let Some(helper) = self.helper.take() else { return true };
        let (done, ended) = flume::bounded(1);
        // Fails if the thread has ended already, which `recv_timeout` notices.
        self.stop.send(Stop { within, done }).ok();
        match ended.recv_timeout(within + DISK_TIMEOUT) {
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
        // After a failure. The handler that replaces this one sends the events in the spool.
        self.stop(Duration::ZERO);
    }
}

enum Handed {
    Queued,
    Dropped,
}

/// Hands records to the helper thread. Waits for room until `deadline`, or not at all if it is
/// `None`.
fn hand_over(
    to: &flume::Sender<Records>,
    records: Records,
    deadline: Option<Instant>,
) -> Result<Handed, HandlerError> {
    let ended = || failed("the helper thread has ended: see the log for the cause");
    match deadline {
        Some(deadline) => match to.send_deadline(records, deadline) {
            Ok(()) => Ok(Handed::Queued),
            Err(SendTimeoutError::Timeout(_)) => Ok(Handed::Dropped),
            Err(SendTimeoutError::Disconnected(_)) => Err(ended()),
        },
        None => match to.try_send(records) {
            Ok(()) => Ok(Handed::Queued),
            Err(TrySendError::Full(_)) => Ok(Handed::Dropped),
            Err(TrySendError::Disconnected(_)) => Err(ended()),
        },
    }
}

fn failed(message: &str) -> HandlerError {
    HandlerError::Failed { message: message.to_owned(), source: None }
}

/// Returns the log and the epoch of this run.
fn open_log(options: &NatsOptions, name: &str) -> Result<(Log, u64), BuildError> {
    let most = usize::try_from(options.buffer.0).unwrap_or(usize::MAX);
    let Some(spool_options) = &options.spool else {
        let epoch = spool::epoch(None).map_err(|error| BuildError(error.to_string()))?;
        return Ok((Log::new(most, None, 0, WhenFull::DropNewest), epoch));
    };
    let opened = spool::open(&spool_options.dir, spool_options.max_size.0)
        .map_err(|error| BuildError(error.to_string()))?;
    let dir = spool_options.dir.display();
    let epoch = spool::epoch(Some(&spool_options.dir))
        .map_err(|error| BuildError(format!("cannot write to the spool {dir}: {error}")))?;
    if opened.cut > 0 {
        let bytes = opened.cut;
        tracing::warn!(
            handler = name,
            bytes,
            "the end of the spool {dir} is damaged, probably by a crash: cut off"
        );
    }
    let waiting = opened.spool.end() - opened.settled;
    if waiting > 0 {
        tracing::warn!(handler = name, waiting, "sending events of an earlier run first");
    }
    Ok((Log::new(most, Some(opened.spool), opened.settled, spool_options.when_full), epoch))
}

/// For benchmarks: the work for each event on the threads of the handler and its helper.
#[doc(hidden)]
pub mod measure {
    use super::{Batch, Bytes, Encoder, Log, Template, WhenFull, spool};

    /// An encoder and a log with a spool.
    pub struct Path {
        encoder: Encoder,
        log: Log,
    }

    impl Path {
        /// Opens a spool in `dir`.
        ///
        /// # Panics
        /// If the template is wrong or the spool cannot be used.
        pub fn new(dir: &std::path::Path, subject: &str) -> Self {
            let template = Template::parse("subject", subject).expect("a template");
            let opened = spool::open(dir, 1 << 30).expect("a spool");
            let log = Log::new(16 << 20, Some(opened.spool), opened.settled, WhenFull::DropOldest);
            Self { encoder: Encoder::new(template, "node-1".into(), 1), log }
        }

        /// Converts a batch to records. Returns their size in bytes.
        pub fn encode(&mut self, batch: &Batch) -> usize {
            let mut bytes = 0;
            let give = |records: Bytes, _| {
                bytes += records.len();
                Ok::<(), ()>(())
            };
            self.encoder.encode(batch, give).ok();
            bytes
        }

        /// Encodes, spools, reads and settles a batch. Returns the end of the log.
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
