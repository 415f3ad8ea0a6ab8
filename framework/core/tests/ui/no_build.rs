//! Nothing says how the handler is made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{Batch, ChainContext, Handler, HandlerError, Never};

#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GeoOptions {}

struct Geo;

impl Handler for Geo {
    const ABOUT: &'static str = "passes every event on";
    type Options = GeoOptions;
    type Message = Never;

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        cx.emit(batch);
        Ok(())
    }
}

/// As `whalewatch::Program::handler` does.
fn register<H: Handler>() {}

fn main() {
    register::<Geo>();
}
