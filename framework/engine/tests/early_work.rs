//! Early work of handlers, which starts before any tracker is opened.

mod common;

use common::{Collect, Tick, await_note, note, notes, ticks};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::*;
use whalewatch_engine::scripted::Scripted;
use whalewatch_engine::{Control, Plan, Registry, Reload, RunError, System, config};

/// A shared handler that notes which early work it starts, and which it finds when it is built.
struct Early {
    fails: bool,
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Where to note.
    note: String,
    /// Name of the early work.
    begins: String,
    /// Whether it fails at its first batch and is built again.
    #[serde(default)]
    fails: bool,
}

impl Handler for Early {
    const ABOUT: &'static str = "begins something ahead";
    type Options = Options;
    type Message = Never;
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().early_work(Self::start_early_work);

    fn build(options: &Options, setup: &Setup) -> Result<Self, BuildError> {
        assert_eq!(setup.early_work.get::<u32>(), None, "it is a text");
        let found = setup.early_work.get::<String>().map_or("nothing", String::as_str);
        note(&options.note, format!("built with {found}"));
        let again =
            notes(&options.note).iter().filter(|note| note.starts_with("built")).count() > 1;
        Ok(Self { fails: options.fails && !again })
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        if self.fails {
            return Err(HandlerError::Failed { message: "as asked".into(), source: None });
        }
        cx.emit(batch);
        Ok(())
    }
}

impl Early {
    fn start_early_work(options: &Options) -> EarlyWork {
        assert_ne!(options.begins, "panic", "as it was asked to");
        note(&options.note, format!("begins {}", options.begins));
        EarlyWork::new(options.begins.clone())
    }
}

/// An output that cannot be built.
struct Broken;

impl Handler for Broken {
    const ABOUT: &'static str = "cannot be made";
    type Options = common::Nothing;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().output();

    fn build(_: &common::Nothing, _: &Setup) -> Result<Self, BuildError> {
        Err(BuildError("as it is meant to".to_owned()))
    }

    fn handle(&mut self, _: Batch, _: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn plan(opened: &'static str, text: &str) -> Plan {
    let mut registry = Registry::new();
    registry
        .source("ticks", move || -> Box<dyn Source<Tick>> {
            note(opened, "opened");
            ticks(1)
        })
        .and_then(|r| r.source("steady", || Box::new(Scripted::new([Tick(1)]).keep_open())))
        .and_then(|r| r.handler::<Early>("early"))
        .and_then(|r| r.handler::<Collect>("collect"))
        .and_then(|r| r.handler::<Broken>("broken"))
        .unwrap();
    config::validate(&registry, "test.toml", text).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns a chain from a tracker through handlers that are named after their early work.
fn text(name: &str, from: &str, begins: &[&str], more: &str) -> String {
    let table = |b: &&str| {
        format!("[handlers.{b}]\ntype = 'early'\nnote = '{name}'\nbegins = '{b}'\n{more}\n")
    };
    let tables: String = begins.iter().map(table).collect();
    format!(
        "{tables}[handlers.out]\ntype = 'collect'\nnote = '{name}-out'
        [[chains]]\nname = 'c'\nfrom = ['{from}']\nthrough = ['{}', 'out']",
        begins.join("', '")
    )
}

fn run(name: &'static str, begins: &[&str], more: &str) -> Result<(), RunError> {
    System::new("host").run(plan(name, &text(name, "ticks", begins, more)), || {}).map(drop)
}

#[test]
fn early_work_precedes_trackers_and_reaches_build() {
    run("ahead", &["watch"], "").unwrap();
    assert_eq!(notes("ahead"), ["begins watch", "opened", "built with watch"]);
}

#[test]
fn rebuilt_handler_gets_its_early_work_again() {
    run("ahead-again", &["watch"], "fails = true").unwrap();
    assert_eq!(
        notes("ahead-again"),
        ["begins watch", "opened", "built with watch", "built with watch"]
    );
}

#[test]
fn panic_in_early_work_names_the_handler_and_opens_nothing() {
    let error = run("ahead-panic", &["panic"], "").unwrap_err().to_string();
    assert!(error.contains("\"panic\"") && error.contains("as it was asked to"), "{error}");
    assert_eq!(notes("ahead-panic"), [""; 0]);
}

/// Runs a first configuration with `old`, reloads to another one after the first event, and returns
/// the result of the reload.
fn reload(name: &'static str, second: &str) -> Result<(), String> {
    let system = System::new("host");
    let controller = system.controller();
    std::thread::scope(|scope| {
        let steer = scope.spawn(move || {
            await_note(&format!("{name}-out"), "1");
            let (reload, answer) = Reload::new(plan(name, second));
            controller.send(Control::Reload(reload)).unwrap();
            let answer = answer.recv().unwrap();
            controller.send(Control::Stop).unwrap();
            answer
        });
        let first = plan(name, &text(name, "steady", &["old"], ""));
        system.run(first, || {}).unwrap_or_else(|e| panic!("{e}"));
        steer.join().unwrap()
    })
}

#[test]
fn reload_starts_early_work_of_new_handlers_only() {
    const NAME: &str = "ahead-reload";
    reload(NAME, &text(NAME, "steady", &["old", "new"], "")).unwrap();
    assert_eq!(notes(NAME), ["begins old", "built with old", "begins new", "built with new"]);
}

#[test]
fn handler_restored_after_a_failed_reload_keeps_its_early_work() {
    const NAME: &str = "ahead-back";
    let second = text(NAME, "steady", &["new"], "").replace("collect'\nnote", "broken'\n#");
    let error = reload(NAME, &second).unwrap_err();
    assert!(error.contains("as it is meant to"), "{error}");
    let notes = notes(NAME);
    let begun: Vec<_> = notes.iter().filter(|note| note.starts_with("begins")).collect();
    assert_eq!(begun, ["begins old", "begins new"]);
    assert_eq!(notes.last().map(String::as_str), Some("built with old"));
}
