//! What handlers need that talk to servers.
//!
//! * [`Courier`]: a thread of the handler's own that takes work and waits for answers.
//! * [`Delivery`]: a courier at the end of a chain: every event is counted as delivered or dropped.
//! * [`Http`]: requests over HTTP/1.1 and TLS; [`client`] for protocols that stand on HTTP/2.
//! * [`retry_after`]: the pause that a server asks for.
//! * [`Secret`]: a value that stands in the configuration, in the environment or in a file;
//!   [`headers`] made of them.
//! * [`TlsOptions`], [`address`]: options that all such handlers have; [`server`]: an address as it
//!   may be printed.
//! * [`Outage`], [`Seldom`]: telling of trouble once, and not once for each event.

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
