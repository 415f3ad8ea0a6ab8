//! Tools for handlers that talk to servers.
//!
//! * [`Courier`]: a thread of the handler that takes jobs and waits for answers.
//! * [`Delivery`]: a courier at the end of a chain, which counts every event as delivered or
//!   dropped.
//! * [`Http`]: requests over HTTP/1.1 and TLS; [`client`] for protocols on top of HTTP/2.
//! * [`retry_after`]: the pause that a server asks for.
//! * [`Secret`]: a value in the configuration, in the environment or in a file; [`headers`]:
//!   request headers with such values.
//! * [`TlsOptions`], [`address`]: options that all such handlers have; [`server`]: an address
//!   without secrets, for printing.
//! * [`Outage`], [`Seldom`]: log trouble once and not for each event.

mod address;
mod courier;
mod delivery;
pub mod headers;
mod http;
mod retry_after;
mod secret;
mod telling;
mod tls;

pub use address::{address, server};
pub use courier::{Answered, Courier, Jobs};
pub use delivery::Delivery;
pub use http::{Client, Fault, Http, Reply, client};
pub use retry_after::retry_after;
pub use secret::Secret;
pub use telling::{Outage, Seldom};
pub use tls::TlsOptions;
