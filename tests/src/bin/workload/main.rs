//! What the end-to-end tests do to be watched: `workload PART …`, one file a part. A part does what
//! its arguments say, and prints, as one JSON object, what it knows of itself by then: the oracle
//! for what Whalewatch tells.

#![expect(clippy::print_stdout, reason = "what it knows of itself goes to standard output")]

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
        Ok(mut told) => {
            told["pid"] = json!(std::process::id());
            told["start_time"] = start_time();
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{part}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a part gives: what it knows of itself, or what went wrong.
type Told = Result<Value, Box<dyn std::error::Error>>;

/// When this process started, in clock ticks since boot, as `/proc` tells it.
fn start_time() -> Value {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().nth(19));
    behind.flatten().and_then(|ticks| ticks.parse::<u64>().ok()).map_or(Value::Null, Value::from)
}
