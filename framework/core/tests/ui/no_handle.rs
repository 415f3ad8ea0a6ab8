//! Nothing takes the batches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::{BuildError, Handler, Never, Setup};

#[derive(Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct GeoOptions {}

struct Geo;

impl Handler for Geo {
    const ABOUT: &'static str = "passes every event on";
    type Options = GeoOptions;
    type Message = Never;

    fn build(_: &GeoOptions, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self)
    }
}

/// As `whalewatch::Program::handler` does.
fn register<H: Handler>() {}

fn main() {
    register::<Geo>();
}
