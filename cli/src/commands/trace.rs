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

/// Watch this host now, without a configuration file
///
/// By default, shows each process that starts or ends, with its container. Needs root, or the
/// capabilities that `whalewatch doctor` names.
#[derive(Args)]
pub(crate) struct Trace {
    /// Trackers to use; `whalewatch list trackers` shows them all
    #[arg(default_value = "process", value_name = "TRACKER")]
    trackers: Vec<String>,
    /// Show only containers whose name or id matches this pattern, such as `web*`; a pattern that
    /// starts with `!` excludes containers; may be repeated
    #[arg(long, value_name = "GLOB")]
    container: Vec<String>,
    /// Pass events through this handler, with its default options, before they are shown;
    /// `whalewatch list handlers` shows all handlers; may be repeated
    #[arg(long, value_name = "HANDLER")]
    through: Vec<String>,
    /// Show only events that meet this condition, for example 'process.user.id == 0'
    #[arg(long, value_name = "CONDITION")]
    when: Option<String>,
    /// Format of the events
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
    /// Print a configuration file that does the same as this command, then exit
    #[arg(long)]
    print_config: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Aligned columns for people
    #[default]
    Table,
    /// One JSON object per line, for programs
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

    /// Returns the configuration that the arguments stand for. Writing to a string cannot fail.
    fn config(&self) -> String {
        let mut text = String::new();
        if let Some(endpoint) = &self.endpoint {
            writeln!(text, "[container]\nendpoint = {}\n", quoted(endpoint)).ok();
        }
        let containers =
            (!self.container.is_empty()).then(|| format!("containers = {}", list(&self.container)));
        let when = self.when.as_ref().map(|when| format!("when = {}", quoted(when)));
        // A condition may use fields that the handlers add, so it comes after them.
        let (before, after) = match (&*self.through, when) {
            ([], when) => (containers.into_iter().chain(when).collect(), Vec::new()),
            (_, when) => (Vec::from_iter(containers), Vec::from_iter(when)),
        };
        let mut through = vec!["container".to_owned()];
        filter(&mut text, &mut through, "only", &before);
        through.extend_from_slice(&self.through);
        filter(&mut text, &mut through, "shown", &after);
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

/// Declares a filter with these options and adds it to the chain. Does nothing without options.
fn filter(text: &mut String, through: &mut Vec<String>, name: &str, options: &[String]) {
    if !options.is_empty() {
        writeln!(text, "[handlers.{name}]\ntype = \"filter\"\n{}\n", options.join("\n")).ok();
        through.push(name.to_owned());
    }
}

/// Returns the texts as a TOML list of strings.
fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}
