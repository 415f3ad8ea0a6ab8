//! Where handlers may stand, and where in the text it is told what is wrong with their options.

mod common;

use common::{Nothing, Tick, note, notes, registry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::*;
use whalewatch_engine::{Registry, System, Totals, config};

/// Notes each number and passes it on, if somebody stands behind.
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

/// Finds fault with the second name of the second entry of its list, and with that entry.
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
fn a_handler_that_only_looks_stands_in_the_middle_of_one_chain_and_at_the_end_of_another() {
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
fn a_mistake_within_a_list_is_told_where_it_stands() {
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
    let told = error.to_string();
    assert!(told.contains("test.toml:6:18: handler \"p\", list[1].names[1]: a letter"), "{told}");
    assert!(told.contains("test.toml:5:1: handler \"p\", list[1]: something"), "{told}");
}
