//! The program that the end-to-end tests watch: `workload PART …`, one file for each part. A part
//! does what its arguments say and prints a report of itself, one JSON object, which is the oracle
//! for Whalewatch's events.

#![expect(clippy::print_stdout, reason = "the report goes to standard output")]

mod files;
mod mounts;
mod network;
mod privilege;
mod processes;
mod signals;
mod syscalls;

use std::process::ExitCode;

use serde_json::{Value, json};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((part, arguments)) = arguments.split_first() else {
        eprintln!("usage: workload PART …");
        return ExitCode::FAILURE;
    };
    let did = match part.as_str() {
        "files" => files::run(arguments),
        "mounts" => mounts::run(arguments),
        "signals" => signals::run(arguments),
        "network" => network::run(arguments),
        "privilege" => privilege::run(arguments),
        "processes" => processes::run(arguments),
        "syscalls" => syscalls::run(arguments),
        other => Err(format!("no part {other}").into()),
    };
    match did {
        Ok(mut report) => {
            report["pid"] = json!(std::process::id());
            report["start_time"] = start_time();
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{part}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A part's report of itself, or its error.
type Report = Result<Value, Box<dyn std::error::Error>>;

/// Returns this process's start time from `/proc`, in clock ticks since boot.
fn start_time() -> Value {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().nth(19));
    behind.flatten().and_then(|ticks| ticks.parse::<u64>().ok()).map_or(Value::Null, Value::from)
}
