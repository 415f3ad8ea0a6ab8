//! Recordings: the events of trackers and the outside input of handlers, with times, as JSON lines.
//!
//! The first line is a header. Each line after it is an event, a message from a handler's helper
//! thread, or the answer to a question that a handler asked through [`Outside`]. Bytes that are not
//! UTF-8 are written as `{"hex":"ff"}`, so nothing is lost, and a recording can be read and edited
//! by hand.
//!
//! [`Outside`]: whalewatch_core::Outside

mod line;
mod read;
mod recorded;
mod write;

pub use read::RecordingError;
pub(crate) use read::{Answers, Item, Reader, What};
pub(crate) use write::PartRecorder;
pub use write::{Recorder, RecorderEnd};

/// Version of the format. Recordings of another version are refused.
const VERSION: u32 = 2;
