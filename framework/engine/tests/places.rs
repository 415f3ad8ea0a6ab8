//! Where handlers may be in a chain, and where mistakes in their options are reported.

mod common;

use common::{Nothing, Tick, note, notes, registry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::*;
use whalewatch_engine::{Registry, System, Totals, config};

/// Notes each number, and passes the event on if another handler follows.
struct Looks;

impl Handler for Looks {
    const ABOUT: &'static str = "looks on";
    type Options = Nothing;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().shared().passive();

    fn build(_: &Nothing, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        for (tick, _) in batch.typed::<Tick>().expect("only ticks come here") {
            note("looked", tick.0.to_string());
        }
        cx.emit(batch);
        Ok(())
    }
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listed {
    list: Vec<Entry>,
}

#[derive(Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Entry {
    names: Vec<String>,
}

/// Reports a problem with the second name of the second entry of its list, and one with that entry.
struct Picky;

impl Handler for Picky {
    const ABOUT: &'static str = "finds fault";
    type Options = Listed;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().output();

    fn check(_: &Listed, _: &[Schema]) -> Vec<Problem> {
        vec![
            Problem::new("list[1].names[1]", "a letter is wrong").at(2),
            Problem::new("list[1]", "something is missing"),
        ]
    }

    fn build(_: &Listed, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        cx.delivered(batch.len() as u64);
        Ok(())
    }
}

fn with_both() -> Registry {
    let mut registry = registry();
    let added = registry.handler::<Looks>("looks").and_then(|r| r.handler::<Picky>("picky"));
    added.expect("names that are free");
    registry
}

fn totals(text: &str) -> Totals {
    let plan = config::validate(&with_both(), "test.toml", text).unwrap_or_else(|e| panic!("{e}"));
    let (_, totals) = System::new("host").run(plan, || {}).unwrap_or_else(|e| panic!("{e}"));
    assert!(totals.add_up(), "{totals}");
    totals
}

#[test]
fn output_that_passes_on_may_be_in_the_middle_or_at_the_end() {
    let totals = totals(
        "
        [handlers.out]
        type = 'collect'
        note = 'behind'
        [[chains]]
        from = ['ticks']
        through = ['looks', 'out']
        [[chains]]
        from = ['ticks']
        through = ['even', 'looks']
    ",
    );
    let looks = &totals.handlers["looks"];
    assert_eq!((looks.input, looks.output, looks.dropped), (1500, 1500, 0));
    assert_eq!(notes("looked").len(), 1500);
    assert_eq!(notes("behind").len(), 1000);
}

#[test]
fn mistake_within_a_list_is_reported_at_its_place() {
    let text = "[handlers.p]
type = 'picky'
[[handlers.p.list]]
names = ['a']
[[handlers.p.list]]
names = ['b', 'long']
[[chains]]
from = ['ticks']
through = ['p']
";
    let error = config::validate(&with_both(), "test.toml", text).err().expect("two mistakes");
    let text = error.to_string();
    assert!(text.contains("test.toml:6:18: handler \"p\", list[1].names[1]: a letter"), "{text}");
    assert!(text.contains("test.toml:5:1: handler \"p\", list[1]: something"), "{text}");
}
