//! What the author of a tracker or a handler needs, and nothing else.
//!
//! * An [`Event`] is something that happened. A [`Batch`] is a run of events from one tracker, each
//!   with its [`Attribution`]: which container did it.
//! * A [`Source`] yields events. A [`TrackerSpec`] says how a source is configured and opened.
//! * A [`Handler`] takes batches and passes them on, changed or not. An [`Extension`] is a set of
//!   fields that a handler adds to events.
//!
//! This crate depends on no actor framework, async runtime, eBPF library or command line, so that
//! what an author depends on stays small and stable.

pub mod attribution;
pub mod batch;
pub mod budget;
pub mod directory;
pub mod error;
pub mod event;
pub mod extension;
pub mod field;
pub mod handler;
pub mod health;
pub mod options;
pub mod outside;
pub mod owned;
pub mod patterns;
pub mod per_type;
pub mod process;
pub mod range;
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
    Accepts, BuildError, ChainContext, ChainId, Context, Declaration, EarlyWork, Failure, Handler,
    HandlerError, Hosted, Lifecycle, Mailbox, Never, Observe, OnFailure, Properties, Replay, Setup,
};
pub use health::{HandlerHealth, Health, HealthReport, TrackerHealth};
pub use options::{HumanDuration, Options, Problem};
pub use outside::Outside;
pub use owned::OwnedValue;
pub use patterns::ContainerPatterns;
pub use per_type::PerType;
pub use process::{Namespaces, Process, ProcessKey};
pub use size::HumanSize;
pub use source::{Drain, OpenError, Source, SourceCounts, SourceError, TrackerSpec};
pub use stats::{ContainerCounts, DroppedBy, HandlerCounters, Owner};
pub use time::Timestamp;

// These appear in this crate's signatures. Authors use the same versions through here.
pub use {bytes, schemars, serde};
