//! Whalewatch with the `geo` handler.

use std::process::ExitCode;

fn main() -> ExitCode {
    whalewatch::Program::new().handler::<geo_handler::Geo>("geo").run()
}
