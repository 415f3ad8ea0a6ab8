//! Neither options nor messages are named.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{Batch, BuildError, ChainContext, Handler, HandlerError, Never, Setup};

#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GeoOptions {}

struct Geo;

impl Handler for Geo {
    const ABOUT: &'static str = "passes every event on";

    fn build(_: &GeoOptions, _: &Setup) -> Result<Self, BuildError> {
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
