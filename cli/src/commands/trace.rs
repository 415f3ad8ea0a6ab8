//! `whalewatch trace`

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use whalewatch_engine::{Registry, config};

use crate::BAD_USAGE;
use crate::commands::{ENDPOINT_HELP, duration, quoted};
use crate::running::{self, RunOptions};
use crate::say::say;

/// Watch now, with no configuration: by default each process that starts and ends, with its
/// container
///
/// Needs root (or the capabilities that `whalewatch doctor` names).
#[derive(Args)]
pub(crate) struct Trace {
    /// What to watch; `whalewatch list trackers` shows what there is
    #[arg(default_value = "process", value_name = "TRACKER")]
    trackers: Vec<String>,
    /// Show only containers whose name or id matches this pattern (`web*`, or `!web-test` for all
    /// but those); may be repeated
    #[arg(long, value_name = "GLOB")]
    container: Vec<String>,
    /// Send events through this handler, with its default options, before they are shown;
    /// `whalewatch list handlers` shows what there is; may be repeated
    #[arg(long, value_name = "HANDLER")]
    through: Vec<String>,
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
        let containers =
            (!self.container.is_empty()).then(|| format!("containers = {}", list(&self.container)));
        let when = self.when.as_ref().map(|when| format!("when = {}", quoted(when)));
        // A condition may be on what the handlers add, so it stands behind them.
        let (before, behind) = match (&*self.through, when) {
            ([], when) => (containers.into_iter().chain(when).collect(), Vec::new()),
            (_, when) => (Vec::from_iter(containers), Vec::from_iter(when)),
        };
        let mut through = vec!["container".to_owned()];
        filter(&mut text, &mut through, "only", &before);
        through.extend_from_slice(&self.through);
        filter(&mut text, &mut through, "shown", &behind);
        through.push("out".to_owned());
        let format = match self.format {
            Format::Table => "table",
            Format::Json => "json",
        };
        writeln!(text, "[handlers.out]\ntype = \"stdout\"\nformat = \"{format}\"\n").ok();
        let mut trackers = self.trackers.clone();
        trackers.dedup();
        let (from, through) = (list(&trackers), list(&through));
        writeln!(text, "[[chains]]\nfrom = {from}\nthrough = {through}").ok();
        text
    }
}

/// Declares a filter with these options and puts it into the chain, if there are any.
fn filter(text: &mut String, through: &mut Vec<String>, name: &str, options: &[String]) {
    if !options.is_empty() {
        writeln!(text, "[handlers.{name}]\ntype = \"filter\"\n{}\n", options.join("\n")).ok();
        through.push(name.to_owned());
    }
}

/// As a TOML list of strings.
fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}
