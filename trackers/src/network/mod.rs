//! The network tracker: TCP connections from their beginning to their end, sockets that listen, and
//! UDP sockets that are connected.
//!
//! What becomes of a TCP connection is seen in the socket's changes of state, most of which happen
//! in interrupts, in whatever process the CPU is at by then. So the programs remember who asked for
//! each connection, accepted it or listens, and tell of it as that process's to the end. What
//! processes ask in system calls that change no state (a connection that fails at once, a UDP
//! socket that is connected, `listen`, `accept`) is seen when those return.
//!
//! Of a connection that is older than the watching, its end and its segments that are sent again
//! are told with the cgroup that the socket was made in, and no process.
//!
//! Not seen: how UDP sockets end, which nothing in the kernel tells; connections that are accepted,
//! and fail at once, by `io_uring` or by 32-bit programs.

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

/// The kernel programs of the network tracker. Those that forget come first: nothing must be
/// remembered before.
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
        /// Report connections that processes ask for.
        connects: bool = true,
        /// Report connections that they accept.
        accepts: bool = true,
        /// Report the ends of connections, with how many bytes went both ways.
        closes: bool = true,
        /// Report sockets that wait for connections.
        listens: bool = true,
        /// Report TCP segments that are sent again.
        retransmits: bool = true,
    }
}

impl NetworkOptions {
    /// The kinds that are reported, as the programs know them.
    fn kinds(&self) -> u32 {
        let kinds = [
            (self.connects, KIND_NETWORK_CONNECT),
            (self.accepts, KIND_NETWORK_ACCEPT),
            (self.closes, KIND_NETWORK_CLOSE),
            (self.listens, KIND_NETWORK_LISTEN),
            (self.retransmits, KIND_NETWORK_RETRANSMIT),
        ];
        let wanted = kinds.into_iter().filter(|(wanted, _)| *wanted);
        wanted.fold(0, |bits, (_, kind)| bits | 1 << (kind - KIND_NETWORK_CONNECT))
    }
}

/// Watches what processes connect to, and who connects to them.
#[derive(Clone, Copy, Debug)]
pub struct NetworkTracker;

impl KernelTracker for NetworkTracker {
    const ABOUT: &'static str =
        "connections that are made, accepted and closed, and segments sent again";
    const COST: &'static str =
        "about 50 ns at the end of every system call, 0.2 µs for a change of a socket";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = NetworkOptions;
    type Settings = NetworkSettings;
    type Decoder = NetworkDecoder;

    fn settings(options: &NetworkOptions, kernel: &Kernel) -> Result<NetworkSettings, LoadError> {
        let retransmit = kernel.btf().tracepoint("tcp_retransmit_skb")?;
        Ok(NetworkSettings {
            actions: actions(),
            kinds: options.kinds(),
            retransmit_tells_error: retransmit.is_some_and(|t| t.arguments > 2).into(),
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
            problems.push(Problem::new("", "nothing is left to be watched").hint(hint));
        }
        problems
    }
}

/// What the programs know system calls by.
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
    fn each_option_is_a_kind() {
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
        assert_eq!(problems[0].message, "nothing is left to be watched");
    }
}
