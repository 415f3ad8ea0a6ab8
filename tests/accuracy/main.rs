//! The accuracy harness: measures, case by case, how often Whalewatch names the right container.
//! `cargo xtask accuracy` sets the machine up and runs it.
//!
//! Every process of the workload carries a mark among its arguments that no other process has. The
//! harness started each process, so it knows the container of each mark. It joins Whalewatch's
//! output with the marks by the process's number and start time, and uses nothing that Whalewatch
//! says to judge it.

#![expect(clippy::print_stdout, reason = "the results go to standard output")]

mod cases;
mod engine;
mod judge;
mod report;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use cases::{CASES, Case};
use report::Results;
use run::{Length, Machine};

const HELP: &str = "\
accuracy [--long] [--case WORD] [--runtime WORD] [--results FILE]

  --long     15 minutes of churn instead of 12 s, and more rounds of every other case
  --case     Only cases whose name contains WORD
  --runtime  In cases for several runtimes, only runtimes whose name contains WORD
  --results  Write the results to FILE as JSON
";

struct Options {
    length: Length,
    word: String,
    runtime: String,
    results: Option<PathBuf>,
}

fn main() -> ExitCode {
    match parse().and_then(|options| perform(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("accuracy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Options> {
    let (word, runtime) = (String::new(), String::new());
    let mut options = Options { length: Length::Short, word, runtime, results: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--long" => options.length = Length::Long,
            "--case" => options.word = arguments.next().context("--case needs a word")?,
            "--runtime" => options.runtime = arguments.next().context("--runtime needs a word")?,
            "--results" => {
                let file = arguments.next().context("--results needs a file")?;
                options.results = Some(file.into());
            }
            other => bail!("unknown option `{other}`\n\n{HELP}"),
        }
    }
    Ok(options)
}

/// Runs the cases. Returns whether there was no fault.
fn perform(options: &Options) -> Result<bool> {
    let machine = Machine::of_environment(options.length, options.runtime.clone())?;
    let mut results = Results::default();
    let wanted = |case: &&Case| case.name.contains(&options.word);
    for case in CASES.iter().filter(wanted) {
        println!("== {}: {}", case.name, case.about);
        let begin = Instant::now();
        let outcomes = (case.run)(&machine).with_context(|| format!("case {}", case.name))?;
        println!("   {}: {:.1} s", case.name, begin.elapsed().as_secs_f64());
        for outcome in outcomes {
            println!("{outcome}");
            results.add(case.name, outcome);
        }
    }
    ensure!(results.any(), "no case has that name and that runtime: nothing was judged");
    if let Some(file) = &options.results {
        results.write(file)?;
    }
    let faults = results.faults();
    for fault in &faults {
        println!("fault: {fault}");
    }
    Ok(faults.is_empty())
}
