//! What handlers share and need not write again. Built on [`whalewatch_core`] alone, and open to
//! every handler's author.
//!
//! * [`Condition`]: a condition on events, in CEL, checked against what the events look like and
//!   compiled for each type.
//! * [`Subject`] and [`Extra`]: conditions and templates over events with what a handler knows
//!   besides.
//! * [`Template`]: a text with fields of the event in it: `whalewatch.{host.name}.{kind}`.
//! * [`Json`]: events as JSON lines, the one form that every output of Whalewatch gives.
//! * [`Keys`]: events in groups by their fields; [`Shape`]: events whose fields are known only once
//!   options are read.
//! * [`EventTime`]: time as the events tell it.
//! * [`fields`]: fields by their names, and what is said of a name that there is not.
//! * [`text`]: text that comes from traced programs, made harmless; [`Clock`]: times as text.
//! * [`Backoff`]: growing pauses between attempts.
//! * `net`, with the feature of that name: what handlers need that talk to servers.
//! * `testing`, with the feature of that name: events, and a bench that a handler is tested on.

mod backoff;
mod clock;
mod condition;
mod event_time;
pub mod fields;
mod json;
pub mod keys;
#[cfg(feature = "net")]
pub mod net;
mod shape;
mod subject;
mod template;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
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
