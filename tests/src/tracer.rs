//! Whalewatch as a child process.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::environment;
use crate::output::{Event, Output};
use crate::totals::Totals;
use crate::wait;

/// How long it may take until it prints that it is watching. The goal is 0.2 s, but a test machine
/// may be busy.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to drain and exit.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long an event may take from the kernel to the file.
const EVENT_LIMIT: Duration = Duration::from_secs(30);

/// A running Whalewatch that writes JSON lines to a file.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    stderr: Stderr,
    output: Output,
    out: PathBuf,
    stats: PathBuf,
}

/// A Whalewatch that has exited without an error.
#[derive(Debug)]
pub struct Finished {
    /// All events that it printed.
    pub events: Vec<Event>,
    /// Its totals.
    pub totals: Totals,
    /// Its standard error.
    pub stderr: String,
}

impl Tracer {
    /// Runs a configuration, and waits until it is watching.
    ///
    /// # Panics
    /// If it does not begin to watch in time.
    #[track_caller]
    pub fn run(dir: &Path, config: &str) -> Self {
        Self::start(&environment::program(), dir, config)
    }

    /// Runs a configuration as [`Tracer::run`] does, with a given program.
    ///
    /// # Panics
    /// If it does not begin to watch in time.
    #[track_caller]
    pub fn start(program: &Path, dir: &Path, config: &str) -> Self {
        let file = dir.join("config.toml");
        fs::write(&file, config).expect("the scratch folder can be written to");
        let stats = dir.join("stats.json");
        let out = dir.join("out.json");
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(&file).arg("--stats-file").arg(&stats);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command.stdout(File::create(&out).expect("the scratch folder can be written to"));
        let mut child = command.spawn().expect("the program can be started");
        let stderr = Stderr::collect(child.stderr.take().expect("standard error is a pipe"));
        let output = Output::open(&out);
        let mut tracer = Self { child, stderr, output, out, stats };
        tracer.wait_until_watching();
        tracer
    }

    #[track_caller]
    fn wait_until_watching(&mut self) {
        let watching = wait::poll(START_LIMIT, || {
            if self.stderr.text().lines().any(|line| line.starts_with("watching: ")) {
                return Some(Ok(()));
            }
            self.child.try_wait().ok().flatten().map(Err)
        });
        match watching {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("ended with {status}: {}", self.stderr.text()),
            None => panic!("not watching after {START_LIMIT:?}: {}", self.stderr.text()),
        }
    }

    /// Returns its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the events that it has printed so far.
    #[track_caller]
    pub fn events(&mut self) -> &[Event] {
        self.output.events()
    }

    /// Returns how many bytes it has printed so far.
    pub fn printed(&self) -> u64 {
        fs::metadata(&self.out).map_or(0, |file| file.len())
    }

    /// Returns its standard error so far.
    pub fn said(&self) -> String {
        self.stderr.text()
    }

    /// Waits until its events satisfy `condition`. `what` completes the sentence "still waiting
    /// until".
    ///
    /// # Panics
    /// If they do not in time.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, condition: impl Fn(&[Event]) -> Option<T>) -> T {
        let found = wait::poll(EVENT_LIMIT, || condition(self.output.events()));
        match found {
            Some(found) => found,
            None => {
                panic!("{EVENT_LIMIT:?} passed, still waiting until {what}: {}", self.stderr.text())
            }
        }
    }

    /// Waits until it has printed the exit of a process that ran exactly these arguments.
    #[track_caller]
    pub fn wait_for_exit_of(&mut self, args: &[&str]) {
        self.wait_for(&format!("{args:?} has ended"), |events| {
            let key = events.iter().find(|event| event.is_exec_of(args))?.key()?;
            events
                .iter()
                .find(|event| event.kind() == "process.exit" && event.key() == Some(key))
                .map(|_| ())
        });
    }

    /// Sends SIGTERM, without waiting.
    pub fn terminate(&self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process(pid, Signal::TERM).expect("our own child can be signalled");
        }
    }

    /// Sends SIGHUP, which makes it read its configuration again.
    pub fn hang_up(&self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            kill_process(pid, Signal::HUP).expect("our own child can be signalled");
        }
    }

    /// Returns how often it has reported a reload.
    pub fn reloads(&self) -> usize {
        self.stderr.text().lines().filter(|line| line.starts_with("reloaded: ")).count()
    }

    /// Stops it. Returns its events, totals and messages.
    ///
    /// # Panics
    /// If it does not exit in time, fails, or its totals do not add up.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.terminate();
        self.finish()
    }

    /// Waits until it exits, and returns what [`Tracer::stop`] returns. Something else must stop
    /// it.
    ///
    /// # Panics
    /// As [`Tracer::stop`] does.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let status = self.wait();
        let stderr = self.stderr.all();
        assert!(status.success(), "ended with {status}: {stderr}");
        let events = Output::open(&self.out).finish();
        let totals = Totals::read(&self.stats);
        totals.assert_conserved();
        Finished { events, totals, stderr }
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let status = wait::poll(STOP_LIMIT, || self.child.try_wait().expect("our own child"));
        status.unwrap_or_else(|| {
            panic!("has not stopped after {STOP_LIMIT:?}: {}", self.stderr.text())
        })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It runs still only if the test failed, or wants it killed.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Standard error of a child. A thread collects it, so that the child never blocks on its pipe.
#[derive(Debug)]
pub struct Stderr {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Stderr {
    /// Starts to collect.
    pub fn collect(pipe: ChildStderr) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&text);
        let reader = thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = shared.lock().expect("no one panics while holding it");
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self { text, reader: Some(reader) }
    }

    /// Returns the text so far.
    ///
    /// # Panics
    /// Never: no thread panics while it holds the lock.
    pub fn text(&self) -> String {
        self.text.lock().expect("no one panics while holding it").clone()
    }

    /// Returns the whole text, once the child has exited.
    pub fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let _panicked = reader.join();
        }
        self.text()
    }
}
