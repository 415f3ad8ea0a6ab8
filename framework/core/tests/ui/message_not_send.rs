//! Messages come from other threads.

use std::rc::Rc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{Batch, BuildError, ChainContext, Handler, HandlerError, Setup};

#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GeoOptions {}

struct Geo;

impl Handler for Geo {
    const ABOUT: &'static str = "passes every event on";
    type Options = GeoOptions;
    type Message = Rc<str>;

    fn build(_: &GeoOptions, _: &Setup<Rc<str>>) -> Result<Self, BuildError> {
        Ok(Self)
    }

    fn handle(&mut self, batch: Batch, cx: &mut Context<'_, Rc<str>>) -> Result<(), HandlerError> {
        cx.emit(batch);
        Ok(())
    }
}

/// As `whalewatch::Program::handler` does.
fn register<H: Handler>() {}

fn main() {
    register::<Geo>();
}
