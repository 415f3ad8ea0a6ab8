//! `whalewatch query`

mod table;
mod when;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value as Json};
use whalewatch_core::Timestamp;
use whalewatch_sqlite::{DEFAULT_PATH, Group, History, HistoryError, Query as Asked, Value};

use crate::BAD_USAGE;
use crate::say::say;
use when::When;

/// Query the history that a `sqlite` handler writes: what ran, was opened or connected, when, and
/// in which container
///
/// All times are in UTC. Write a time as 2026-11-23T13:46:20Z, 2026-11-23, today, yesterday, now,
/// -2h or '2h ago'. You can query a history while it is being written.
#[derive(Args)]
pub(crate) struct Query {
    /// Database file
    #[arg(long, default_value = DEFAULT_PATH, value_name = "FILE")]
    db: PathBuf,
    /// Only containers that match this pattern: web* for a name or an id, image:nginx*, or
    /// label:tier=front*; a pattern that starts with ! excludes containers; may be repeated
    #[arg(long, value_name = "GLOB")]
    container: Vec<String>,
    /// Only events of this kind: process.exec, file.*, or network for all kinds that start with
    /// `network.`; may be repeated
    #[arg(long, value_name = "GLOB")]
    kind: Vec<String>,
    /// Only events at or after this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = when::parse)]
    since: Option<When>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = when::parse)]
    until: Option<When>,
    /// Only events on this day: yesterday, today or 2026-11-23
    #[arg(
        long,
        value_name = "DAY",
        conflicts_with_all = ["since", "until"],
        value_parser = when::parse_day
    )]
    on: Option<When>,
    /// Only events of the process with this pid, as the host numbers it
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Only events of processes with this command name
    #[arg(long, value_name = "GLOB")]
    comm: Option<String>,
    /// Only events about this file, mount point or executable
    #[arg(long, value_name = "GLOB")]
    path: Option<String>,
    /// Only events with this attribution
    #[arg(long, value_enum, value_name = "STATE")]
    attribution: Option<State>,
    /// Show only the last COUNT events; with --count-by, only the COUNT largest counts
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Count events by these fields instead of listing them: for example container.name,kind; `day`
    /// and any field of an event are possible
    #[arg(long, value_delimiter = ',', value_name = "FIELDS")]
    count_by: Vec<Group>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns for people
    #[default]
    Table,
    /// One JSON object per line, for programs: each event as it was recorded
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// In a container whose id and name were known
    Resolved,
    /// In a container of which only the id was known
    Pending,
    /// Not known whether in a container
    Unknown,
    /// Not in a container
    Host,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::Pending => "pending",
            Self::Unknown => "unknown",
            Self::Host => "host",
        }
    }
}

/// Why a query failed.
enum Failed {
    History(HistoryError),
    Output(io::Error),
}

impl From<HistoryError> for Failed {
    fn from(error: HistoryError) -> Self {
        Self::History(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Query {
    pub(super) fn run(&self) -> io::Result<ExitCode> {
        let asked = self.asked(Timestamp::now());
        let problems = asked.problems();
        if !problems.is_empty() {
            for problem in &problems {
                say(format_args!("error: {problem}"));
            }
            return Ok(ExitCode::from(BAD_USAGE));
        }
        let history = match History::open(&self.db) {
            Ok(history) => history,
            Err(error) => {
                say(format_args!("error: {error}"));
                return Ok(ExitCode::from(BAD_USAGE));
            }
        };
        match self.answer(&history, &asked) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(Failed::Output(error)) => Err(error),
            Err(Failed::History(error)) => {
                say(format_args!("error: {error}"));
                Ok(ExitCode::FAILURE)
            }
        }
    }

    fn asked(&self, now: Timestamp) -> Asked {
        Asked {
            containers: self.container.clone(),
            kinds: self.kind.clone(),
            since: self.since.or(self.on).map(|when| when.start(now)),
            until: self.until.map(|w| w.start(now)).or(self.on.map(|day| day.end_of_day(now))),
            pid: self.pid,
            comm: self.comm.clone(),
            path: self.path.clone(),
            attribution: self.attribution.map(|state| state.as_str().to_owned()),
            limit: self.limit,
        }
    }

    fn answer(&self, history: &History, asked: &Asked) -> Result<(), Failed> {
        let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
        let found = if self.count_by.is_empty() {
            self.events(history, asked, &mut out)?
        } else {
            self.counts(history, asked, &mut out)?
        };
        out.flush()?;
        if !found && asked.limit != Some(0) {
            say(format_args!("{}: {}", self.db.display(), history.why_nothing(asked)?));
        }
        Ok(())
    }

    /// Writes the events, and returns whether there were any.
    fn events(
        &self,
        history: &History,
        asked: &Asked,
        out: &mut impl Write,
    ) -> Result<bool, Failed> {
        let mut table = table::Table::default();
        let count = history.each::<Failed>(asked, |found| {
            match self.format {
                Format::Json => {
                    out.write_all(found.json.as_bytes())?;
                    out.write_all(b"\n")?;
                }
                Format::Table => out.write_all(table.row(&found))?,
            }
            Ok(())
        })?;
        Ok(count > 0)
    }

    /// Writes the counts, and returns whether there were any.
    fn counts(
        &self,
        history: &History,
        asked: &Asked,
        out: &mut impl Write,
    ) -> Result<bool, Failed> {
        let rows = history.count(asked, &self.count_by)?;
        for (at, group) in self.count_by.iter().enumerate() {
            if group.in_json() && !rows.is_empty() && rows.iter().all(|r| r.1[at] == Value::Null) {
                say(format_args!("note: none of the counted events has a field `{group}`"));
            }
        }
        match self.format {
            Format::Table if rows.is_empty() => {}
            Format::Table => out.write_all(&table::counts(&self.count_by, &rows))?,
            Format::Json => {
                for (count, values) in &rows {
                    let mut line = Map::from_iter([("count".to_owned(), Json::from(*count))]);
                    let names = self.count_by.iter().map(|group| group.name().to_owned());
                    line.extend(names.zip(values.iter().map(json)));
                    writeln!(out, "{}", Json::Object(line))?;
                }
            }
        }
        Ok(!rows.is_empty())
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::Null | Value::Blob(_) => Json::Null,
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
    }
}
