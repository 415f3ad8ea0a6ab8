//! `whalewatch trace`

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use whalewatch_runtime::{Registry, config};

use crate::BAD_USAGE;
use crate::commands::{ENDPOINT_HELP, duration};
use crate::running::{self, RunOptions};
use crate::say::say;

/// Watch now, with no configuration: by default each process that starts and ends, with its container
///
/// Needs root (or the capabilities that `whalewatch doctor` names).
#[derive(Args)]
pub(crate) struct Trace {
    /// What to watch; `whalewatch list trackers` shows what there is
    #[arg(default_value = "process", value_name = "TRACKER")]
    trackers: Vec<String>,
    /// Show only containers whose name or id matches this pattern (`web*`, or `!web-test` for all but those); may be
    /// repeated
    #[arg(long, value_name = "GLOB")]
    container: Vec<String>,
    /// Show only events for which this condition holds, for example 'process.user.id == 0'
    #[arg(long, value_name = "CONDITION")]
    when: Option<String>,
    /// A table for people or JSON lines for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[arg(long, value_name = "URL", help = ENDPOINT_HELP)]
    endpoint: Option<String>,
    /// Stop after this time, counted from the line `watching: …`; for example 10s or 5m
    #[arg(long, value_parser = duration, allow_hyphen_values = true, value_name = "TIME")]
    duration: Option<Duration>,
    /// Write the totals to this file as JSON at the end
    #[arg(long, value_name = "FILE")]
    stats_file: Option<PathBuf>,
    /// Print the configuration that does the same as this command, and watch nothing
    #[arg(long)]
    print_config: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// One JSON object a line
    Json,
}

impl Trace {
    pub(super) fn run(&self, registry: &Registry) -> ExitCode {
        let text = self.config();
        let plan = match config::validate(registry, "the command line's configuration", &text) {
            Ok(plan) => plan,
            Err(mistakes) => {
                say(mistakes);
                return ExitCode::from(BAD_USAGE);
            }
        };
        if self.print_config {
            return match io::stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        let options = RunOptions {
            duration: self.duration,
            stats_file: self.stats_file.as_deref(),
            ..RunOptions::default()
        };
        running::run(plan, &options)
    }

    /// The configuration that does what the arguments say. Writing to a string cannot fail.
    fn config(&self) -> String {
        let mut text = String::new();
        if let Some(endpoint) = &self.endpoint {
            writeln!(text, "[container]\nendpoint = {}\n", quoted(endpoint)).ok();
        }
        let filtered = !self.container.is_empty() || self.when.is_some();
        if filtered {
            text.push_str("[handlers.only]\ntype = \"filter\"\n");
            if !self.container.is_empty() {
                let globs: Vec<String> = self.container.iter().map(|glob| quoted(glob)).collect();
                writeln!(text, "containers = [{}]", globs.join(", ")).ok();
            }
            if let Some(when) = &self.when {
                writeln!(text, "when = {}", quoted(when)).ok();
            }
            text.push('\n');
        }
        let format = match self.format {
            Format::Table => "table",
            Format::Json => "json",
        };
        writeln!(text, "[handlers.out]\ntype = \"stdout\"\nformat = \"{format}\"\n").ok();
        let mut trackers: Vec<String> = self.trackers.iter().map(|t| quoted(t)).collect();
        trackers.dedup();
        let filter = if filtered { "\"only\", " } else { "" };
        writeln!(
            text,
            "[[chains]]\nfrom = [{}]\nthrough = [\"container\", {filter}\"out\"]",
            trackers.join(", ")
        )
        .ok();
        text
    }
}

/// As a TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(c)).ok();
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_the_same_toml_string() {
        for text in ["web*", "a\"b\\c", "line\nbreak\u{1b}[0m", "ö", "\u{7f}"] {
            let document = format!("v = {}", quoted(text));
            let table = toml::from_str::<toml::Table>(&document).unwrap();
            assert_eq!(table["v"].as_str(), Some(text), "{document}");
        }
    }
}
