//! The `file` handler: writes events to a file as JSON lines. It rotates the file, compresses
//! rotated files and deletes the oldest.
//!
//! The file has whole lines only, even if the program is killed during a write (see `lines`) or the
//! disk is full. An event counts as delivered when the kernel has accepted its whole line.

use std::sync::Arc;
use std::time::Duration;

use whalewatch_core::{
    Batch, BuildError, ChainContext, Context, Declaration, Handler, HandlerError, Lifecycle,
    Problem, Schema, Setup,
};
use whalewatch_kit::Json;

mod keeper;
mod lines;
mod options;
mod outage;
mod output;
mod repair;
mod rotated;
#[cfg(test)]
mod tests;

use lines::Lines;
pub use options::{Compress, FileOptions, Rotate, Sync};
use outage::Outage;
use output::Output;

/// Buffered bytes at which the handler writes in the middle of a batch.
const WRITE_SIZE: usize = 64 * 1024;
/// The longest wait for the compression of rotated files at the end of the run.
const COMPRESS_AT_END: Duration = Duration::from_secs(5);
/// The pause before a failed rotation by age is retried.
const AGE_RETRY: Duration = Duration::from_secs(1);

/// Writes events to a file.
#[derive(Debug)]
pub struct JsonFile {
    json: Json,
    lines: Lines,
    output: Output,
    outage: Outage,
    sync: Sync,
    /// Generation of the file for which an age timer is set.
    age_timer: Option<u64>,
    sync_timer: bool,
}

/// A timer of the [`JsonFile`] handler.
#[derive(Debug)]
pub struct Timer(Due);

#[derive(Debug)]
enum Due {
    /// The file of this generation has reached its maximum age.
    Age(u64),
    Sync,
}

impl Handler for JsonFile {
    const ABOUT: &'static str =
        "writes events to a file as JSON lines; rotates, compresses and deletes old files";
    type Options = FileOptions;
    type Message = Timer;
    // Shared: there is one file for all chains that name the handler.
    // Blocking: disks can be slow, and the handler waits while the disk is full.
    const DECLARATION: Declaration<Self> =
        Declaration::new().shared().output().blocking().lifecycle();

    fn check(options: &FileOptions, _: &[Schema]) -> Vec<Problem> {
        options.check()
    }

    fn build(options: &FileOptions, setup: &Setup<Timer>) -> Result<Self, BuildError> {
        let path = options.path.display();
        let output = Output::new(&setup.name, options)
            .map_err(|error| BuildError(format!("cannot write to {path}: {error}")))?;
        let name = Arc::clone(&setup.name);
        Ok(Self {
            json: Json::new(&setup.host_name),
            lines: Lines::new(),
            output,
            outage: Outage::new(name, options.path.clone(), options.wait_at_most.0),
            sync: options.sync,
            age_timer: None,
            sync_timer: false,
        })
    }

    fn handle(
        &mut self,
        batch: Batch,
        cx: &mut ChainContext<'_, Timer>,
    ) -> Result<(), HandlerError> {
        let plan = self.json.plan(&batch);
        for event in batch.iter() {
            self.lines.add(|out| self.json.event(out, plan, event));
            if self.lines.size() >= WRITE_SIZE {
                self.write_out(cx);
            }
        }
        Ok(())
    }

    fn message(&mut self, timer: Timer, cx: &mut Context<'_, Timer>) -> Result<(), HandlerError> {
        match timer.0 {
            Due::Age(generation) => {
                self.age_timer = None;
                if self.output.rotate_by_age(generation) {
                    self.age_timer = Some(generation);
                    cx.after(AGE_RETRY, Timer(Due::Age(generation)));
                }
            }
            Due::Sync => {
                self.sync_timer = false;
                self.output.sync();
            }
        }
        Ok(())
    }

    fn flush(&mut self, cx: &mut ChainContext<'_, Timer>) -> Result<(), HandlerError> {
        self.write_out(cx);
        if self.sync == Sync::Flush {
            self.output.sync();
        }
        Ok(())
    }

    fn end(&mut self, cx: &mut ChainContext<'_, Timer>) -> Result<(), HandlerError> {
        self.write_out(cx);
        Ok(())
    }
}

impl Lifecycle for JsonFile {
    fn finish(&mut self, cx: &mut Context<'_, Timer>) -> Result<(), HandlerError> {
        self.write_out(cx);
        if self.sync != Sync::Never {
            self.output.sync();
        }
        self.output.finish(COMPRESS_AT_END);
        Ok(())
    }
}

impl JsonFile {
    /// Writes the buffered lines, or drops them if that keeps failing for too long.
    fn write_out(&mut self, cx: &mut Context<'_, Timer>) {
        while !self.lines.is_empty() {
            let mut written = 0;
            let result = self.output.write(&mut self.lines, &mut written);
            cx.delivered(written);
            match result {
                Ok(()) => self.outage.end(),
                Err(error) if self.outage.wait_to_retry(&error) => {}
                Err(_) => {
                    let dropped = self.lines.clear() as u64;
                    self.outage.dropped(dropped);
                    cx.dropped(dropped);
                }
            }
        }
        self.set_timers(cx);
    }

    fn set_timers(&mut self, cx: &mut Context<'_, Timer>) {
        if let Some((generation, left)) = self.output.age()
            && self.age_timer != Some(generation)
        {
            self.age_timer = Some(generation);
            cx.after(left, Timer(Due::Age(generation)));
        }
        if let Sync::Every(interval) = self.sync
            && !self.sync_timer
            && self.output.unsynced()
        {
            self.sync_timer = true;
            cx.after(interval.0, Timer(Due::Sync));
        }
    }
}
