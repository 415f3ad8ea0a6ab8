//! The `stdout` handler: writes events to standard output, as JSON lines for programs or as a table
//! for people.
//!
//! In both formats, names, arguments and paths of a traced program cannot end a line or send
//! control characters to the terminal. Bytes that are not UTF-8 become U+FFFD in JSON, and `\xff`
//! in the table.

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
    /// Not [`io::Stdout`], which buffers: after a failed write it would be unknown how much was
    /// written.
    output: Output<File>,
}

impl Handler for Stdout {
    const ABOUT: &'static str = "writes events to standard output, as JSON lines or as a table";
    type Options = StdoutOptions;
    type Message = Never;
    // Shared: there is one standard output, with one header.
    // Blocking: a write to a full pipe waits for the reader.
    // Stops on failure: after a failed write (a full disk) the output may end with half a line, to
    // which the next event would be joined.
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
        // Two handlers of this type (such as a table and JSON) must not mix their lines.
        let _whole_lines = io::stdout().lock();
        self.output.take(&batch, cx)
    }

    fn flush(&mut self, cx: &mut ChainContext<'_>) -> Result<(), HandlerError> {
        let _whole_lines = io::stdout().lock();
        self.output.flush(cx)
    }
}
