//! What the network tracker tells.

use bytes::Bytes;
use whalewatch_core::{Event, Field, FieldInfo, Process, Timestamp, Type, Value};

use crate::errno;

/// Something happened to a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkEvent {
    /// When it happened.
    pub time: Timestamp,
    /// The process that asked for the connection, accepted it or listens; `None` where the socket
    /// is older than the watching.
    pub process: Option<Process>,
    /// The cgroup: of the process, or where there is none the one that the socket was made in.
    pub cgroup_id: u64,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// `ipv4` or `ipv6`.
    pub network: &'static str,
    /// The socket's own address and port; `None` where it has none.
    pub local: Option<Endpoint>,
    /// Those of the other end; `None` where there is none.
    pub peer: Option<Endpoint>,
    /// Inode number of the socket's network namespace.
    pub namespace: u32,
    /// Number of the error that it failed with; 0 for none.
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

/// What happened to a socket. Nanoseconds and bytes are 0 where not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkWhat {
    /// A connection came about, or failed.
    Connected {
        /// Nanoseconds that this took.
        latency: u64,
        /// Whether the process gave it up before an answer came.
        abandoned: bool,
    },
    /// A connection was accepted, or could not be.
    Accepted {
        /// Nanoseconds that it had waited to be accepted.
        queued: u64,
    },
    /// A connection ended.
    Closed {
        /// Nanoseconds since it came about.
        duration: u64,
        /// Bytes of data sent, each counted once.
        sent: u64,
        /// Bytes of data received.
        received: u64,
        /// Bytes of data sent again.
        retransmitted: u64,
    },
    /// A socket waits for connections.
    Listening {
        /// How many may wait to be accepted.
        backlog: u32,
    },
    /// A segment was sent again.
    Retransmitted {
        /// The state that the connection is in.
        state: &'static str,
    },
}

/// Numbers that are 0 where not known.
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
        field("network.type", Type::Text, "ipv4 or ipv6: the kind of socket", |e| {
            Value::Text(e.network.as_bytes())
        }),
        field("network.local.address", Type::Text, "the socket's own address", |e| {
            address(e.local.as_ref())
        }),
        field("network.local.port", Type::Uint, "the socket's own port", |e| {
            port(e.local.as_ref())
        }),
        field("network.peer.address", Type::Text, "address of the other end", |e| {
            address(e.peer.as_ref())
        }),
        field("network.peer.port", Type::Uint, "port of the other end", |e| port(e.peer.as_ref())),
        field(
            "network.namespace",
            Type::Uint,
            "inode number of the network namespace that the addresses belong to",
            |e| known(e.namespace.into()),
        ),
        field(
            "network.connect.latency_ns",
            Type::Uint,
            "nanoseconds until a TCP connection came about, or failed",
            |e| match e.what {
                NetworkWhat::Connected { latency, .. } => known(latency),
                _ => Value::Null,
            },
        ),
        field(
            "network.connect.abandoned",
            Type::Bool,
            "true if the process closed the socket before an answer came",
            |e| match e.what {
                NetworkWhat::Connected { abandoned: true, .. } => Value::Bool(true),
                _ => Value::Null,
            },
        ),
        field(
            "network.accept.queued_ns",
            Type::Uint,
            "nanoseconds that a connection had waited to be accepted",
            |e| match e.what {
                NetworkWhat::Accepted { queued } => known(queued),
                _ => Value::Null,
            },
        ),
        field(
            "network.duration_ns",
            Type::Uint,
            "nanoseconds from when a connection came about to its end",
            |e| match e.what {
                NetworkWhat::Closed { duration, .. } => known(duration),
                _ => Value::Null,
            },
        ),
        field(
            "network.sent_bytes",
            Type::Uint,
            "bytes of data sent, each counted once",
            |e| match e.what {
                NetworkWhat::Closed { sent, .. } => Value::Uint(sent),
                _ => Value::Null,
            },
        ),
        field("network.received_bytes", Type::Uint, "bytes of data received", |e| match e.what {
            NetworkWhat::Closed { received, .. } => Value::Uint(received),
            _ => Value::Null,
        }),
        field("network.retransmitted_bytes", Type::Uint, "bytes of data sent again", |e| {
            match e.what {
                NetworkWhat::Closed { retransmitted, .. } => Value::Uint(retransmitted),
                _ => Value::Null,
            }
        }),
        field("network.backlog", Type::Uint, "how many connections may wait to be accepted", |e| {
            match e.what {
                NetworkWhat::Listening { backlog } if e.error == 0 => Value::Uint(backlog.into()),
                _ => Value::Null,
            }
        }),
        field(
            "network.connection.state",
            Type::Text,
            "state of the connection whose segment was sent again: syn_sent, established, …",
            |e| match e.what {
                NetworkWhat::Retransmitted { state } => Value::Text(state.as_bytes()),
                _ => Value::Null,
            },
        ),
        field(
            "error.code",
            Type::Uint,
            "error number of what failed, or ended a connection",
            |e| known(e.error.into()),
        ),
        field("error.type", Type::Text, "name of that error: ECONNREFUSED, …", |e| {
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
