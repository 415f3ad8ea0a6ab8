//! The command line: one file per subcommand.

mod check;
mod completions;
mod doctor;
mod explain;
mod graph;
mod list;
mod new;
#[cfg(feature = "sqlite")]
mod query;
mod record;
mod reload;
mod replay;
mod run;
mod test;
mod trace;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use whalewatch_core::HumanDuration;
use whalewatch_engine::{Plan, Registry, config};

use crate::BAD_USAGE;
use crate::logging::LogFormat;
use crate::say::say;

/// Trace what happens on this host, and see which container did it.
///
/// Start with `whalewatch trace`, which shows each process that starts and ends, with its
/// container. `whalewatch doctor` checks whether this host can run Whalewatch. To choose what is
/// watched and where the events go, write a TOML file: `whalewatch list` shows the parts you can
/// use, and `whalewatch run` runs the file.
#[derive(Parser)]
#[command(name = "whalewatch", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Format of the program's own log on standard error; set `RUST_LOG` to choose what is logged
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Trace(trace::Trace),
    Run(run::Run),
    Reload(reload::ReloadCommand),
    Record(record::Record),
    Replay(replay::Replay),
    Test(test::Test),
    Check(check::Check),
    List(list::List),
    Explain(explain::Explain),
    Graph(graph::Graph),
    #[cfg(feature = "sqlite")]
    Query(query::Query),
    Doctor(doctor::Doctor),
    New(new::New),
    Completions(completions::Completions),
}

/// Help text of every `--endpoint`.
const ENDPOINT_HELP: &str =
    "Socket of the Docker daemon [default: $DOCKER_HOST, else unix:///var/run/docker.sock]";

/// Returns `$DOCKER_HOST`, which the `docker` command uses too. An empty value counts as unset.
fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}

/// Output for people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextOrJson {
    /// Text for people
    #[default]
    Text,
    /// JSON for programs
    Json,
}

/// Runs the subcommand.
pub(crate) fn run(cli: Cli, registry: &Registry) -> ExitCode {
    let result = match cli.command {
        Command::Trace(trace) => return trace.run(registry),
        Command::Run(run) => return run.run(registry),
        Command::Reload(reload) => return reload.run(),
        Command::Record(record) => return record.run(registry),
        Command::Replay(replay) => return replay.run(registry),
        Command::Test(test) => test.run(registry),
        Command::Check(check) => check.run(registry),
        Command::List(list) => list.run(registry),
        Command::Explain(explain) => explain.run(registry),
        Command::Graph(graph) => graph.run(registry),
        #[cfg(feature = "sqlite")]
        Command::Query(query) => query.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::New(new) => new.run(registry),
        Command::Completions(completions) => completions.run(),
    };
    match result {
        Ok(code) => code,
        // The reader of the output, such as `head`, has closed it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Largest configuration file, in bytes. The limit also ends the reading of endless files such as
/// `/dev/zero`.
const MOST_BYTES: u64 = 4 << 20;

/// Reads and checks a configuration file, and prints its mistakes to standard error.
pub(crate) fn load(registry: &Registry, path: &Path) -> Result<Plan, ExitCode> {
    parse(registry, path).map_err(|mistakes| {
        say(mistakes);
        ExitCode::from(BAD_USAGE)
    })
}

/// Reads and checks a configuration file. The error lists every mistake.
pub(crate) fn parse(registry: &Registry, path: &Path) -> Result<Plan, String> {
    let shown = path.display().to_string();
    let text = read(path).map_err(|error| format!("error: cannot read {shown}: {error}"))?;
    config::validate(registry, &shown, &text).map_err(|mistakes| mistakes.to_string())
}

/// Returns the text of a file. The error says how to fix the problem.
fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path);
    file.and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound => format!("{error}: check the path"),
            io::ErrorKind::IsADirectory => format!("{error}: name a file in it"),
            _ => error.to_string(),
        }
    })?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(String::from("it is larger than 4 MiB, the limit for a configuration"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|&b| b == b'\n').count();
        format!("line {line} is not UTF-8: save the file as UTF-8")
    })
}

/// Parses a duration such as `10s` for clap.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<HumanDuration>().map(|duration| duration.0)
}

/// Returns the text as a TOML string.
pub(crate) fn quoted(text: &str) -> String {
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
    fn quoted_text_survives_a_toml_parser() {
        for text in ["web*", "a\"b\\c", "line\nbreak\u{1b}[0m", "ö", "\u{7f}"] {
            let document = format!("v = {}", quoted(text));
            let table = toml::from_str::<toml::Table>(&document).unwrap();
            assert_eq!(table["v"].as_str(), Some(text), "{document}");
        }
    }
}
