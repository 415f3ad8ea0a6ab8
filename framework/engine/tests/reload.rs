//! Reloads: another plan for a running system.

mod common;

use common::{Collect, Even, Manager, Tick, await_note, note, notes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::*;
use whalewatch_engine::{Control, End, Plan, Registry, Reload, System, Totals, config};

/// Yields a hundred ticks at each call, until it is detached.
#[derive(Default)]
struct Steady {
    next: u64,
    ends: bool,
}

impl Source<Tick> for Steady {
    fn drain(&mut self, out: &mut Vec<Tick>, _: usize) -> Result<Drain, SourceError> {
        if self.ends {
            return Ok(Drain::Ended);
        }
        out.extend((self.next..self.next + 100).map(Tick));
        self.next += 100;
        Ok(Drain::Empty)
    }

    fn interval(&self) -> std::time::Duration {
        std::time::Duration::from_millis(1)
    }

    fn existing(&mut self, out: &mut Vec<Tick>) -> Result<(), SourceError> {
        out.push(Tick(1_000_000));
        Ok(())
    }

    fn counts(&self) -> SourceCounts {
        SourceCounts { generated: self.next, ..SourceCounts::default() }
    }

    fn detach(&mut self) {
        self.ends = true;
    }
}

/// An output that owns a resource exclusively, like a locked file or a listening port.
struct Exclusive(Owned);

/// The resources that are owned now.
static OWNED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Owned {
    /// Name of the resource.
    owns: String,
    /// Where to note.
    note: String,
    #[serde(default)]
    fails: bool,
}

impl Handler for Exclusive {
    const ABOUT: &'static str = "owns a resource exclusively";
    type Options = Owned;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().output().blocking();

    fn build(options: &Owned, _: &Setup) -> Result<Self, BuildError> {
        let mut owned = OWNED.lock().unwrap();
        if options.fails || owned.contains(&options.owns) {
            return Err(BuildError(format!("{} is taken", options.owns)));
        }
        owned.push(options.owns.clone());
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

impl Drop for Exclusive {
    fn drop(&mut self) {
        OWNED.lock().unwrap().retain(|owned| *owned != self.0.owns);
    }
}

/// A shared handler that notes the calls about its chains.
struct Kept(String);

impl Handler for Kept {
    const ABOUT: &'static str = "notes chains";
    type Options = common::Named;
    type Message = Never;
    // Blocking, so that it does not run on the thread that reloads.
    const DECLARATION: Declaration<Self> = Declaration::new().shared().blocking().lifecycle();

    fn build(options: &common::Named, setup: &Setup) -> Result<Self, BuildError> {
        note(&options.note, format!("built for {} chains", setup.chains.len()));
        Ok(Self(options.note.clone()))
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        // Long enough for the end of a chain to arrive while the handler is busy.
        std::thread::sleep(std::time::Duration::from_micros(200));
        cx.emit(batch);
        Ok(())
    }

    fn end(&mut self, _: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        note(&self.0, "end");
        Ok(())
    }
}

impl Lifecycle for Kept {
    fn begin(&mut self, _: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        note(&self.0, "begin");
        Ok(())
    }

    fn finish(&mut self, _: &mut Context<'_>) -> Result<(), HandlerError> {
        note(&self.0, "finish");
        Ok(())
    }
}

/// Returns a registry. `opened` is the name under which the source notes that it was opened.
fn registry(opened: &'static str) -> Registry {
    let mut registry = Registry::new();
    registry
        .source("steady", move || -> Box<dyn Source<Tick>> {
            note(opened, "opened");
            Box::new(Steady::default())
        })
        .and_then(|r| r.source("ticks", || common::ticks(1000)))
        .and_then(|r| r.handler::<Collect>("collect"))
        .and_then(|r| r.handler::<Even>("even"))
        .and_then(|r| r.handler::<Manager>("manager"))
        .and_then(|r| r.handler::<Exclusive>("exclusive"))
        .and_then(|r| r.handler::<Kept>("kept"))
        .unwrap();
    registry
}

fn plan(opened: &'static str, text: &str) -> Plan {
    config::validate(&registry(opened), "test.toml", text).unwrap_or_else(|e| panic!("{e}"))
}

/// Runs a configuration. `steer` gets a function to reload another one.
fn run(
    name: &'static str,
    first: &str,
    steer: impl FnOnce(&dyn Fn(&str) -> Result<(), String>) + Send,
) -> Totals {
    let system = System::new("host");
    let controller = system.controller();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let reload = |text: &str| {
                let (reload, answer) = Reload::new(plan(name, text));
                controller.send(Control::Reload(reload)).unwrap();
                answer.recv().unwrap()
            };
            steer(&reload);
            // The run may have ended already.
            controller.send(Control::Stop).ok();
        });
        let (end, totals) = system.run(plan(name, first), || {}).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(end, End::Done);
        assert!(totals.add_up(), "{totals}");
        totals
    })
}

/// Asserts that the numbers are 0 to `generated`, in order.
#[track_caller]
fn assert_all(mut numbers: Vec<u64>, generated: u64) {
    assert_eq!(numbers.len() as u64, generated);
    let sorted = numbers.is_sorted();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..generated), "each number comes once");
    assert!(sorted, "in their order");
}

fn numbers(name: &str) -> Vec<u64> {
    notes(name).iter().filter_map(|note| note.parse().ok()).collect()
}

#[test]
fn hundred_reloads_lose_no_event_and_keep_the_tracker_attached() {
    let one = "
        [handlers.out]
        type = 'exclusive'
        owns = 'hundred'
        note = 'hundred'
        [[chains]]
        from = ['steady']
        through = ['out']
    ";
    let two = "
        [manager]
        note = 'hundred-manager'
        [handlers.out]
        type = 'exclusive'
        owns = 'hundred'
        note = 'hundred'
        [handlers.half]
        type = 'collect'
        note = 'hundred-half'
        [[chains]]
        from = ['steady']
        through = ['manager', 'out']
        [[chains]]
        from = ['steady']
        through = ['even', 'half']
    ";
    let totals = run("hundred-opened", one, |reload| {
        for turn in 0..50 {
            await_note("hundred", &format!("{}", turn * 10));
            reload(two).unwrap();
            reload(one).unwrap();
        }
    });
    let steady = &totals.trackers["steady"];
    assert!(steady.generated > 500, "{totals}");
    assert_eq!(steady.delivered, steady.generated);
    assert_all(numbers("hundred"), steady.generated);
    assert_eq!(totals.handlers["out"].input, steady.generated);
    assert_eq!(notes("hundred-opened"), ["opened"], "it was never detached");
    let (even, half) = (&totals.handlers["even"], &totals.handlers["half"]);
    assert_eq!((even.filtered, even.output), (even.input / 2, half.output));
}

#[test]
fn unchanged_parts_keep_running() {
    let chains = |extra: &str| {
        format!(
            "
        [manager]
        note = 'same-manager'
        [handlers.out]
        type = 'exclusive'
        owns = 'same'
        note = 'same'
        [[chains]]
        name = 'first'
        from = ['steady']
        through = ['manager', 'out']
        {extra}
    "
        )
    };
    let second = "
        [handlers.more]
        type = 'collect'
        note = 'same-more'
        [[chains]]
        name = 'second'
        from = ['steady']
        through = ['manager', 'more']
    ";
    let totals = run("same-opened", &chains(""), |reload| {
        await_note("same", "500");
        reload(&chains(second)).unwrap();
        await_note("same", "5000");
        reload(&chains("")).unwrap();
    });
    assert_all(numbers("same"), totals.trackers["steady"].generated);
    let built = notes("same-manager").iter().filter(|note| note.starts_with("built")).count();
    assert_eq!(built, 1, "a shared handler gets other chains while it runs");
    let more = numbers("same-more");
    assert!(!more.is_empty() && more.windows(2).all(|pair| pair[1] == pair[0] + 1), "{more:?}");
}

#[test]
fn failed_reload_restores_the_old_plan() {
    let with = |owns: &str, fails: bool| {
        format!(
            "
        [handlers.out]
        type = 'exclusive'
        owns = '{owns}'
        note = 'refused'
        fails = {fails}
        [[chains]]
        from = ['steady']
        through = ['out']
    "
        )
    };
    let totals = run("refused-opened", &with("refused-1", false), |reload| {
        await_note("refused", "100");
        let error = reload(&with("refused-2", true)).unwrap_err();
        assert_eq!(error, "\"out\" cannot start: refused-2 is taken");
        let last = numbers("refused").len();
        await_note("refused", &(last + 1000).to_string());
    });
    assert_all(numbers("refused"), totals.trackers["steady"].generated);
    assert!(OWNED.lock().unwrap().iter().all(|owned| !owned.starts_with("refused")));
}

#[test]
fn tracker_that_is_no_longer_named_ends_after_its_events() {
    let steady = "
        [handlers.out]
        type = 'collect'
        note = 'gone'
        [[chains]]
        from = ['steady']
        through = ['out']
    ";
    let ticks = "
        [handlers.out]
        type = 'collect'
        note = 'come'
        [[chains]]
        from = ['ticks']
        through = ['out']
    ";
    let totals = run("gone-opened", steady, |reload| {
        await_note("gone", "100");
        reload(ticks).unwrap();
        await_note("come", "999");
    });
    assert_all(numbers("gone"), totals.trackers["steady"].generated);
    assert_eq!(numbers("come").len(), 1000);
}

#[test]
fn shared_handler_survives_the_replacement_of_its_last_chain() {
    let with = |out: &str| {
        format!(
            "
        [kept]
        note = 'kept'
        [handlers.out]
        type = 'collect'
        note = '{out}'
        [[chains]]
        from = ['steady']
        through = ['kept', 'out']
    "
        )
    };
    let totals = run("kept-opened", &with("kept-a"), |reload| {
        await_note("kept-a", "100");
        for _ in 0..20 {
            reload(&with("kept-b")).unwrap();
            reload(&with("kept-a")).unwrap();
        }
    });
    let notes = notes("kept");
    assert_eq!(notes.first().map(String::as_str), Some("built for 1 chains"));
    assert_eq!(notes.iter().filter(|note| note.starts_with("built")).count(), 1);
    assert_eq!(notes.iter().filter(|note| *note == "begin").count(), 40);
    assert_eq!(notes.iter().filter(|note| *note == "end").count(), 41);
    assert_eq!(notes.iter().filter(|note| *note == "finish").count(), 1);
    let mut numbers = [numbers("kept-a"), numbers("kept-b")].concat();
    numbers.sort_unstable();
    assert_all(numbers, totals.trackers["steady"].generated);
}
