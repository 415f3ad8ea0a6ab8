//! The `exec` handler: writes events as JSON lines to the standard input of any program, and
//! restarts the program when it ends.
//!
//! An event counts as delivered when the program has read its whole line: the kernel says how many
//! bytes in a pipe are unread. Lines that a program had not read when it ended go to the next run,
//! so every line is read by one run, once. Lines that a program had read but not processed are lost
//! with it; they cannot be seen from outside.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, Lifecycle,
    Mailbox, Problem, Schema, Setup,
};
use whalewatch_kit::{Backoff, Json};

mod options;
mod output;
mod program;
mod queue;
#[cfg(test)]
mod tests;
mod watcher;

pub use options::{ExecOptions, ProgramOutput};
use program::{HowEnded, Program, Written};
use queue::Queue;
use watcher::Notice;

/// How many bytes may wait for room in the pipe before the handler accepts nothing more.
const MAX_UNSENT: usize = 64 * 1024;
/// How often to check how much a program has read, while it has something to read.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The time between SIGTERM and SIGKILL.
const AFTER_TERM: Duration = Duration::from_secs(2);

/// Writes events to the standard input of a program.
#[derive(Debug)]
pub struct Exec {
    name: Arc<str>,
    options: ExecOptions,
    mailbox: Mailbox<Message>,
    json: Json,
    queue: Queue,
    state: State,
    /// The number of the program's run, which tells notices of the current run from those of
    /// earlier ones.
    run: u32,
    /// The pauses between starts.
    backoff: Backoff,
    /// When the program last read something, or had nothing to read.
    progress: Instant,
    /// The number of events dropped since the program stopped reading; `None` while it reads.
    dropped: Option<u64>,
    /// Whether the timer for the next [`Payload::Poll`] is set.
    poll_timer: bool,
}

#[derive(Debug)]
enum State {
    Running(Program),
    /// To be started at this time.
    Down(Instant),
    /// The chains have ended, and so has the program.
    Ended,
}

/// A message from the handler's timers or its helper thread.
#[derive(Debug)]
pub struct Message(Payload);

#[derive(Debug)]
enum Payload {
    /// A notice about the run of this number.
    Notice(u32, Notice),
    /// It is time to start the program again.
    Start,
    /// It is time to check how much the program has read.
    Poll,
}

impl Handler for Exec {
    const ABOUT: &'static str = "writes events as JSON lines to the standard input of a program, \
                                 which is restarted when it ends";
    type Options = ExecOptions;
    type Message = Message;
    // Chains that name the handler share the program.
    // The handler waits for a program that reads slowly.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().output().blocking().lifecycle();

    fn check(options: &ExecOptions, _: &[Schema]) -> Vec<Problem> {
        options.check()
    }

    fn build(options: &ExecOptions, setup: &Setup<Message>) -> Result<Self, BuildError> {
        let mut exec = Self {
            name: Arc::clone(&setup.name),
            options: options.clone(),
            mailbox: setup.mailbox.clone(),
            json: Json::new(&setup.host_name),
            queue: Queue::default(),
            state: State::Ended,
            run: 0,
            backoff: Backoff::new(options.restart_after.0, options.restart_at_most.0),
            progress: Instant::now(),
            dropped: None,
            poll_timer: false,
        };
        let program = exec.start().map_err(|error| {
            let program = options.command.first().map_or("", String::as_str);
            BuildError(format!(
                "cannot start the program {program:?}: {error}: is it installed and executable?"
            ))
        })?;
        exec.state = State::Running(program);
        Ok(exec)
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Message>,
    ) -> Result<(), HandlerError> {
        if matches!(self.state, State::Ended) {
            cx.dropped(batch.len() as u64);
            return Ok(());
        }
        let plan = self.json.plan(&batch);
        for event in batch.iter() {
            if self.queue.is_empty() {
                self.progress = Instant::now();
            }
            self.queue.add(|out| self.json.event(out, plan, event));
            if self.queue.unsent().len() >= MAX_UNSENT {
                self.make_room(cx);
            }
        }
        Ok(())
    }

    fn message(
        &mut self,
        message: Message,
        cx: &mut Context<'_, Message>,
    ) -> Result<(), HandlerError> {
        match message.0 {
            Payload::Notice(_, Notice::Closed) => return Err(HandlerError::Closed),
            Payload::Notice(run, Notice::Ended) if run != self.run => return Ok(()),
            Payload::Notice(_, Notice::Ended) => self.restart_later("ended", cx),
            Payload::Poll => self.poll_timer = false,
            Payload::Start => {}
        }
        self.step(cx);
        self.poll_later(cx);
        Ok(())
    }

    fn flush(&mut self, cx: &mut ChainContext<'_, Message>) -> Result<(), HandlerError> {
        self.step(cx);
        self.poll_later(cx);
        Ok(())
    }
}

impl Lifecycle for Exec {
    fn finish(&mut self, cx: &mut Context<'_, Message>) -> Result<(), HandlerError> {
        self.shut_down(cx);
        Ok(())
    }
}

impl Exec {
    fn start(&mut self) -> std::io::Result<Program> {
        self.run += 1;
        let (mailbox, run) = (self.mailbox.clone(), self.run);
        Program::start(&self.name, &self.options, move |notice| {
            mailbox.send(Message(Payload::Notice(run, notice)));
        })
    }

    /// Does what is possible without waiting: starts the program if it is time, fills the pipe and
    /// counts what was read.
    fn step(&mut self, cx: &mut Context<'_, Message>) {
        if let State::Down(until) = self.state
            && Instant::now() >= until
        {
            match self.start() {
                Ok(program) => self.state = State::Running(program),
                Err(error) => {
                    let pause = self.next_pause(cx);
                    tracing::warn!(
                        handler = %self.name, %error,
                        "cannot start the program, retrying in {pause:?}",
                    );
                }
            }
        }
        let State::Running(program) = &self.state else { return };
        let mut reason = None;
        while !self.queue.unsent().is_empty() {
            match program.write(self.queue.unsent()) {
                Ok(Written::Some(count)) => self.queue.sent(count),
                Ok(Written::Full) => {
                    // Its child processes may keep the pipe open after it has ended.
                    reason = program.ends_within(Duration::ZERO).then_some("ended");
                    break;
                }
                Ok(Written::Closed) | Err(_) => {
                    reason = Some("ended or closed its input");
                    break;
                }
            }
        }
        if let Ok(unread) = program.unread() {
            self.count_read(unread, cx);
        }
        if let Some(reason) = reason {
            self.restart_later(reason, cx);
        }
    }

    fn count_read(&mut self, unread: u64, cx: &Context<'_, Message>) {
        let (lines, progress) = self.queue.unread(unread);
        cx.delivered(lines);
        if progress {
            self.progress = Instant::now();
            if let Some(dropped) = self.dropped.take() {
                tracing::warn!(handler = %self.name, dropped, "the program reads again");
            }
        }
    }

    /// Waits until half of the buffer is free, or drops unsent lines if the program has read
    /// nothing for too long.
    fn make_room(&mut self, cx: &mut Context<'_, Message>) {
        loop {
            self.step(cx);
            if self.queue.unsent().len() < MAX_UNSENT / 2 {
                return;
            }
            let left = self.options.wait_at_most.0.saturating_sub(self.progress.elapsed());
            if left.is_zero() {
                return self.drop_unsent(cx);
            }
            self.wait(left);
        }
    }

    /// Waits for a change, at most `limit`. The wait is short even if the pipe stays full: the
    /// program may have read part of a page, which makes no room.
    fn wait(&self, limit: Duration) {
        match &self.state {
            State::Running(program) => program.wait_for_room(limit.min(5 * POLL_INTERVAL)),
            State::Down(until) => {
                thread::sleep(until.saturating_duration_since(Instant::now()).min(limit));
            }
            State::Ended => {}
        }
    }

    fn drop_unsent(&mut self, cx: &Context<'_, Message>) {
        let count = self.queue.drop_unsent();
        cx.dropped(count);
        let before = self.dropped.replace(self.dropped.unwrap_or(0) + count);
        if before.is_none() {
            tracing::warn!(
                handler = %self.name,
                "the program has read nothing for {}: events are dropped until it reads again",
                self.options.wait_at_most,
            );
        }
    }

    /// Ends the program's run and plans the next one, which gets the unread lines.
    fn restart_later(&mut self, reason: &str, cx: &mut Context<'_, Message>) {
        if !matches!(self.state, State::Running(_)) {
            return;
        }
        let State::Running(mut program) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let result = program.kill();
        if let Ok((_, unread)) = result {
            self.count_read(unread, cx);
        }
        let unread = self.queue.rewind();
        if program.started.elapsed() >= self.options.restart_at_most.0 {
            self.backoff.reset();
        }
        let pause = self.next_pause(cx);
        let status =
            result.map_or_else(|error| error.to_string(), |(status, _)| status.to_string());
        tracing::warn!(
            handler = %self.name, unread,
            "the program {reason} ({status}): restarting in {pause:?}; \
             the next run gets the unread lines",
        );
    }

    /// Plans the next start; returns the pause before it.
    fn next_pause(&mut self, cx: &mut Context<'_, Message>) -> Duration {
        let pause = self.backoff.pause();
        self.state = State::Down(Instant::now() + pause);
        cx.after(pause, Message(Payload::Start));
        pause
    }

    /// Sets the timer for the next check, if the program has something to read.
    fn poll_later(&mut self, cx: &mut Context<'_, Message>) {
        if !self.poll_timer && !self.queue.is_empty() && matches!(self.state, State::Running(_)) {
            self.poll_timer = true;
            let hangs = self.progress.elapsed() > 50 * POLL_INTERVAL;
            let pause = if hangs { 10 * POLL_INTERVAL } else { POLL_INTERVAL };
            cx.after(pause, Message(Payload::Poll));
        }
    }

    /// Does a step, and restarts a program that ended too early. Returns whether no line is left to
    /// send: all are in the pipe of a running program, or have been read.
    fn send_rest(&mut self, cx: &mut Context<'_, Message>) -> bool {
        self.step(cx);
        if let State::Running(program) = &self.state
            && !self.queue.is_empty()
            && program.ends_within(Duration::ZERO)
        {
            self.restart_later("ended", cx);
        }
        match self.state {
            State::Running(_) => self.queue.unsent().is_empty(),
            _ => self.queue.is_empty(),
        }
    }

    /// Sends the waiting lines and ends the program. Drops what it has not read by then.
    fn shut_down(&mut self, cx: &mut Context<'_, Message>) {
        let deadline = Instant::now() + self.options.end_within.0;
        let left = || deadline.saturating_duration_since(Instant::now());
        while !self.send_rest(cx) && !left().is_zero() {
            self.wait(left());
        }
        if let State::Running(program) = std::mem::replace(&mut self.state, State::Ended) {
            match program.end(left(), AFTER_TERM) {
                Ok((ended, unread)) => {
                    if let Some(unread) = unread {
                        self.count_read(unread, cx);
                    }
                    if ended.how != HowEnded::ByItself || !ended.status.success() {
                        tracing::warn!(
                            handler = %self.name,
                            "the program ended {} ({})", ended.how, ended.status,
                        );
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        handler = %self.name, %error,
                        "cannot read the program's exit status",
                    );
                }
            }
        }
        let dropped = self.queue.clear();
        cx.dropped(dropped);
        let dropped = dropped + self.dropped.take().unwrap_or(0);
        if dropped > 0 {
            tracing::warn!(handler = %self.name, dropped, "the program did not read all events");
        }
    }
}
