//! Tests of the container manager with scripted events, a scripted clock and scripted runtimes.

mod hazards;
mod hold;
mod nesting;
pub(crate) mod rig;
mod startup;
mod targets;
