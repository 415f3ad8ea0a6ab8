//! Fields that a handler adds to events are known to the handlers after it, and only to those, when
//! a configuration is checked.

mod common;

use common::{Nothing, registry};
use whalewatch_core::{
    Batch, BuildError, ChainContext, Declaration, Extension, Field, FieldInfo, Handler,
    HandlerError, Never, Problem, Schema, Setup, Type, Value,
};
use whalewatch_engine::config;

/// Half of a tick's number.
struct Half(u64);

impl Extension for Half {
    const NAME: &'static str = "half";
    const FIELDS: &'static [Field<Self>] = &[Field {
        info: FieldInfo { name: "tick.half", ty: Type::Uint, doc: "" },
        get: |half| Value::Uint(half.0),
    }];
}

/// Adds [`Half`] to ticks.
struct Halves;

impl Handler for Halves {
    const ABOUT: &'static str = "adds halves";
    type Options = Nothing;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().extends(Self::extended_schema);

    fn build(_: &Nothing, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, mut batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        batch.extend(|_| Some(Half(0)));
        cx.emit(batch);
        Ok(())
    }
}

impl Halves {
    fn extended_schema(schema: &Schema) -> Option<Schema> {
        schema.find("tick.number").map(|_| schema.extended::<Half>())
    }
}

/// Accepts only ticks, and requires [`Half`].
struct Requires;

impl Handler for Requires {
    const ABOUT: &'static str = "requires halves";
    type Options = Nothing;
    type Message = Never;
    const DECLARATION: Declaration<Self> = Declaration::new().accepts(&["tick"]);

    fn check(_: &Nothing, input: &[Schema]) -> Vec<Problem> {
        let lacking = input.iter().filter(|schema| schema.find("tick.half").is_none());
        lacking.map(|schema| Problem::new("", format!("{} has no half", schema.name))).collect()
    }

    fn build(_: &Nothing, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        cx.emit(batch);
        Ok(())
    }
}

/// Returns the mistakes of a chain through these handlers.
fn mistakes(through: &str) -> Vec<String> {
    let mut registry = registry();
    let added =
        registry.handler::<Halves>("halves").and_then(|r| r.handler::<Requires>("requires"));
    added.expect("new names");
    let text = format!(
        "[handlers.out]\ntype = 'collect'\nnote = 'n'\n\n\
         [[chains]]\nfrom = ['ticks']\nthrough = [{through}, 'out']\n"
    );
    match config::validate(&registry, "test.toml", &text) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(|(_, _, mistake)| mistake.message.clone()).collect(),
    }
}

#[test]
fn added_fields_are_known_only_to_later_handlers() {
    assert_eq!(mistakes("'halves', 'requires'"), Vec::<String>::new());
    assert_eq!(mistakes("'halves', 'even', 'requires'"), Vec::<String>::new());
    assert_eq!(mistakes("'requires', 'halves'"), ["handler \"requires\": tick has no half"]);
}
