//! The trait is not implemented at all.

use whalewatch_core::Handler;

struct Geo;

/// As `whalewatch::Program::handler` does.
fn register<H: Handler>() {}

fn main() {
    register::<Geo>();
}
