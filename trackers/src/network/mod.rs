//! The network tracker: TCP connections from start to end, listening sockets, and UDP sockets that
//! are connected.
//!
//! TCP connections are followed by the socket's changes of state. Most of these happen in
//! interrupts, while an unrelated process runs on the CPU. The programs therefore remember which
//! process asked for each connection, accepted it or listens, and attribute all of its events to
//! that process. System calls that change no state (a connection that fails at once, a connected
//! UDP socket, `listen`, `accept`) are reported when they return.
//!
//! For a connection that is older than the tracker, the end and the retransmitted segments are
//! reported with the cgroup in which the socket was created, and without a process.
//!
//! Not reported: the end of UDP sockets, for which the kernel has no event; connections accepted,
//! or failing at once, through `io_uring` or in 32-bit programs.

mod decode;
mod event;

use whalewatch_core::Problem;
use whalewatch_trackers_common::SYSCALLS;
use whalewatch_trackers_common::kinds::{
    KIND_NETWORK_ACCEPT, KIND_NETWORK_CLOSE, KIND_NETWORK_CONNECT, KIND_NETWORK_LISTEN,
    KIND_NETWORK_RETRANSMIT,
};
use whalewatch_trackers_common::network::{
    CALL_ACCEPT, CALL_CONNECT, CALL_LISTEN, NetworkOffsets, NetworkSettings,
};

pub use decode::NetworkDecoder;
pub use event::{Endpoint, NetworkEvent, NetworkWhat};

use crate::options::tracker_options;
use crate::program::Attached;
use crate::{Kernel, KernelTracker, LoadError, Program, Uses, object};

/// The kernel programs of the network tracker. `network_destroy`, which removes destroyed sockets
/// from the map, is attached first: otherwise sockets that are destroyed in between would stay
/// there.
const PROGRAM: Program = Program {
    object: object!("network"),
    tracepoints: &[
        ("network_destroy", "tcp_destroy_sock"),
        ("network_state", "inet_sock_set_state"),
        ("network_exit", "sys_exit"),
        ("network_retransmit", "tcp_retransmit_skb"),
        ("network_retransmit_answer", "tcp_retransmit_synack"),
    ],
    iterator: None,
    members: &[NetworkOffsets::MEMBERS],
    uses: Uses { paths: true, syscalls: true },
};

tracker_options! {
    /// Options of the network tracker.
    NetworkOptions { ring_kib: 4096, results: true,
        /// Report outgoing connections.
        connects: bool = true,
        /// Report accepted connections.
        accepts: bool = true,
        /// Report closed connections, with the bytes sent and received.
        closes: bool = true,
        /// Report sockets that start to listen.
        listens: bool = true,
        /// Report retransmitted TCP segments.
        retransmits: bool = true,
    }
}

impl NetworkOptions {
    /// The kinds to report, as bits from [`KIND_NETWORK_CONNECT`] on.
    fn kinds(&self) -> u32 {
        let kinds = [
            (self.connects, KIND_NETWORK_CONNECT),
            (self.accepts, KIND_NETWORK_ACCEPT),
            (self.closes, KIND_NETWORK_CLOSE),
            (self.listens, KIND_NETWORK_LISTEN),
            (self.retransmits, KIND_NETWORK_RETRANSMIT),
        ];
        let enabled = kinds.into_iter().filter(|(enabled, _)| *enabled);
        enabled.fold(0, |bits, (_, kind)| bits | 1 << (kind - KIND_NETWORK_CONNECT))
    }
}

/// Watches the connections of processes.
#[derive(Clone, Copy, Debug)]
pub struct NetworkTracker;

impl KernelTracker for NetworkTracker {
    const ABOUT: &'static str =
        "connections opened, accepted and closed, and retransmitted segments";
    const COST: &'static str =
        "about 50 ns per system call, plus 0.2 µs per change of a socket's state";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = NetworkOptions;
    type Settings = NetworkSettings;
    type Decoder = NetworkDecoder;

    fn settings(options: &NetworkOptions, kernel: &Kernel) -> Result<NetworkSettings, LoadError> {
        let retransmit = kernel.btf().tracepoint("tcp_retransmit_skb")?;
        Ok(NetworkSettings {
            actions: actions(),
            kinds: options.kinds(),
            retransmit_has_error: retransmit.is_some_and(|t| t.arguments > 2).into(),
            offsets: kernel.offsets(NetworkOffsets::MEMBERS)?,
            ..NetworkSettings::UNSET
        })
    }

    fn decoder(_: &NetworkOptions, _: &mut Attached) -> Result<NetworkDecoder, LoadError> {
        Ok(NetworkDecoder)
    }

    fn check(options: &NetworkOptions) -> Vec<Problem> {
        let mut problems = Vec::new();
        if options.kinds() == 0 {
            let hint = "set connects, accepts, closes, listens or retransmits to true";
            problems.push(Problem::new("", "all kinds of events are disabled").hint(hint));
        }
        problems
    }
}

/// The `CALL_` constant of each system call, by its number.
fn actions() -> [u8; SYSCALLS] {
    let calls = [
        (libc::SYS_connect, CALL_CONNECT),
        (libc::SYS_listen, CALL_LISTEN),
        (libc::SYS_accept, CALL_ACCEPT),
        (libc::SYS_accept4, CALL_ACCEPT),
    ];
    let mut actions = [0; SYSCALLS];
    for (number, call) in calls {
        actions[number as usize] = call;
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_selects_one_kind() {
        let none = NetworkOptions {
            connects: false,
            accepts: false,
            closes: false,
            listens: false,
            retransmits: false,
            ..NetworkOptions::default()
        };
        assert_eq!(NetworkOptions::default().kinds(), 0b1_1111);
        assert_eq!(NetworkOptions { closes: true, ..none.clone() }.kinds(), 0b100);
        let problems = NetworkTracker::check(&none);
        assert_eq!(problems[0].message, "all kinds of events are disabled");
    }
}
