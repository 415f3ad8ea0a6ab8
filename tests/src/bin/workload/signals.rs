//! Sends signals.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;

use crate::Report;

pub(crate) fn run(arguments: &[String]) -> Report {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["send", pid, number] = arguments[..] else { return Err("signals send PID NUMBER".into()) };
    let pid = Pid::from_raw(pid.parse()?).ok_or("a pid is not 0")?;
    // Signal 0 only checks whether the process exists.
    test_kill_process(pid)?;
    let signal = Signal::from_named_raw(number.parse()?).ok_or("a signal with a name")?;
    kill_process(pid, signal)?;
    Ok(json!({"sent": signal.as_raw()}))
}
