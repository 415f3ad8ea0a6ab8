//! The network tracker's records and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::layout::layouts;
use crate::offsets::{Member, offsets};
use crate::{ProcessHeader, SYSCALLS};

/// The process is not known, because the socket is older than the tracker. The header has only the
/// cgroup in which the socket was created.
pub const FLAG_NETWORK_UNOWNED: u16 = 1 << 5;
/// The process closed the socket before an answer came.
pub const FLAG_NETWORK_ABANDONED: u16 = 1 << 6;

/// `connect(2)`, in `NetworkSettings::actions`.
pub const CALL_CONNECT: u8 = 1;
/// `listen(2)`
pub const CALL_LISTEN: u8 = 2;
/// `accept(2)` and `accept4(2)`.
pub const CALL_ACCEPT: u8 = 3;

offsets! {
    /// Offsets for a [`NetworkRecord`].
    NetworkOffsets {
        file_private: "file"."private_data",
        socket_file: "socket"."file",
        socket_sk: "socket"."sk",
        family: "sock_common"."skc_family",
        state: "sock_common"."skc_state",
        peer: "sock_common"."skc_daddr",
        local: "sock_common"."skc_rcv_saddr",
        peer_v6: "sock_common"."skc_v6_daddr",
        local_v6: "sock_common"."skc_v6_rcv_saddr",
        peer_port: "sock_common"."skc_dport",
        bound_port: "sock_common"."skc_num",
        net: "sock_common"."skc_net.net",
        net_inum: "net"."ns.inum",
        flags: "sock_common"."skc_flags",
        protocol: "sock"."sk_protocol",
        error: "sock"."sk_err",
        socket: "sock"."sk_socket",
        backlog: "sock"."sk_max_ack_backlog",
        cgroup: "sock"."sk_cgrp_data.cgroup",
        local_port: "inet_sock"."inet_sport",
        bytes_sent: "tcp_sock"."bytes_sent",
        bytes_retrans: "tcp_sock"."bytes_retrans",
        bytes_received: "tcp_sock"."bytes_received",
    }
}

/// The record of every kind. Times and sizes are 0 if not known, or if the kind has none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NetworkRecord {
    /// The process that asked for the connection, accepted it or listens.
    pub process: ProcessHeader,
    /// Nanoseconds: for a connect, until it was established or failed; for an accept, for which the
    /// connection waited.
    pub waited: u64,
    /// Nanoseconds since the connection was established.
    pub duration: u64,
    /// Bytes of data sent, each counted once.
    pub sent: u64,
    /// Bytes of data received.
    pub received: u64,
    /// Bytes of data retransmitted.
    pub retransmitted: u64,
    /// The local address; an IPv4 address has the first four bytes.
    pub local: [u8; 16],
    /// The remote address.
    pub peer: [u8; 16],
    /// Inode number of the socket's network namespace.
    pub namespace: u32,
    /// The error's number; 0 for none.
    pub error: u32,
    /// Number of connections that may wait to be accepted.
    pub backlog: u32,
    /// The local port, in the host's byte order.
    pub local_port: u16,
    /// The remote port, in the host's byte order.
    pub peer_port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u16,
    /// The state of a TCP socket, as the kernel numbers it.
    pub state: u16,
    /// Always 0.
    pub padding: u16,
}

/// The process of a socket, and the socket's phase. The programs keep it by the socket's address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NetworkOwner {
    /// The process; valid only if `claims` has [`OWNED`].
    pub process: ProcessHeader,
    /// When the process asked for the connection: nanoseconds since boot.
    pub started: u64,
    /// When it was established; 0 if not known.
    pub established: u64,
    /// When it ended.
    pub closed: u64,
    /// [`OWNED`] and [`CLOSED`]. Programs only add to it, atomically, so that of two programs at
    /// once exactly one sees the other's bit.
    pub claims: u64,
    /// One of the `PHASE_` constants.
    pub phase: u32,
    /// 1 until the call that asked for the connection returns.
    pub in_call: u32,
}

/// The socket has a process, and it is watched.
pub const OWNED: u64 = 1;
/// The connection has ended.
pub const CLOSED: u64 = 2;

/// A connection was asked for.
pub const PHASE_PENDING: u32 = 1;
/// It was established.
pub const PHASE_OPEN: u32 = 2;
/// It failed, which was reported. `connect(2)` may still return the error to the process.
pub const PHASE_FAILED: u32 = 3;
/// It failed within the call. Only the call's result will have the reason.
pub const PHASE_UNREPORTED: u32 = 4;
/// It ended.
pub const PHASE_CLOSED: u32 = 5;
/// The socket listens.
pub const PHASE_LISTENING: u32 = 6;

/// The read-only globals of the network tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct NetworkSettings {
    /// Occupies no space: it adds the record to the object's type information, for a test.
    pub record: [NetworkRecord; 0],
    /// As `record`.
    pub owner: [NetworkOwner; 0],
    /// The `CALL_` constant of each system call, by its number; 0 for calls to skip.
    pub actions: [u8; SYSCALLS],
    /// The kinds to report, as bits: bit 0 for `KIND_NETWORK_CONNECT`, and so on.
    pub kinds: u32,
    /// 1 if `tcp_retransmit_skb` has a third argument, the result of sending.
    pub retransmit_has_error: u32,
    /// Offsets of kernel members.
    pub offsets: NetworkOffsets,
    /// Keeps the size a multiple of 8.
    pub padding: u32,
}

impl NetworkSettings {
    /// The value in the object, which the loader replaces.
    pub const UNSET: Self = Self {
        record: [],
        owner: [],
        actions: [0; SYSCALLS],
        kinds: 0,
        retransmit_has_error: 0,
        offsets: NetworkOffsets::UNSET,
        padding: 0,
    };
}

layouts! {
    NetworkRecord {
        process, waited, duration, sent, received, retransmitted, local, peer, namespace, error,
        backlog, local_port, peer_port, family, protocol, state, padding
    }
    NetworkOwner { process, started, established, closed, claims, phase, in_call }
    NetworkSettings { actions, kinds, retransmit_has_error, offsets }
    NetworkOffsets { file_private, bytes_received }
}

const _: () = {
    assert!(size_of::<NetworkRecord>() == 192);
    assert!(offset_of!(NetworkRecord, local) == 136);
    assert!(offset_of!(NetworkRecord, local_port) == 180);
    assert!(size_of::<NetworkOwner>() == 136);
    assert!(offset_of!(NetworkOwner, claims) == 120);
    assert!(size_of::<NetworkSettings>().is_multiple_of(8));
};
