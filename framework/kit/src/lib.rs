//! Tools that handlers share. They depend only on [`whalewatch_core`] and are open to every author
//! of a handler.
//!
//! * [`Condition`]: a condition on events, in CEL, checked against the schemas of incoming events
//!   and compiled for each type.
//! * [`Subject`] and [`Extra`]: conditions and templates over events with extra fields of a
//!   handler.
//! * [`Template`]: text with placeholders for fields: `whalewatch.{host.name}.{kind}`.
//! * [`Json`]: events as JSON lines, the form that all outputs share.
//! * [`Keys`]: groups events by fields; [`Shape`]: event types that options define.
//! * [`EventTime`]: time as given by events.
//! * [`fields`]: finds fields by name, and suggests names for those that do not exist.
//! * [`text`]: escapes text of traced programs; [`Clock`]: formats times.
//! * [`Backoff`]: growing pauses between attempts.

mod backoff;
mod clock;
mod condition;
mod event_time;
pub mod fields;
mod json;
pub mod keys;
mod shape;
mod subject;
mod template;
pub mod text;

pub use backoff::Backoff;
pub use clock::Clock;
pub use condition::{Condition, Test, Tests};
pub use event_time::EventTime;
pub use json::Json;
pub use keys::Keys;
pub use shape::{Shape, Shaped};
pub use subject::{Extra, Subject};
pub use template::{Filled, Template};
