//! What the author of a tracker or a handler needs, and nothing else.
//!
//! * An [`Event`] is something that happened; a [`Batch`] is a run of them from one tracker, each
//!   with a slot for its
//!   [`Attribution`]: which container did it.
//! * A [`Source`] yields events; a [`TrackerSpec`] says how a source is configured and opened.
//! * A [`Handler`] takes batches and passes them on, changed or not. An [`Extension`] is what it
//!   adds to others' events.
//!
//! This crate knows no actor framework, no async runtime, no eBPF and no command line, so that what
//! an author depends on stays small and stable.

pub mod attribution;
pub mod batch;
pub mod budget;
pub mod directory;
pub mod event;
pub mod extension;
pub mod field;
pub mod handler;
pub mod health;
pub mod options;
pub mod outside;
pub mod owned;
pub mod patterns;
pub mod process;
pub mod size;
pub mod source;
pub mod stats;
pub mod time;

pub use attribution::{
    Attribution, Container, Evidence, KUBERNETES, Parents, Runtime, State, Status,
};
pub use batch::{Batch, EventRef, Events};
pub use budget::{BudgetEvent, BudgetState};
pub use directory::{Directory, Resident};
pub use event::{Change, Event};
pub use extension::Extension;
pub use field::{Accessor, Field, FieldInfo, Schema, Texts, Type, Value};
pub use handler::{
    Accepts, Ahead, BuildError, ChainId, Context, Handler, HandlerError, Mailbox, Never, OnFailure,
    Setup,
};
pub use health::{HandlerHealth, Health, HealthReport, TrackerHealth};
pub use options::{HumanDuration, Options, Problem};
pub use outside::Outside;
pub use owned::OwnedValue;
pub use patterns::ContainerPatterns;
pub use process::{Namespaces, Process, ProcessKey};
pub use size::HumanSize;
pub use source::{Drain, OpenError, Source, SourceCounts, SourceError, TrackerSpec};
pub use stats::{ContainerCounts, DroppedBy, HandlerCounters, Owner};
pub use time::Timestamp;

// What appears in this crate's own signatures, so that an author needs no second version of it.
pub use {bytes, schemars, serde};
