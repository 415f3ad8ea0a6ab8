//! Recordings: what trackers sent, and what handlers heard from outside, with times, as JSON lines.
//!
//! The first line says what it is. Each line after it is an event, something that a handler's
//! helper told, or what the world answered to a handler. Bytes that are not UTF-8 stand as
//! `{"hex":"ff"}`, so nothing is lost and a recording can be read and edited by hand.

mod line;
mod read;
mod recorded;
mod write;

pub use read::RecordingError;
pub(crate) use read::{Answers, Item, Reader, What};
pub(crate) use write::PartRecorder;
pub use write::{Recorder, RecorderEnd};

/// Version of the format: a program reads no other.
const VERSION: u32 = 1;
