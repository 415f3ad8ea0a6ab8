//! Makes a known number of each system call.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::Report;

/// The number of threads that make them.
const THREADS: u64 = 4;

pub(crate) fn run(arguments: &[String]) -> Report {
    let [calls, failing] = arguments else { return Err("syscalls CALLS FAILING".into()) };
    let (calls, failing): (u64, u64) = (calls.parse()?, failing.parse()?);
    let threads: Vec<_> =
        (0..THREADS).map(|_| thread::spawn(move || work(calls, failing))).collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread failed")?;
    }
    thread::sleep(Duration::from_millis(20));
    Ok(json!({"getppid": THREADS * calls, "rmdir": THREADS * failing}))
}

fn work(calls: u64, failing: u64) {
    for _ in 0..calls {
        std::hint::black_box(std::os::unix::process::parent_id());
    }
    for _ in 0..failing {
        drop(std::fs::remove_dir("/no-such-directory"));
    }
}
