//! Nothing says how the handler is made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{Batch, Context, Handler, HandlerError, Never};

#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GeoOptions {}

struct Geo;

impl Handler for Geo {
    const ABOUT: &'static str = "passes every event on";
    type Options = GeoOptions;
    type Message = Never;

    fn handle(&mut self, batch: Batch, cx: &mut Context<'_, Never>) -> Result<(), HandlerError> {
        cx.emit(batch);
        Ok(())
    }
}

/// As `whalewatch::Program::handler` does.
fn register<H: Handler>() {}

fn main() {
    register::<Geo>();
}
