//! Decodes the network tracker's records.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use whalewatch_trackers_common::kinds::{
    KIND_NETWORK_ACCEPT, KIND_NETWORK_CLOSE, KIND_NETWORK_CONNECT, KIND_NETWORK_LISTEN,
    KIND_NETWORK_RETRANSMIT,
};
use whalewatch_trackers_common::network::{
    FLAG_NETWORK_ABANDONED, FLAG_NETWORK_UNOWNED, NetworkRecord,
};

use super::event::{Endpoint, NetworkEvent, NetworkWhat};
use crate::header::process;
use crate::ring::{Arena, Decode, DecodeError, read};

/// Decodes the network tracker's records.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkDecoder;

impl Decode for NetworkDecoder {
    type Event = NetworkEvent;

    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<NetworkEvent, DecodeError> {
        let record: NetworkRecord = read(record)?;
        let header = &record.process.record;
        let what = match header.kind {
            KIND_NETWORK_CONNECT => NetworkWhat::Connected {
                latency: record.waited,
                abandoned: header.flags & FLAG_NETWORK_ABANDONED != 0,
            },
            KIND_NETWORK_ACCEPT => NetworkWhat::Accepted { queued: record.waited },
            KIND_NETWORK_CLOSE => NetworkWhat::Closed {
                duration: record.duration,
                sent: record.sent,
                received: record.received,
                retransmitted: record.retransmitted,
            },
            KIND_NETWORK_LISTEN => NetworkWhat::Listening { backlog: record.backlog },
            KIND_NETWORK_RETRANSMIT => NetworkWhat::Retransmitted { state: state(record.state)? },
            _ => return Err(DecodeError),
        };
        let ipv6 = match record.family.into() {
            libc::AF_INET => false,
            libc::AF_INET6 => true,
            _ => return Err(DecodeError),
        };
        let transport = match record.protocol.into() {
            libc::IPPROTO_TCP => "tcp",
            libc::IPPROTO_UDP => "udp",
            _ => return Err(DecodeError),
        };
        let unowned = header.flags & FLAG_NETWORK_UNOWNED != 0;
        Ok(NetworkEvent {
            time: arena.time(header.time),
            process: (!unowned).then(|| process(&record.process)),
            cgroup_id: record.process.cgroup_id,
            transport,
            network: if ipv6 { "ipv6" } else { "ipv4" },
            local: endpoint(arena, ipv6, record.local, record.local_port),
            peer: endpoint(arena, ipv6, record.peer, record.peer_port),
            namespace: record.namespace,
            error: record.error,
            what,
        })
    }
}

/// An address and a port, unless both are unset.
fn endpoint(arena: &mut Arena, ipv6: bool, bytes: [u8; 16], port: u16) -> Option<Endpoint> {
    let address = if ipv6 {
        IpAddr::from(Ipv6Addr::from(bytes))
    } else {
        let [a, b, c, d, ..] = bytes;
        IpAddr::from(Ipv4Addr::new(a, b, c, d))
    };
    if address.is_unspecified() && port == 0 {
        return None;
    }
    // Writing to a Vec cannot fail.
    let address = arena.build(|out| write!(out, "{address}").unwrap_or_default());
    Some(Endpoint { address, port })
}

/// The name of a TCP state as in OpenTelemetry's `network.connection.state`, by the kernel's number
/// (`include/net/tcp_states.h`).
fn state(number: u16) -> Result<&'static str, DecodeError> {
    const STATES: [&str; 12] = [
        "established",
        "syn_sent",
        "syn_received",
        "fin_wait_1",
        "fin_wait_2",
        "time_wait",
        "closed",
        "close_wait",
        "last_ack",
        "listen",
        "closing",
        // TCP_NEW_SYN_RECV: the kernel has no full socket yet; in the protocol it is SYN_RECV.
        "syn_received",
    ];
    let place = usize::from(number).checked_sub(1).ok_or(DecodeError)?;
    STATES.get(place).copied().ok_or(DecodeError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::{Event as _, Value};
    use whalewatch_trackers_common::{ProcessHeader, RecordHeader};

    use super::*;
    use crate::testing::{decode_and_read, records};

    fn record(kind: u16, flags: u16) -> NetworkRecord {
        let header = RecordHeader { kind, flags, time: 1, ..RecordHeader::default() };
        NetworkRecord {
            process: ProcessHeader {
                record: header,
                pid: 7,
                cgroup_id: 9,
                ..ProcessHeader::default()
            },
            family: libc::AF_INET as u16,
            protocol: libc::IPPROTO_TCP as u16,
            state: 1,
            ..NetworkRecord::default()
        }
    }

    fn decode(record: &NetworkRecord) -> Result<NetworkEvent, DecodeError> {
        NetworkDecoder.decode(bytemuck::bytes_of(record), &mut Arena::default())
    }

    fn get(event: &NetworkEvent, name: &str) -> String {
        let field = NetworkEvent::FIELDS.iter().find(|field| field.info.name == name);
        match (field.expect(name).get)(event) {
            Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Value::Uint(number) => number.to_string(),
            Value::Bool(set) => set.to_string(),
            Value::Null => String::new(),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn a_connection_has_local_and_remote_address() {
        let mut refused = record(KIND_NETWORK_CONNECT, 0);
        refused.local[..4].copy_from_slice(&[127, 0, 0, 1]);
        refused.peer[..4].copy_from_slice(&[198, 18, 0, 2]);
        (refused.local_port, refused.peer_port) = (40_000, 80);
        (refused.waited, refused.error) = (5000, libc::ECONNREFUSED as u32);
        let event = decode(&refused).unwrap();
        for (name, expected) in [
            ("network.transport", "tcp"),
            ("network.type", "ipv4"),
            ("network.local.address", "127.0.0.1"),
            ("network.local.port", "40000"),
            ("network.peer.address", "198.18.0.2"),
            ("network.peer.port", "80"),
            ("network.connect.latency_ns", "5000"),
            ("network.connect.abandoned", ""),
            ("network.duration_ns", ""),
            ("error.code", "111"),
            ("error.type", "ECONNREFUSED"),
        ] {
            assert_eq!(get(&event, name), expected, "{name}");
        }
        assert_eq!((event.kind(), event.cgroup()), ("network.connect", None));
    }

    #[test]
    fn ipv6_addresses_are_in_standard_form() {
        let mut close = record(KIND_NETWORK_CLOSE, 0);
        close.family = libc::AF_INET6 as u16;
        close.local[15] = 1;
        close.peer[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        let event = decode(&close).unwrap();
        assert_eq!(get(&event, "network.local.address"), "::1");
        assert_eq!(get(&event, "network.peer.address"), "::ffff:192.0.2.1");
        assert_eq!(get(&event, "network.sent_bytes"), "0");
    }

    #[test]
    fn an_event_without_process_has_a_cgroup() {
        let mut retransmit = record(KIND_NETWORK_RETRANSMIT, FLAG_NETWORK_UNOWNED);
        retransmit.state = 12;
        let event = decode(&retransmit).unwrap();
        assert_eq!((event.process(), event.cgroup()), (None, Some(9)));
        assert_eq!(get(&event, "network.connection.state"), "syn_received");
    }

    #[test]
    fn unset_addresses_are_null_unless_there_is_a_port() {
        let mut listen = record(KIND_NETWORK_LISTEN, 0);
        listen.local_port = 80;
        let event = decode(&listen).unwrap();
        assert_eq!(get(&event, "network.local.address"), "0.0.0.0");
        assert_eq!(get(&event, "network.peer.address"), "");
    }

    #[test]
    fn short_and_unknown_records_are_errors() {
        let whole = record(KIND_NETWORK_ACCEPT, 0);
        let bytes = bytemuck::bytes_of(&whole);
        for length in 0..bytes.len() {
            let short = NetworkDecoder.decode(&bytes[..length], &mut Arena::default());
            assert_eq!(short, Err(DecodeError), "{length} bytes");
        }
        for wrong in [
            NetworkRecord { family: 1, ..whole },
            NetworkRecord { protocol: 1, ..whole },
            NetworkRecord { state: 0, ..record(KIND_NETWORK_RETRANSMIT, 0) },
            record(KIND_NETWORK_RETRANSMIT + 1, 0),
        ] {
            assert_eq!(decode(&wrong), Err(DecodeError));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut record in records(62..71, 300)) {
            for (at, value) in [(184, libc::AF_INET6 as u16), (186, libc::IPPROTO_TCP as u16)] {
                if let Some(place) = record.get_mut(at..at + 2) {
                    place.copy_from_slice(&value.to_ne_bytes());
                }
            }
            decode_and_read(NetworkDecoder, &record);
        }
    }
}
