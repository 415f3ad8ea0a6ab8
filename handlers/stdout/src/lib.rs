//! The `stdout` handler: events on standard output, as JSON lines for programs or as a table for
//! people.
//!
//! In both, nothing that a traced program puts into its name, arguments or files can end a line or
//! reach the terminal as a control. JSON must be UTF-8, so bytes that are not become U+FFFD; the
//! table shows them as `\xff`.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use whalewatch_core::{
    Batch, BuildError, ChainContext, Declaration, Handler, HandlerError, Never, OnFailure, Setup,
};

mod options;
mod output;
mod table;

pub use options::{Color, Format, StdoutOptions};
pub use output::Output;

/// Writes events to standard output.
#[derive(Debug)]
pub struct Stdout {
    /// Not [`io::Stdout`]: that has a buffer of its own, so what a failed write got out could not
    /// be told.
    output: Output<File>,
}

impl Handler for Stdout {
    const ABOUT: &'static str = "writes events to standard output, as JSON lines or as a table";
    type Options = StdoutOptions;
    type Message = Never;
    // There is one standard output, so chains that name the handler share it, with one header.
    // A full pipe makes a write wait for its reader.
    // A standard output that failed (a full disk) may hold half a line, and what follows would be
    // joined to it.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().output().blocking().on_failure(OnFailure::Stop);

    fn build(options: &StdoutOptions, setup: &Setup) -> Result<Self, BuildError> {
        let stdout = io::stdout();
        let color = options.color.decide(
            stdout.is_terminal(),
            env::var_os("NO_COLOR").as_deref(),
            env::var_os("TERM").as_deref(),
        );
        let fd = stdout
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| BuildError(format!("cannot use standard output: {e}")))?;
        Ok(Self { output: Output::new(File::from(fd), options.format, color, &setup.host_name) })
    }

    fn handle(&mut self, batch: Batch, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        // Two handlers of this type (a table and JSON, say) must not write into each other's lines.
        let _whole_lines = io::stdout().lock();
        self.output.take(&batch, cx)
    }

    fn flush(&mut self, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        let _whole_lines = io::stdout().lock();
        self.output.flush(cx)
    }
}
