//! The command line as a library. A custom program is the stock program with trackers and handlers
//! added.
//!
//! ```no_run
//! # use whalewatch_core::*;
//! # #[derive(Clone, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
//! # struct Options {}
//! # struct Geo;
//! # impl Handler for Geo {
//! #     const ABOUT: &'static str = "";
//! #     type Options = Options;
//! #     type Message = Never;
//! #     fn build(_: &Options, _: &Setup) -> Result<Self, BuildError> { Ok(Self) }
//! #     fn handle(
//! #         &mut self,
//! #         batch: Batch,
//! #         cx: &mut ChainContext<'_>,
//! #     ) -> Result<(), HandlerError> {
//! #         cx.emit(batch);
//! #         Ok(())
//! #     }
//! # }
//! # use whalewatch_core::{schemars, serde};
//! fn main() -> std::process::ExitCode {
//!     whalewatch::Program::new().handler::<Geo>("geo").run()
//! }
//! ```

#![warn(clippy::print_stderr, clippy::print_stdout)] // They panic on a closed stream: see `say`.

mod commands;
mod control;
mod logging;
mod running;
mod say;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use whalewatch_aggregate::Aggregate;
use whalewatch_container::ContainerManager;
use whalewatch_core::{Handler, TrackerSpec};
use whalewatch_engine::{Registry, RegistryError};
use whalewatch_exec::Exec;
use whalewatch_filter::Filter;
use whalewatch_null::Null;
use whalewatch_rules::Rules;
use whalewatch_stdout::Stdout;
use whalewatch_throttle::Throttle;

use commands::Cli;

/// Registers the handlers that have a cargo feature. A configuration that names one that is not
/// compiled in gets a hint how to build it.
macro_rules! optional_handlers {
    ($program:ident; $($name:literal => $handler:path),* $(,)?) => {{
        $(
            #[cfg(feature = $name)]
            let $program = $program.handler::<$handler>($name);
            #[cfg(not(feature = $name))]
            let $program = {
                let mut program = $program;
                let remedy = concat!("this build lacks it: build with `--features ", $name, "`");
                program.registry.absent_handler($name, remedy);
                program
            };
        )*
        $program
    }};
}

/// Exit code for bad usage or a bad configuration.
const BAD_USAGE: u8 = 2;

/// A `whalewatch` program: the built-in trackers and handlers, and any that are added.
pub struct Program {
    registry: Registry,
    error: Option<RegistryError>,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl whalewatch_trackers::Trackers for Program {
    fn take<T: TrackerSpec>(&mut self, name: &'static str) {
        let added = self.registry.tracker::<T>(name).map(drop);
        self.error = self.error.take().or(added.err());
    }
}

impl Program {
    /// Creates the stock program.
    pub fn new() -> Self {
        let mut program = Self { registry: Registry::new(), error: None };
        whalewatch_trackers::each(&mut program);
        let program = program
            .handler::<Aggregate>("aggregate")
            .handler::<ContainerManager>("container")
            .handler::<Exec>("exec")
            .handler::<Filter>("filter")
            .handler::<Null>("null")
            .handler::<Rules>("rules")
            .handler::<Stdout>("stdout")
            .handler::<Throttle>("throttle");
        optional_handlers!(program;
            "file" => whalewatch_file::JsonFile,
            "nats" => whalewatch_nats::Nats,
            "otlp" => whalewatch_otlp::Otlp,
            "prometheus" => whalewatch_prometheus::Prometheus,
            "sqlite" => whalewatch_sqlite::Sqlite,
            "webhook" => whalewatch_webhook::Webhook,
        )
    }

    /// Adds a tracker type. If the name is taken, [`run`](Self::run) reports it and fails.
    #[must_use]
    pub fn tracker<T: TrackerSpec>(mut self, name: &str) -> Self {
        let added = self.registry.tracker::<T>(name).map(drop);
        self.error = self.error.or(added.err());
        self
    }

    /// Adds a handler type. If the name is taken, [`run`](Self::run) reports it and fails.
    #[must_use]
    pub fn handler<H: Handler>(mut self, name: &str) -> Self {
        let added = self.registry.handler::<H>(name).map(drop);
        self.error = self.error.or(added.err());
        self
    }

    /// Returns the program's tracker and handler types.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Runs the program with the arguments of this process.
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// Runs the program with the given arguments; the first one is the program's name.
    pub fn run_with(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        if let Some(error) = self.error {
            say::say(format_args!("error: {error}"));
            return ExitCode::from(BAD_USAGE);
        }
        let parsed = Cli::command()
            .try_get_matches_from(arguments)
            .and_then(|matches| Cli::from_arg_matches(&matches));
        let cli = match parsed {
            Ok(cli) => cli,
            Err(error) => {
                // `--help` and `--version` are errors to clap; it knows their stream and exit code.
                let code = u8::try_from(error.exit_code()).unwrap_or(BAD_USAGE);
                error.print().ok();
                return ExitCode::from(code);
            }
        };
        logging::start(cli.log_format);
        commands::run(cli, &self.registry)
    }
}
