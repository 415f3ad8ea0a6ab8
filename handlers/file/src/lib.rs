//! The `file` handler: events as JSON lines in a file, which is rotated, compressed and kept in
//! bounds.
//!
//! Lines are in the file whole or not at all, also when the program is killed in the middle of a
//! write (see `lines`) or the disk is full. An event is counted as delivered when the kernel has
//! taken its whole line.

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

/// How much is gathered before it is written in the middle of a batch.
const ENOUGH: usize = 64 * 1024;
/// How long the end waits for rotated files to be compressed.
const COMPRESS_AT_END: Duration = Duration::from_secs(5);
/// How long after a rotation by age that failed it is tried again.
const AGE_AGAIN: Duration = Duration::from_secs(1);

/// Writes events to a file.
#[derive(Debug)]
pub struct JsonFile {
    json: Json,
    lines: Lines,
    output: Output,
    outage: Outage,
    sync: Sync,
    /// Which file the timer for its age is set for.
    age_timer: Option<u64>,
    sync_timer: bool,
}

/// A timer of the handler's own.
#[derive(Debug)]
pub struct Timer(Due);

#[derive(Debug)]
enum Due {
    /// That file is too old.
    Age(u64),
    Sync,
}

impl Handler for JsonFile {
    const ABOUT: &'static str =
        "writes events to a file as JSON lines; rotates, compresses and deletes old files";
    type Options = FileOptions;
    type Message = Timer;
    // There is one file, so chains that name the handler share it.
    // Disks are slow at times, and a full one is waited for.
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
            if self.lines.size() >= ENOUGH {
                self.write_out(cx);
            }
        }
        Ok(())
    }

    fn message(&mut self, timer: Timer, cx: &mut Context<'_, Timer>) -> Result<(), HandlerError> {
        match timer.0 {
            Due::Age(file) => {
                self.age_timer = None;
                if self.output.too_old(file) {
                    self.age_timer = Some(file);
                    cx.after(AGE_AGAIN, Timer(Due::Age(file)));
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
    /// Writes what waits, or, when that has failed for too long, drops it.
    fn write_out(&mut self, cx: &mut Context<'_, Timer>) {
        while !self.lines.is_empty() {
            let mut written = 0;
            let result = self.output.write(&mut self.lines, &mut written);
            cx.delivered(written);
            match result {
                Ok(()) => self.outage.over(),
                Err(error) if self.outage.try_again(&error) => {}
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
        if let Some((file, left)) = self.output.age()
            && self.age_timer != Some(file)
        {
            self.age_timer = Some(file);
            cx.after(left, Timer(Due::Age(file)));
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
