//! Runs chains: trackers and handlers as actors, joined by bounded channels, composed from a
//! configuration.
//!
//! Three phases, each with its own type:
//!
//! 1. **validate**: [`config::validate`] reads a TOML text against a [`Registry`] and yields a
//!    [`Plan`], or every mistake at once. It touches nothing but the text.
//! 2. **build**: [`System::run`] opens trackers, builds handlers and joins them.
//! 3. **run**: the parts run until the run is stopped, all sources have ended, or a part fails for
//!    good.

mod actors;
pub mod config;
pub mod explained;
mod live;
pub mod plan;
mod queue;
pub mod recording;
pub mod registry;
pub mod replay;
pub mod scripted;
pub mod stats;
pub mod system;

pub use config::Diagnostics;
pub use plan::Plan;
pub use queue::{QueueOptions, WhenFull};
pub use recording::{Recorder, RecordingError};
pub use registry::{OptionInfo, Registry, RegistryError};
pub use replay::{Replay, ReplayError, Speed};
pub use stats::Totals;
pub use system::{Control, End, Reload, RunError, System};
