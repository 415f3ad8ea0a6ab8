//! Parts for chains in tests: event types, and handlers that note what they receive.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses some of it")]

use std::collections::HashMap;
use std::sync::{Condvar, LazyLock, Mutex};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::*;
use whalewatch_engine::scripted::Scripted;
use whalewatch_engine::{Control, End, Registry, RunError, System, Totals, config};
use whalewatch_testing::{TestEvent, TestType};

/// An event with a number and nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick(pub(crate) u64);

impl Event for Tick {
    const NAME: &'static str = "tick";
    const KINDS: &'static [&'static str] = &["tick.tock"];
    const FIELDS: &'static [Field<Self>] = &[Field {
        info: FieldInfo { name: "tick.number", ty: Type::Uint, doc: "its number" },
        get: |tick| Value::Uint(tick.0),
    }];

    fn kind(&self) -> &'static str {
        "tick.tock"
    }

    fn time(&self) -> Timestamp {
        Timestamp(self.0)
    }

    fn process(&self) -> Option<&Process> {
        None
    }
}

/// A second type of event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tack;

impl TestType for Tack {
    const NAME: &'static str = "tack";
    const KINDS: &'static [&'static str] = &["tack.tack"];
}

/// The notes of handlers, by the name in their options. Each test uses different names.
static NOTES: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);
/// Signals a new note.
static NOTED: Condvar = Condvar::new();

pub(crate) fn note(name: &str, text: impl Into<String>) {
    NOTES.lock().unwrap().entry(name.to_owned()).or_default().push(text.into());
    NOTED.notify_all();
}

pub(crate) fn notes(name: &str) -> Vec<String> {
    NOTES.lock().unwrap().get(name).cloned().unwrap_or_default()
}

/// Waits for a note with this text, for at most 30 seconds.
pub(crate) fn await_note(name: &str, text: &str) {
    let missing = |notes: &mut HashMap<String, Vec<String>>| {
        !notes.get(name).is_some_and(|list| list.iter().any(|note| note == text))
    };
    let (_guard, timeout) =
        NOTED.wait_timeout_while(NOTES.lock().unwrap(), Duration::from_secs(30), missing).unwrap();
    assert!(!timeout.timed_out(), "no note {text:?} under {name:?}");
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// Where to note.
    pub(crate) note: String,
}

fn numbers(batch: &Batch) -> String {
    let ticks = batch.typed::<Tick>().expect("only ticks come here");
    ticks.map(|(tick, _)| tick.0.to_string()).collect::<Vec<_>>().join(" ")
}

/// An output that notes the number of each event.
pub(crate) struct Collect(Named);

impl Handler for Collect {
    const ABOUT: &'static str = "notes what comes";
    type Options = Named;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().output();

    fn build(options: &Named, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self(options.clone()))
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        for (tick, _) in batch.typed::<Tick>().expect("only ticks come here") {
            note(&self.0.note, tick.0.to_string());
        }
        cx.delivered(batch.len() as u64);
        Ok(())
    }
}

/// An output that blocks its thread until there is a note `go` under its name. Then it notes the
/// numbers of each batch, as `took 0 1 2`.
pub(crate) struct Block(Named);

impl Handler for Block {
    const ABOUT: &'static str = "blocks";
    type Options = Named;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().output().blocking();

    fn build(options: &Named, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self(options.clone()))
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        note(&self.0.note, "blocked");
        await_note(&self.0.note, "go");
        note(&self.0.note, format!("took {}", numbers(&batch)));
        cx.delivered(batch.len() as u64);
        Ok(())
    }
}

/// Passes on events with even numbers.
pub(crate) struct Even;

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

impl Handler for Even {
    const ABOUT: &'static str = "keeps even numbers";
    type Options = Nothing;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().accepts(&["tick"]);

    fn build(_: &Nothing, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, mut batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        let accessor = batch.schema().find("tick.number").expect("ticks have a number").1;
        let gone = batch.retain(|e| matches!(e.value(accessor), Value::Uint(n) if n % 2 == 0));
        cx.filtered(gone);
        cx.emit(batch);
        Ok(())
    }
}

/// A shared handler that needs the tracker type `ticks`. It notes what it observes and handles.
pub(crate) struct Manager(Named);

impl Handler for Manager {
    const ABOUT: &'static str = "acts as a container manager";
    type Options = Named;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().shared().observes(&["ticks"]);

    fn build(options: &Named, setup: &Setup) -> Result<Self, BuildError> {
        note(&options.note, format!("built for {} chains", setup.chains.len()));
        Ok(Self(options.clone()))
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        if batch.typed::<Tick>().is_some() {
            note(&self.0.note, format!("handled {}", numbers(&batch)));
        }
        cx.emit(batch);
        Ok(())
    }
}

impl Observe for Manager {
    fn observe(&mut self, batch: &Batch, _: &mut Context<'_>) -> Result<(), HandlerError> {
        note(&self.0.note, format!("observed {}", numbers(batch)));
        Ok(())
    }
}

/// Panics at the number 13, every time, or returns an error if the option `fails` is set.
pub(crate) struct Unlucky {
    options: UnluckyOptions,
    held: Vec<Batch>,
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnluckyOptions {
    #[serde(default)]
    pub(crate) fails: bool,
    /// Hold all events until the end.
    #[serde(default)]
    pub(crate) holds: bool,
}

impl Handler for Unlucky {
    const ABOUT: &'static str = "fails at 13";
    type Options = UnluckyOptions;
    type Message = Never;
    const DECLARATION: Declaration<Self> =
        Declaration::new().on_failure(OnFailure::Restart { max_per_minute: 2 });

    fn build(options: &UnluckyOptions, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self { options: options.clone(), held: Vec::new() })
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        if batch.typed::<Tick>().expect("ticks").any(|(tick, _)| tick.0 == 13) {
            if self.options.fails {
                let message = String::from("thirteen");
                return Err(HandlerError::Failed { message, source: None });
            }
            panic!("thirteen");
        }
        if self.options.holds {
            self.held.push(batch);
        } else {
            cx.emit(batch);
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        for batch in self.held.drain(..) {
            cx.emit(batch);
        }
        Ok(())
    }
}

/// Panics at every batch.
pub(crate) struct Always;

impl Handler for Always {
    const ABOUT: &'static str = "always fails";
    type Options = Nothing;
    type Message = Never;
    const DECLARATION: Declaration<Self> =
        Declaration::new().on_failure(OnFailure::Restart { max_per_minute: 2 });

    fn build(_: &Nothing, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, _: Batch, _: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        panic!("always");
    }
}

/// An output whose reader has closed at the first batch.
pub(crate) struct Closes;

impl Handler for Closes {
    const ABOUT: &'static str = "closes";
    type Options = Nothing;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().output();

    fn build(_: &Nothing, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, _: Batch, _: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        Err(HandlerError::Closed)
    }
}

/// Holds all batches until a timer message, and gets a message from a helper thread for each. Notes
/// the messages.
pub(crate) struct Later {
    held: Vec<(ChainId, Batch)>,
    mailbox: Mailbox<&'static str>,
    note: String,
}

impl Handler for Later {
    const ABOUT: &'static str = "holds back";
    type Options = Named;
    type Message = &'static str;

    fn build(options: &Named, setup: &Setup<&'static str>) -> Result<Self, BuildError> {
        let (mailbox, note) = (setup.mailbox.clone(), options.note.clone());
        Ok(Self { held: Vec::new(), mailbox, note })
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, &'static str>,
    ) -> Result<(), HandlerError> {
        self.held.push((cx.chain(), batch));
        let mailbox = self.mailbox.clone();
        std::thread::spawn(move || mailbox.send("helper"));
        cx.after(Duration::from_millis(1), "timer");
        Ok(())
    }

    fn message(
        &mut self,
        message: &'static str,
        cx: &mut Context<'_, &'static str>,
    ) -> Result<(), HandlerError> {
        note(&self.note, message);
        if message == "timer" {
            if cx.behind() {
                note(&self.note, "a timer, behind");
                cx.after(Duration::from_millis(1), "timer");
            } else {
                note(&self.note, "a timer, not behind");
            }
            for (chain, batch) in self.held.drain(..) {
                cx.emit_to(chain, batch);
            }
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_, &'static str>) -> Result<(), HandlerError> {
        for (chain, batch) in self.held.drain(..) {
            cx.emit_to(chain, batch);
        }
        Ok(())
    }
}

/// Holds all batches until a timer message, and is woken by nothing else.
#[derive(Default)]
pub(crate) struct Alarm {
    held: Vec<Batch>,
}

impl Handler for Alarm {
    const ABOUT: &'static str = "holds back until a timer comes";
    type Options = Nothing;
    type Message = ChainId;

    fn build(_: &Nothing, _: &Setup<ChainId>) -> Result<Self, BuildError> {
        Ok(Self::default())
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, ChainId>,
    ) -> Result<(), HandlerError> {
        if self.held.is_empty() {
            let chain = cx.chain();
            cx.after(Duration::from_millis(100), chain);
        }
        self.held.push(batch);
        Ok(())
    }

    fn message(
        &mut self,
        chain: ChainId,
        cx: &mut Context<'_, ChainId>,
    ) -> Result<(), HandlerError> {
        for batch in self.held.drain(..) {
            cx.emit_to(chain, batch);
        }
        Ok(())
    }
}

/// Returns a source of `count` ticks that ends. Tick 1000 is reported as existing.
pub(crate) fn ticks(count: u64) -> Box<dyn Source<Tick>> {
    Box::new(Scripted::new((0..count).map(Tick)).existing(vec![Tick(1000)]))
}

/// Returns a registry of all handlers here and of the tracker types `ticks` (1,000 events, then the
/// end), `open` (100 events, then open until the stop), `many` (100,000 events, then open until the
/// stop) and `tacks` (one event of another type).
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .source("ticks", || ticks(1000))
        .and_then(|r| {
            r.source("open", || -> Box<dyn Source<Tick>> {
                Box::new(Scripted::new((0..100).map(Tick)).keep_open())
            })
        })
        .and_then(|r| {
            r.source("many", || -> Box<dyn Source<Tick>> {
                Box::new(Scripted::new((0..100_000).map(Tick)).keep_open())
            })
        })
        .and_then(|r| {
            r.source("tacks", || -> Box<dyn Source<TestEvent<Tack>>> {
                Box::new(Scripted::new([TestEvent::of("tack.tack")]))
            })
        })
        .and_then(|r| r.handler::<Collect>("collect"))
        .and_then(|r| r.handler::<Block>("block"))
        .and_then(|r| r.handler::<Even>("even"))
        .and_then(|r| r.handler::<Manager>("manager"))
        .and_then(|r| r.handler::<Unlucky>("unlucky"))
        .and_then(|r| r.handler::<Closes>("closes"))
        .and_then(|r| r.handler::<Always>("always"))
        .and_then(|r| r.handler::<Later>("later"))
        .and_then(|r| r.handler::<Alarm>("alarm"))
        .unwrap();
    registry
}

/// Runs a configuration. `steer` runs on a separate thread and can stop the run.
pub(crate) fn run_with(
    text: &str,
    steer: impl FnOnce(flume::Sender<Control>) + Send + 'static,
) -> Result<(End, Totals), RunError> {
    let plan = config::validate(&registry(), "test.toml", text).unwrap_or_else(|e| panic!("{e}"));
    let system = System::new("host");
    let controller = system.controller();
    let steering = std::thread::spawn(move || steer(controller));
    let result = system.run(plan, || {});
    steering.join().unwrap();
    result
}

/// Runs a configuration whose sources end, and checks that the totals add up.
pub(crate) fn run(text: &str) -> (End, Totals) {
    let (end, totals) = run_with(text, |_| {}).unwrap_or_else(|e| panic!("{e}"));
    assert!(totals.add_up(), "{totals}");
    (end, totals)
}
