//! Running programs so that an interrupt ends them too, and a failure shows what they said.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How much of a failed program's output is shown; all of it stays in its log.
const LINES_SHOWN: usize = 200;

/// The process group of what runs now.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt ends what runs, and then us by an error, so that everything is cleaned
/// up on the way out.
pub(crate) fn end_children_on_interrupt() -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            INTERRUPTED.store(true, SeqCst);
            if let Some(group) = *RUNNING.lock().expect("no one panics while holding it") {
                let _gone = kill_process_group(group, Signal::TERM);
            }
        }
    });
    Ok(())
}

/// An error once we were interrupted.
pub(crate) fn go_on() -> Result<()> {
    if INTERRUPTED.load(SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

/// What becomes of a program's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// It is printed as it comes.
    Always,
    /// It is printed only if the program fails.
    OnFailure,
}

/// What to do when a line of output has come.
pub(crate) type OnLine<'a> = &'a mut dyn FnMut(&str, Pid);

/// Runs a program to its end. Both of its outputs go to `log`.
pub(crate) fn run(command: &mut Command, log: &Path, show: Show) -> Result<()> {
    run_with(command, log, show, &mut |_, _| {})
}

/// As [`run`]; every line is told, with the process group of the program.
pub(crate) fn run_with(
    command: &mut Command,
    log: &Path,
    show: Show,
    on_line: OnLine<'_>,
) -> Result<()> {
    go_on()?;
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
    // The command holds ends of the pipe for writing: without this, reading would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let group = Pid::from_raw(child.id().cast_signed()).context("a child has a pid")?;
    *RUNNING.lock().expect("no one panics while holding it") = Some(group);
    let tail = copy_lines(reader, log, show, &mut |line| on_line(line, group));
    let status = child.wait();
    *RUNNING.lock().expect("no one panics while holding it") = None;
    let (tail, status) = (tail?, status?);
    go_on()?;
    if !status.success() {
        if show == Show::OnFailure {
            print!("{tail}");
        }
        bail!("`{name}` failed: {status}; all it said is in {}", log.display());
    }
    Ok(())
}

/// Copies what comes to the log, and gives the last lines of it.
fn copy_lines(
    from: io::PipeReader,
    log: &Path,
    show: Show,
    on_line: &mut dyn FnMut(&str),
) -> Result<String> {
    let file = File::options().create(true).append(true).open(log);
    let mut file = file.with_context(|| format!("cannot write {}", log.display()))?;
    let mut lines = Vec::new();
    for line in BufReader::new(from).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(file, "{line}")?;
        if show == Show::Always {
            println!("{line}");
        }
        on_line(&line);
        lines.push(line);
        if lines.len() > 2 * LINES_SHOWN {
            lines.drain(..LINES_SHOWN);
        }
    }
    let from = lines.len().saturating_sub(LINES_SHOWN);
    Ok(lines[from..].iter().flat_map(|line| [line.as_str(), "\n"]).collect())
}
