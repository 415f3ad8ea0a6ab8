//! The network tracker's events.

use bytes::Bytes;
use whalewatch_core::{Event, Field, FieldInfo, Process, Timestamp, Type, Value};

use crate::errno;

/// A change of a socket or a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkEvent {
    /// When it happened.
    pub time: Timestamp,
    /// The process that asked for the connection, accepted it or listens; `None` if the socket is
    /// older than the tracker.
    pub process: Option<Process>,
    /// The cgroup of the process; without a process, the one in which the socket was created.
    pub cgroup_id: u64,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// `ipv4` or `ipv6`.
    pub network: &'static str,
    /// The local address and port; `None` if the socket has none.
    pub local: Option<Endpoint>,
    /// The remote address and port; `None` if there is none.
    pub peer: Option<Endpoint>,
    /// Inode number of the socket's network namespace.
    pub namespace: u32,
    /// The error number; 0 for no error.
    pub error: u32,
    /// What happened.
    pub what: NetworkWhat,
}

/// An address, as text, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: Bytes,
    /// The port.
    pub port: u16,
}

/// What happened to a socket. Nanoseconds and bytes are 0 if not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkWhat {
    /// An outgoing connection was established or failed.
    Connected {
        /// Nanoseconds until then.
        latency: u64,
        /// Whether the process closed the socket before an answer came.
        abandoned: bool,
    },
    /// A connection was accepted, or accepting failed.
    Accepted {
        /// Nanoseconds that the connection waited to be accepted.
        queued: u64,
    },
    /// A connection ended.
    Closed {
        /// Nanoseconds since it was established.
        duration: u64,
        /// Bytes of data sent, each counted once.
        sent: u64,
        /// Bytes of data received.
        received: u64,
        /// Bytes of data retransmitted.
        retransmitted: u64,
    },
    /// A socket started to listen.
    Listening {
        /// How many connections may wait to be accepted.
        backlog: u32,
    },
    /// A segment was retransmitted.
    Retransmitted {
        /// The connection's state.
        state: &'static str,
    },
}

/// The number, or null for 0.
fn known(number: u64) -> Value<'static> {
    if number == 0 { Value::Null } else { Value::Uint(number) }
}

fn address(endpoint: Option<&Endpoint>) -> Value<'_> {
    endpoint.map_or(Value::Null, |endpoint| Value::Text(&endpoint.address))
}

fn port(endpoint: Option<&Endpoint>) -> Value<'static> {
    endpoint.map_or(Value::Null, |endpoint| Value::Uint(endpoint.port.into()))
}

const fn field(
    name: &'static str,
    ty: Type,
    doc: &'static str,
    get: fn(&NetworkEvent) -> Value<'_>,
) -> Field<NetworkEvent> {
    Field { info: FieldInfo { name, ty, doc }, get }
}

impl Event for NetworkEvent {
    const NAME: &'static str = "network";
    const KINDS: &'static [&'static str] = &[
        "network.connect",
        "network.accept",
        "network.close",
        "network.listen",
        "network.retransmit",
    ];
    const FIELDS: &'static [Field<Self>] = &[
        field("network.transport", Type::Text, "tcp or udp", |e| {
            Value::Text(e.transport.as_bytes())
        }),
        field("network.type", Type::Text, "ipv4 or ipv6: the family of the socket", |e| {
            Value::Text(e.network.as_bytes())
        }),
        field("network.local.address", Type::Text, "local address", |e| address(e.local.as_ref())),
        field("network.local.port", Type::Uint, "local port", |e| port(e.local.as_ref())),
        field("network.peer.address", Type::Text, "remote address", |e| address(e.peer.as_ref())),
        field("network.peer.port", Type::Uint, "remote port", |e| port(e.peer.as_ref())),
        field(
            "network.namespace",
            Type::Uint,
            "inode number of the socket's network namespace",
            |e| known(e.namespace.into()),
        ),
        field(
            "network.connect.latency_ns",
            Type::Uint,
            "nanoseconds until a TCP connection was established or failed",
            |e| match e.what {
                NetworkWhat::Connected { latency, .. } => known(latency),
                _ => Value::Null,
            },
        ),
        field(
            "network.connect.abandoned",
            Type::Bool,
            "true if the process closed the socket before an answer arrived",
            |e| match e.what {
                NetworkWhat::Connected { abandoned: true, .. } => Value::Bool(true),
                _ => Value::Null,
            },
        ),
        field(
            "network.accept.queued_ns",
            Type::Uint,
            "nanoseconds that the connection waited to be accepted",
            |e| match e.what {
                NetworkWhat::Accepted { queued } => known(queued),
                _ => Value::Null,
            },
        ),
        field(
            "network.duration_ns",
            Type::Uint,
            "nanoseconds from the connection's establishment to its end",
            |e| match e.what {
                NetworkWhat::Closed { duration, .. } => known(duration),
                _ => Value::Null,
            },
        ),
        field(
            "network.sent_bytes",
            Type::Uint,
            "bytes of data sent, without retransmissions",
            |e| match e.what {
                NetworkWhat::Closed { sent, .. } => Value::Uint(sent),
                _ => Value::Null,
            },
        ),
        field("network.received_bytes", Type::Uint, "bytes of data received", |e| match e.what {
            NetworkWhat::Closed { received, .. } => Value::Uint(received),
            _ => Value::Null,
        }),
        field(
            "network.retransmitted_bytes",
            Type::Uint,
            "bytes of data retransmitted",
            |e| match e.what {
                NetworkWhat::Closed { retransmitted, .. } => Value::Uint(retransmitted),
                _ => Value::Null,
            },
        ),
        field(
            "network.backlog",
            Type::Uint,
            "number of connections that may wait to be accepted",
            |e| match e.what {
                NetworkWhat::Listening { backlog } if e.error == 0 => Value::Uint(backlog.into()),
                _ => Value::Null,
            },
        ),
        field(
            "network.connection.state",
            Type::Text,
            "state of the connection when a segment was retransmitted: syn_sent, established, …",
            |e| match e.what {
                NetworkWhat::Retransmitted { state } => Value::Text(state.as_bytes()),
                _ => Value::Null,
            },
        ),
        field(
            "error.code",
            Type::Uint,
            "error number if the call failed or an error ended the connection",
            |e| known(e.error.into()),
        ),
        field("error.type", Type::Text, "name of the error: ECONNREFUSED, …", |e| {
            errno::name(e.error).map_or(Value::Null, |name| Value::Text(name.as_bytes()))
        }),
    ];

    fn kind(&self) -> &'static str {
        match self.what {
            NetworkWhat::Connected { .. } => "network.connect",
            NetworkWhat::Accepted { .. } => "network.accept",
            NetworkWhat::Closed { .. } => "network.close",
            NetworkWhat::Listening { .. } => "network.listen",
            NetworkWhat::Retransmitted { .. } => "network.retransmit",
        }
    }

    fn time(&self) -> Timestamp {
        self.time
    }

    fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn cgroup(&self) -> Option<u64> {
        (self.process.is_none() && self.cgroup_id != 0).then_some(self.cgroup_id)
    }
}
