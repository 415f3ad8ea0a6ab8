//! The context is one of the handler's own messages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{Batch, BuildError, ChainContext, Handler, HandlerError, Never, Setup};

#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GeoOptions {}

struct Geo;

enum Tick {}

impl Handler for Geo {
    const ABOUT: &'static str = "passes every event on";
    type Options = GeoOptions;
    type Message = Tick;

    fn build(_: &GeoOptions, _: &Setup<Tick>) -> Result<Self, BuildError> {
        Ok(Self)
    }

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
