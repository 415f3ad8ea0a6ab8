//! Tests of the container manager with scripted events, a scripted clock and scripted runtimes
//! (`rig`).

mod attribution;
mod directory;
mod doubt;
mod hazards;
mod hold;
mod lifecycle;
mod mounts;
mod nesting;
pub(crate) mod rig;
mod startup;
