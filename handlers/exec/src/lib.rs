//! The `exec` handler: events as JSON lines to the standard input of any program, which is started
//! again when it ends.
//!
//! An event is counted as delivered when the program has read its whole line: the pipe can be asked
//! how much in it nobody has read. Lines that a program had not read when it died are given to the
//! next, so every line is read by one of them, once. What a program had read and not yet dealt with
//! when it died went with it, and cannot be known from outside.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, Lifecycle,
    Mailbox, Problem, Schema, Setup,
};
use whalewatch_kit::{Backoff, Json};

mod options;
mod program;
mod queue;
mod said;
#[cfg(test)]
mod tests;
mod watcher;

pub use options::{ExecOptions, ProgramOutput};
use program::{How, Program, Wrote};
use queue::Queue;
use watcher::News;

/// How much waits for room in the pipe before nothing more is taken in.
const ENOUGH: usize = 64 * 1024;
/// How often it is looked at how much a program has read, while it has something to read.
const LOOK: Duration = Duration::from_millis(20);
/// How long SIGTERM has to end the program, before SIGKILL does.
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
    /// Counts the program's runs, so that news of an earlier one are not taken for the present
    /// one's.
    run: u32,
    /// Pauses between starts.
    backoff: Backoff,
    /// When something was last read, or there was nothing to read.
    progress: Instant,
    /// Events dropped since nothing has been read; none unless something was.
    dropped: Option<u64>,
    /// Whether a timer for a look is set.
    look: bool,
}

#[derive(Debug)]
enum State {
    Running(Program),
    /// To be started then.
    Down(Instant),
    /// The chains have ended, and so has it.
    Ended,
}

/// From the handler's own timers and its helper.
#[derive(Debug)]
pub struct Message(What);

#[derive(Debug)]
enum What {
    /// Of the run of that number.
    News(u32, News),
    /// It is time to start the program again.
    Start,
    Look,
}

impl Handler for Exec {
    const ABOUT: &'static str = "writes events as JSON lines to the standard input of a program, started again when it ends";
    type Options = ExecOptions;
    type Message = Message;
    // Chains that name the handler share the program.
    // A program that reads slowly is waited for.
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
            look: false,
        };
        let program = exec.start().map_err(|error| {
            let program = options.command.first().map_or("", String::as_str);
            BuildError(format!("cannot start the program {program:?}: {error}: is it installed, and allowed to run?"))
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
            if self.queue.unsent().len() >= ENOUGH {
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
            What::News(_, News::Closed) => return Err(HandlerError::Closed),
            What::News(run, News::Ended) if run != self.run => return Ok(()),
            What::News(_, News::Ended) => self.ended("ended", cx),
            What::Look => self.look = false,
            What::Start => {}
        }
        self.step(cx);
        self.look_again(cx);
        Ok(())
    }

    fn flush(&mut self, cx: &mut ChainContext<'_, Message>) -> Result<(), HandlerError> {
        self.step(cx);
        self.look_again(cx);
        Ok(())
    }
}

impl Lifecycle for Exec {
    fn finish(&mut self, cx: &mut Context<'_, Message>) -> Result<(), HandlerError> {
        self.bring_to_its_end(cx);
        Ok(())
    }
}

impl Exec {
    fn start(&mut self) -> std::io::Result<Program> {
        self.run += 1;
        let (mailbox, run) = (self.mailbox.clone(), self.run);
        Program::start(&self.name, &self.options, move |news| {
            mailbox.send(Message(What::News(run, news)));
        })
    }

    /// Does what can be done without waiting: starts the program if it is time, fills the pipe,
    /// sees how much was read.
    fn step(&mut self, cx: &mut Context<'_, Message>) {
        if let State::Down(until) = self.state
            && Instant::now() >= until
        {
            match self.start() {
                Ok(program) => self.state = State::Running(program),
                Err(error) => {
                    let pause = self.next_pause(cx);
                    tracing::warn!(handler = %self.name, %error, "the program cannot be started: tried again in {pause:?}");
                }
            }
        }
        let State::Running(program) = &self.state else { return };
        let mut over = None;
        while !self.queue.unsent().is_empty() {
            match program.write(self.queue.unsent()) {
                Ok(Wrote::Some(count)) => self.queue.sent(count),
                Ok(Wrote::Full) => {
                    // Whom it left behind may have the pipe open.
                    over = program.ends_within(Duration::ZERO).then_some("ended");
                    break;
                }
                Ok(Wrote::Closed) | Err(_) => {
                    over = Some("reads no more, or ended");
                    break;
                }
            }
        }
        if let Ok(unread) = program.unread() {
            self.count_read(unread, cx);
        }
        if let Some(what) = over {
            self.ended(what, cx);
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

    /// Waits until little waits for room in the pipe, or drops it when nothing was read for too
    /// long.
    fn make_room(&mut self, cx: &mut Context<'_, Message>) {
        loop {
            self.step(cx);
            if self.queue.unsent().len() < ENOUGH / 2 {
                return;
            }
            let left = self.options.wait_at_most.0.saturating_sub(self.progress.elapsed());
            if left.is_zero() {
                return self.drop_unsent(cx);
            }
            self.wait(left);
        }
    }

    /// Waits for something to change, at most so long. Room in the pipe is not all that may: some
    /// of a page may have been read.
    fn wait(&self, limit: Duration) {
        match &self.state {
            State::Running(program) => program.wait_for_room(limit.min(5 * LOOK)),
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

    /// The program is gone, or of no more use. What it has not read is for the next.
    fn ended(&mut self, what: &str, cx: &mut Context<'_, Message>) {
        if !matches!(self.state, State::Running(_)) {
            return;
        }
        let State::Running(mut program) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let buried = program.bury();
        if let Ok((_, unread)) = buried {
            self.count_read(unread, cx);
        }
        let unread = self.queue.rewind();
        if program.started.elapsed() >= self.options.restart_at_most.0 {
            self.backoff.reset();
        }
        let pause = self.next_pause(cx);
        let how = buried.map_or_else(|error| error.to_string(), |(status, _)| status.to_string());
        tracing::warn!(
            handler = %self.name, unread,
            "the program {what} ({how}): started again in {pause:?}; what it had not read is for the next",
        );
    }

    /// Sets the time of the next start; says how long it is until then.
    fn next_pause(&mut self, cx: &mut Context<'_, Message>) -> Duration {
        let pause = self.backoff.pause();
        self.state = State::Down(Instant::now() + pause);
        cx.after(pause, Message(What::Start));
        pause
    }

    /// Has a look again soon, if there is something to see.
    fn look_again(&mut self, cx: &mut Context<'_, Message>) {
        if !self.look && !self.queue.is_empty() && matches!(self.state, State::Running(_)) {
            self.look = true;
            // One that reads nothing is looked at less often.
            let hangs = self.progress.elapsed() > 50 * LOOK;
            cx.after(if hangs { 10 * LOOK } else { LOOK }, Message(What::Look));
        }
    }

    /// Does a step towards that; a program that has ended without having read all is started again.
    fn all_is_with_the_program(&mut self, cx: &mut Context<'_, Message>) -> bool {
        self.step(cx);
        if let State::Running(program) = &self.state
            && !self.queue.is_empty()
            && program.ends_within(Duration::ZERO)
        {
            self.ended("ended", cx);
        }
        match self.state {
            State::Running(_) => self.queue.unsent().is_empty(),
            _ => self.queue.is_empty(),
        }
    }

    /// Brings what waits to the program, and the program to its end. What it has not read then is
    /// dropped.
    fn bring_to_its_end(&mut self, cx: &mut Context<'_, Message>) {
        let deadline = Instant::now() + self.options.end_within.0;
        let left = || deadline.saturating_duration_since(Instant::now());
        while !self.all_is_with_the_program(cx) && !left().is_zero() {
            self.wait(left());
        }
        if let State::Running(program) = std::mem::replace(&mut self.state, State::Ended) {
            match program.end(left(), AFTER_TERM) {
                Ok((ended, unread)) => {
                    if let Some(unread) = unread {
                        self.count_read(unread, cx);
                    }
                    if ended.how != How::ByItself || !ended.status.success() {
                        tracing::warn!(handler = %self.name, "the program ended {} ({})", ended.how, ended.status);
                    }
                }
                Err(error) => {
                    tracing::warn!(handler = %self.name, %error, "how the program ended cannot be told");
                }
            }
        }
        let dropped = self.queue.clear();
        cx.dropped(dropped);
        let dropped = dropped + self.dropped.take().unwrap_or(0);
        if dropped > 0 {
            tracing::warn!(handler = %self.name, dropped, "the program did not read everything");
        }
    }
}
