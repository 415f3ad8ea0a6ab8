//! The handler: what is buffered, when it is committed, and what happens while the database cannot
//! be written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, Lifecycle,
    Problem, Schema, Setup,
};

use crate::fault::Fault;
use crate::options::SqliteOptions;
use crate::rows::{Chunk, Encoder};
use crate::store::{OpenError, Store};

/// Pauses between attempts to write: the first, and the longest.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Interval of upkeep if `commit_every` is 0.
const UPKEEP: Duration = Duration::from_millis(200);

/// A fault that comes back within this time is not logged again.
const LOG_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// Pause between attempts to write at the end of the run.
const LAST_TRIES: Duration = Duration::from_millis(20);

/// Keeps a history of events in an embedded database.
#[derive(Debug)]
pub struct Sqlite {
    name: Arc<str>,
    host: Arc<str>,
    options: SqliteOptions,
    encoder: Encoder,
    /// Events that are not committed yet. All chunks but the last are full.
    waiting: VecDeque<Chunk>,
    /// Memory used by `waiting`, in bytes.
    memory: usize,
    store: Option<Store>,
    trouble: Option<Trouble>,
    /// The last fault that was logged, and when.
    last_logged: Option<(Fault, Instant)>,
    /// Whether the run has ended.
    ended: bool,
}

/// Time for a commit and for upkeep.
#[derive(Clone, Copy, Debug)]
pub struct Tick;

/// A period in which the database cannot be written.
#[derive(Debug)]
struct Trouble {
    fault: Fault,
    since: Instant,
    next_try: Instant,
    pause: Duration,
    /// Whether its beginning was logged.
    logged: bool,
    /// Events dropped in this period.
    dropped: u64,
}

impl Handler for Sqlite {
    const ABOUT: &'static str =
        "keeps a history of events in an embedded database, for `whalewatch query`";
    type Options = SqliteOptions;
    type Message = Tick;
    // Chains that name the handler share one database.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().output().blocking().lifecycle();

    fn check(options: &SqliteOptions, _: &[Schema]) -> Vec<Problem> {
        options.problems()
    }

    fn build(options: &SqliteOptions, setup: &Setup<Tick>) -> Result<Self, BuildError> {
        let mut sqlite = Self {
            name: Arc::clone(&setup.name),
            host: Arc::clone(&setup.host_name),
            options: options.clone(),
            encoder: Encoder::new(
                &setup.host_name,
                crate::limits::Limits::new(options.max_size.0).chunk(),
            ),
            waiting: VecDeque::new(),
            memory: 0,
            store: None,
            trouble: None,
            last_logged: None,
            ended: false,
        };
        match Store::open(options) {
            Ok(store) => sqlite.store = Some(store),
            // The disk may be full, or another program may hold a lock: this can pass soon.
            Err(OpenError::Fault(fault)) => sqlite.note(fault),
            Err(OpenError::Refused(message)) => {
                let path = options.path.display();
                return Err(BuildError(format!("cannot use {path} for the history: {message}")));
            }
        }
        setup.mailbox.send(Tick);
        Ok(sqlite)
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Tick>,
    ) -> Result<(), HandlerError> {
        let plan = self.encoder.plan(&batch);
        let mut events = batch.iter();
        while self.memory < self.options.buffer.0 as usize {
            let Some(event) = events.next() else { break };
            if self.waiting.back().is_none_or(|chunk| self.encoder.full(chunk)) {
                let chunk = self.encoder.chunk();
                self.waiting.push_back(chunk);
                self.write(cx, false);
            }
            let Some(chunk) = self.waiting.back_mut() else { break };
            let before = chunk.memory();
            self.encoder.push(chunk, plan, event);
            self.memory += chunk.memory() - before;
        }
        self.refuse(events.len() as u64, cx);
        self.write(cx, false);
        Ok(())
    }

    fn message(&mut self, _: Tick, cx: &mut Context<'_, Tick>) -> Result<(), HandlerError> {
        if self.ended {
            return Ok(());
        }
        self.write(cx, true);
        self.upkeep();
        let every = self.options.commit_every.0;
        cx.after(if every.is_zero() { UPKEEP } else { every }, Tick);
        Ok(())
    }

    fn flush(&mut self, cx: &mut ChainContext<'_, Tick>) -> Result<(), HandlerError> {
        if self.options.commit_every.0.is_zero() {
            self.write(cx, true);
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_, Tick>) -> Result<(), HandlerError> {
        let deadline = Instant::now() + self.options.stop_timeout.0;
        loop {
            if let Some(trouble) = &mut self.trouble {
                trouble.next_try = Instant::now();
            }
            self.write(cx, true);
            if self.waiting.is_empty() || Instant::now() >= deadline {
                break;
            }
            thread::sleep(LAST_TRIES);
        }
        Ok(())
    }
}

impl Lifecycle for Sqlite {
    fn finish(&mut self, cx: &mut Context<'_, Tick>) -> Result<(), HandlerError> {
        self.ended = true;
        self.give_up(cx);
        // Closing copies the log into the database and removes it.
        self.store = None;
        Ok(())
    }
}

impl Sqlite {
    /// Memory used by uncommitted events, in bytes.
    #[cfg(test)]
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.memory
    }

    /// Commits buffered events: only full chunks, or all. Stops if the database cannot be written.
    fn write(&mut self, cx: &Context<'_, Tick>, all: bool) {
        while let Some(chunk) = self.waiting.front() {
            if !all && !self.encoder.full(chunk) || self.pausing() {
                return;
            }
            let count = chunk.rows.len() as u64;
            match write(&mut self.store, &self.options, &self.host, chunk) {
                Ok(()) => {
                    cx.delivered(count);
                    self.recovered();
                }
                Err(Fault::TooLarge) => {
                    let path = self.options.path.display();
                    tracing::warn!(
                        handler = %self.name, %path, count,
                        "events are larger than max_size allows and are dropped"
                    );
                    cx.dropped(count);
                }
                Err(Fault::MakingRoom) => return,
                Err(fault) => return self.note(fault),
            }
            if let Some(chunk) = self.waiting.pop_front() {
                self.memory -= chunk.memory();
                self.encoder.recycle(chunk);
            }
        }
    }

    fn pausing(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| Instant::now() < trouble.next_try)
    }

    fn upkeep(&mut self) {
        if self.pausing() {
            return;
        }
        let Some(store) = &mut self.store else { return };
        match store.upkeep() {
            Ok(()) if self.waiting.is_empty() => self.recovered(),
            // Upkeep that must wait is not a fault while no event waits for it. The next one will
            // do.
            Ok(()) | Err(Fault::Busy | Fault::Held) => {}
            Err(fault) => self.note(fault),
        }
    }

    /// Records that the database cannot be written. Logs it when the period begins and when the
    /// reason changes.
    fn note(&mut self, fault: Fault) {
        if matches!(fault, Fault::Broken(_)) {
            self.store = None;
        }
        let now = Instant::now();
        let new = self.trouble.as_ref().is_none_or(|trouble| trouble.fault != fault);
        let log = new
            && self.last_logged.as_ref().is_none_or(|(last, at)| {
                *last != fault || now.duration_since(*at) > LOG_AGAIN_AFTER
            });
        if log {
            let path = self.options.path.display();
            tracing::warn!(
                handler = %self.name, %path,
                "cannot write the history, events wait in memory: {fault}"
            );
            self.last_logged = Some((fault.clone(), now));
        }
        let before = self.trouble.take();
        let pause = before.as_ref().map_or(BACK_OFF[0], |b| (b.pause * 2).min(BACK_OFF[1]));
        self.trouble = Some(Trouble {
            fault,
            since: before.as_ref().map_or(now, |before| before.since),
            next_try: now + pause,
            pause,
            logged: log || before.as_ref().is_some_and(|before| before.logged),
            dropped: before.map_or(0, |before| before.dropped),
        });
    }

    fn recovered(&mut self) {
        let Some(trouble) = self.trouble.take().filter(|t| t.logged || t.dropped > 0) else {
            return;
        };
        let path = self.options.path.display();
        let after = trouble.since.elapsed().as_millis();
        let dropped = trouble.dropped;
        tracing::warn!(
            handler = %self.name, %path, dropped,
            "the history is written again after {after} ms"
        );
    }

    /// Counts events that do not fit in the buffer.
    fn refuse(&mut self, count: u64, cx: &Context<'_, Tick>) {
        if count == 0 {
            return;
        }
        cx.dropped(count);
        let Some(trouble) = &mut self.trouble else { return };
        if trouble.dropped == 0 {
            let buffer = self.options.buffer;
            tracing::warn!(handler = %self.name, "buffer = {buffer} is full, events are dropped");
        }
        trouble.dropped += count;
    }

    /// Drops the remaining events at the end of the run.
    fn give_up(&mut self, cx: &Context<'_, Tick>) {
        let count: u64 = self.waiting.drain(..).map(|chunk| chunk.rows.len() as u64).sum();
        self.memory = 0;
        if count > 0 {
            let path = self.options.path.display();
            tracing::warn!(
                handler = %self.name, %path,
                "cannot write the history before the run ends, {count} events are dropped"
            );
            cx.dropped(count);
        }
    }
}

/// Writes a chunk to a store. Opens the store if it is closed.
fn write(
    store: &mut Option<Store>,
    options: &SqliteOptions,
    host: &str,
    chunk: &Chunk,
) -> Result<(), Fault> {
    let store = match store {
        Some(store) => store,
        None => store.insert(Store::open(options)?),
    };
    store.write(host, chunk)?;
    // Deletes twice as many old events as were added, so that a backlog becomes smaller. A failure
    // here also shows at the next write.
    store.expire(2 * chunk.rows.len()).ok();
    Ok(())
}
