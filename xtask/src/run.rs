//! Runs programs so that an interrupt ends them too, and shows the output of those that fail.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How many lines of a failed program's output are shown. Its log has all of them.
const LINES_SHOWN: usize = 200;

/// The process groups of the programs that run now.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes an interrupt end the programs that run. Their callers then get an error and clean up on
/// the way out.
pub(crate) fn end_children_on_interrupt() -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            INTERRUPTED.store(true, SeqCst);
            for group in locked(&RUNNING).iter() {
                let _gone = kill_process_group(*group, Signal::TERM);
            }
        }
    });
    Ok(())
}

/// Fails after an interrupt.
pub(crate) fn go_on() -> Result<()> {
    if INTERRUPTED.load(SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

/// Locks a mutex whose value is valid at any time, so that a panic elsewhere does not matter.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a step's output goes: into a log, and to the terminal, at once or when the step has ended.
#[derive(Debug)]
pub(crate) struct Output {
    log: PathBuf,
    /// The lines for the terminal, while other steps run.
    held: Option<Mutex<String>>,
}

impl Output {
    /// Prints as the lines come. The log begins empty.
    pub(crate) fn live(log: &Path) -> Result<Self> {
        fs::create_dir_all(log.parent().context("a log has a folder")?)?;
        fs::write(log, "").with_context(|| format!("cannot write {}", log.display()))?;
        Ok(Self { log: log.to_owned(), held: None })
    }

    /// Holds lines back until [`Output::release`], so that steps that run side by side do not mix
    /// theirs.
    pub(crate) fn held(log: &Path) -> Result<Self> {
        Ok(Self { held: Some(Mutex::default()), ..Self::live(log)? })
    }

    /// Prints text, which ends in a newline.
    pub(crate) fn print(&self, text: &str) {
        match &self.held {
            Some(held) => locked(held).push_str(text),
            None => print!("{text}"),
        }
    }

    /// Prints a line.
    pub(crate) fn line(&self, line: &str) {
        self.print(&format!("{line}\n"));
    }

    /// Prints everything that was held back.
    pub(crate) fn release(&self) {
        if let Some(held) = &self.held {
            print!("{}", std::mem::take(&mut *locked(held)));
        }
    }
}

/// What becomes of a program's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// It is printed.
    Always,
    /// It is printed only if the program fails.
    OnFailure,
}

/// Called with each line of output and the program's process group.
pub(crate) type OnLine<'a> = &'a mut dyn FnMut(&str, Pid);

/// Runs a program to its end. Both of its outputs go to the log.
pub(crate) fn run(command: &mut Command, output: &Output, show: Show) -> Result<()> {
    run_with(command, output, show, &mut |_, _| {})
}

/// Runs a program to its end as [`run`] does, and calls `on_line` with each line of its output.
pub(crate) fn run_with(
    command: &mut Command,
    output: &Output,
    show: Show,
    on_line: OnLine<'_>,
) -> Result<()> {
    go_on()?;
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
    // The command holds the pipe's writing ends: reading would never end while it has them.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let group = Pid::from_raw(child.id().cast_signed()).context("a child has a pid")?;
    locked(&RUNNING).push(group);
    let tail = copy_lines(reader, output, show, &mut |line| on_line(line, group));
    let status = child.wait();
    locked(&RUNNING).retain(|running| *running != group);
    let (tail, status) = (tail?, status?);
    go_on()?;
    if !status.success() {
        if show == Show::OnFailure {
            output.print(&tail);
        }
        bail!("`{name}` failed: {status}; its whole output is in {}", output.log.display());
    }
    Ok(())
}

/// Copies lines to the log, and to the terminal if they are to be shown. Returns the last ones.
fn copy_lines(
    from: io::PipeReader,
    output: &Output,
    show: Show,
    on_line: &mut dyn FnMut(&str),
) -> Result<String> {
    let file = File::options().create(true).append(true).open(&output.log);
    let mut file = file.with_context(|| format!("cannot write {}", output.log.display()))?;
    let mut lines = Vec::new();
    for line in BufReader::new(from).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(file, "{line}")?;
        if show == Show::Always {
            output.line(&line);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_output_is_printed_and_logged_but_not_before_release() {
        let log = std::env::temp_dir().join(format!("xtask-run-{}.log", std::process::id()));
        let output = Output::held(&log).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let error = run(&mut command, &output, Show::OnFailure).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        let held = locked(output.held.as_ref().unwrap()).clone();
        assert_eq!(held, "one\ntwo\n");
        assert_eq!(fs::read_to_string(&log).unwrap(), held);
        fs::remove_file(log).unwrap();
    }
}
