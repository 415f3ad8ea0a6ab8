//! The order in which trackers are opened.

mod common;

use std::time::Duration;

use common::{Manager, Named, Tick, note, notes, ticks};
use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, Never, Observe,
    Setup, Source,
};
use whalewatch_engine::scripted::Scripted;
use whalewatch_engine::{Registry, System, config};

/// A shared handler that needs `late` first, and then `ticks`.
struct Second;

impl Handler for Second {
    const ABOUT: &'static str = "needs what another needs, but not first";
    type Options = Named;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().shared().observes(&["late", "ticks"]);

    fn build(_: &Named, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        cx.emit(batch);
        Ok(())
    }
}

impl Observe for Second {
    fn observe(&mut self, _: &Batch, _: &mut Context<'_>) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// How long a tracker waits for `quick` to be opened at the same time.
const PATIENCE: Duration = Duration::from_millis(200);

/// Returns the trackers in the order in which they were opened, each with whether `quick` was
/// opened in the meantime.
fn opened(name: &'static str, through: &[&str]) -> Vec<String> {
    let (quick_opens, quick_opened) = flume::unbounded();
    let beside = move |what: &'static str| {
        let quick_opened = quick_opened.clone();
        move || -> Box<dyn Source<Tick>> {
            let alone = quick_opened.recv_timeout(PATIENCE).is_err();
            note(
                name,
                if alone { format!("{what} alone") } else { format!("{what} beside quick") },
            );
            ticks(1)
        }
    };
    let mut registry = Registry::new();
    registry
        .source("ticks", beside("ticks"))
        .and_then(|r| r.source("late", beside("late")))
        .and_then(|r| {
            r.source("quick", move || -> Box<dyn Source<Tick>> {
                quick_opens.send(()).unwrap();
                Box::new(Scripted::new([Tick(1)]))
            })
        })
        .and_then(|r| r.handler::<Manager>("manager"))
        .and_then(|r| r.handler::<Second>("second"))
        .and_then(|r| r.handler::<common::Collect>("collect"))
        .unwrap();
    let tables: Vec<String> =
        through.iter().map(|h| format!("[{h}]\nnote = '{name}-{h}'\n")).collect();
    let tables = tables.concat();
    let text = format!(
        "{tables}[handlers.out]\ntype = 'collect'\nnote = '{name}-out'
        [[chains]]\nname = 'c'\nfrom = ['quick']\nthrough = ['{}', 'out']",
        through.join("', '")
    );
    let plan = config::validate(&registry, "test.toml", &text).unwrap_or_else(|e| panic!("{e}"));
    System::new("host").run(plan, || {}).unwrap_or_else(|e| panic!("{e}"));
    notes(name)
}

#[test]
fn first_need_of_a_handler_is_opened_before_all_others() {
    assert_eq!(opened("opening-first", &["manager"]), ["ticks alone"]);
}

#[test]
fn tracker_that_is_not_first_in_every_list_is_not_opened_first() {
    let order = opened("opening-second", &["manager", "second"]);
    assert_eq!(order, ["late alone", "ticks beside quick"]);
}
