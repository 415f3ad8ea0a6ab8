//! `cargo xtask bench`: measures what watching costs, against not watching.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::measure::{self, Bench};

const HELP: &str = "\
cargo xtask bench [--rounds N] [--only PART]... [--json FILE] [--no-pipeline]

  --rounds       How often each workload runs with and without Whalewatch, in turns; default 9
  --only         Measure only this part; may be given several times: idle, processes, files, calls, events, kernel,
                 containers, pipeline
  --json         Also write the figures to FILE
  --no-pipeline  Skip the throughput from a scripted source, whose benchmark must be built first

Needs root and an idle machine.
";

/// One figure.
#[derive(Debug)]
pub(crate) struct Figure {
    /// The quantity.
    pub(crate) name: &'static str,
    /// The value.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// The goal.
    pub(crate) aim: Aim,
}

/// The goal of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// None: the figure is for comparison.
    None,
}

impl Aim {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("at most {limit}"),
            Self::AtLeast(limit) => format!("at least {limit}"),
            Self::None => String::new(),
        }
    }
}

/// The parts that can be measured separately.
const PARTS: [&str; 8] =
    ["idle", "processes", "files", "calls", "events", "kernel", "containers", "pipeline"];

#[derive(Debug)]
struct Options {
    rounds: usize,
    /// The parts to measure. Empty for all.
    only: Vec<String>,
    json: Option<PathBuf>,
    pipeline: bool,
}

pub(crate) fn main(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{HELP}");
        return Ok(());
    }
    let options = parse(args)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "watching the kernel needs root: run this command as root"
    );
    let bench = Bench::prepare()?;
    let mut figures = Vec::new();
    for part in PARTS.into_iter().filter(|part| options.wants(part)) {
        figures.extend(match part {
            "idle" => vec![measure::starting(&bench), measure::idling(&bench)?],
            "processes" => measure::paired_workloads(&bench, options.rounds)?,
            "files" => measure::opening_files(&bench, options.rounds)?,
            "calls" => measure::connecting_and_calling(&bench, options.rounds)?,
            "events" => measure::telling(&bench, options.rounds)?,
            "kernel" => measure::in_the_kernel(&bench)?,
            "containers" => measure::containers_come_and_go(&bench)?,
            _ => vec![measure::pipeline()?],
        });
    }
    print!("{}", table(&figures));
    if let Some(file) = options.json {
        fs::write(&file, format!("{:#}\n", to_json(&figures)))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        let chosen = self.only.is_empty() || self.only.iter().any(|only| only == part);
        chosen && (self.pipeline || part != "pipeline")
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { rounds: 9, only: Vec::new(), json: None, pipeline: true };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => {
                let number = args.next().context("--rounds needs a number")?;
                options.rounds =
                    number.parse().with_context(|| format!("not a number: {number}"))?;
                ensure!(options.rounds > 0, "at least one round is needed");
            }
            "--only" => {
                let part = args.next().context("--only needs a part")?;
                ensure!(PARTS.contains(&&**part), "unknown part `{part}`\n\n{HELP}");
                options.only.push(part.clone());
            }
            "--json" => options.json = Some(args.next().context("--json needs a file")?.into()),
            "--no-pipeline" => options.pipeline = false,
            other => bail!("unknown option `{other}`\n\n{HELP}"),
        }
    }
    Ok(options)
}

fn table(figures: &[Figure]) -> String {
    let width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Figure { name, value, unit, aim } in figures {
        let verdict = match aim.is_met(*value) {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let value = if *value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") };
        let line = format!("{name:width$}  {value:>12} {unit:10}  {:18} {verdict}", aim.text());
        let _written = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn to_json(figures: &[Figure]) -> Value {
    let figure = |figure: &Figure| {
        let met = figure.aim.is_met(figure.value);
        json!({"name": figure.name, "value": figure.value, "unit": figure.unit,
               "aim": figure.aim.text(), "met": met})
    };
    Value::Array(figures.iter().map(figure).collect())
}

/// Returns the middle value, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in
            [(vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 3.0, 2.0], 2.5), (vec![7.0], 7.0)]
        {
            assert!((median(values) - expected).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn parts_can_be_chosen() {
        let parse =
            |args: &[&str]| parse(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        let wanted = |args: &[&str]| {
            let options = parse(args).expect("good options");
            PARTS.into_iter().filter(|part| options.wants(part)).collect::<Vec<_>>()
        };
        assert_eq!(wanted(&[]), PARTS);
        assert_eq!(wanted(&["--no-pipeline"]), PARTS[..7]);
        assert_eq!(wanted(&["--only", "kernel", "--only", "files"]), ["files", "kernel"]);
        assert!(parse(&["--only", "nothing"]).is_err());
    }

    #[test]
    fn missed_goals_are_marked_in_the_table() {
        let figure = |value, aim| Figure { name: "x", value, unit: "ratio", aim };
        let text = table(&[figure(1.2, Aim::AtMost(1.05)), figure(1.0, Aim::AtMost(1.05))]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("MISSED") && lines[1].ends_with("met"), "{text}");
    }
}
