//! The record of everything that the network tracker's programs tell.

use core::mem::size_of;

use aya_ebpf::maps::ring_buf::RingBufEntry;
use whalewatch_trackers_common::{
    ProcessHeader,
    network::{
        FLAG_NETWORK_ABANDONED, FLAG_NETWORK_UNOWNED, KIND_NETWORK_ACCEPT, KIND_NETWORK_CLOSE,
        KIND_NETWORK_CONNECT, KIND_NETWORK_LISTEN, NetworkOwner, NetworkRecord, OWNED,
    },
};
use whalewatch_trackers_ebpf::{
    kernel::global,
    output::{RECORDS, begin, count_lost, submit_flags, write_header},
    path::{member, read_user},
    process::{Subject, write_process},
    scope::watches_result,
};

use crate::{DONE, IPV4, IPV6, NEW_SYN_RECV, OFFSETS, SETTINGS, TCP};

const NOBODY: ProcessHeader = ProcessHeader {
    record: whalewatch_trackers_common::RecordHeader { length: 0, kind: 0, flags: 0, time: 0 },
    pid: 0,
    tid: 0,
    parent_pid: 0,
    namespace_pid: 0,
    start_time: 0,
    parent_start_time: 0,
    cgroup_id: 0,
    uid: 0,
    gid: 0,
    user_namespace: 0,
    pid_namespace: 0,
    mnt_namespace: 0,
    net_namespace: 0,
    comm: [0; 16],
};

/// An owner of whom nothing is known.
pub(crate) const UNKNOWN: NetworkOwner = NetworkOwner {
    process: NOBODY,
    started: 0,
    established: 0,
    closed: 0,
    claims: 0,
    phase: 0,
    in_call: 0,
};

/// What an event has beside its process and what its socket tells.
#[derive(Clone, Copy)]
pub(crate) struct Details {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) error: u32,
    pub(crate) waited: u64,
    pub(crate) duration: u64,
}

impl Details {
    pub(crate) const fn new(kind: u16, error: u32) -> Self {
        Self { kind, flags: 0, error, waited: 0, duration: 0 }
    }
}

/// Whether events of this kind are to be told.
#[inline(always)]
pub(crate) fn wants(kind: u16) -> bool {
    // SAFETY: a global of this object.
    let kinds = unsafe { global(&raw const SETTINGS.kinds) };
    kinds >> (kind - KIND_NETWORK_CONNECT) & 1 != 0
}

/// Tells of something that the owner has to do with, if it is one that is told of.
#[inline(never)]
pub(crate) unsafe fn tell(owner: *const NetworkOwner, sk: u64, details: &Details) -> u32 {
    // SAFETY: the owner is the map's memory; the record is this program's alone.
    unsafe {
        let process = &raw const (*owner).process;
        let cgroup_id = (*process).cgroup_id;
        let Some(mut record) = reserve(details, cgroup_id) else { return 0 };
        let out = record.as_mut_ptr();
        (*out).process = *process;
        finish(record, sk, details)
    }
}

/// A connection that was asked for did not come about.
#[inline(always)]
pub(crate) unsafe fn tell_failure(owner: *mut NetworkOwner, sk: u64, error: u32) -> u32 {
    // SAFETY: as above.
    unsafe {
        if (*owner).claims & OWNED == 0 {
            return 0;
        }
        let mut details = Details::new(KIND_NETWORK_CONNECT, error);
        details.waited = (*owner).closed - (*owner).started;
        if error == 0 {
            details.flags = FLAG_NETWORK_ABANDONED;
        }
        tell(owner, sk, &details)
    }
}

/// A connection ended.
#[inline(always)]
pub(crate) unsafe fn tell_end(owner: *mut NetworkOwner, sk: u64, error: u32) -> u32 {
    // SAFETY: as above.
    unsafe {
        let mut details = Details::new(KIND_NETWORK_CLOSE, error);
        if (*owner).established != 0 {
            details.duration = (*owner).closed - (*owner).established;
        }
        tell(owner, sk, &details)
    }
}

/// Tells of something that happened to a socket of which no more is known than its cgroup.
#[inline(always)]
pub(crate) unsafe fn tell_unowned(cgroup_id: u64, sk: u64, details: &Details) -> u32 {
    // SAFETY: as above.
    unsafe {
        let Some(mut record) = reserve(details, cgroup_id) else { return 0 };
        let out = record.as_mut_ptr();
        (*out).process = NOBODY;
        (*out).process.cgroup_id = cgroup_id;
        finish(record, sk, &Details { flags: FLAG_NETWORK_UNOWNED, ..*details })
    }
}

/// Tells of something that the current process did.
#[inline(always)]
pub(crate) unsafe fn tell_subject(subject: &Subject, sk: u64, details: &Details) -> u32 {
    // SAFETY: as above; the subject's tasks are known to the verifier.
    unsafe {
        let Some(mut record) = reserve(details, subject.cgroup_id) else { return 0 };
        write_process(&raw mut (*record.as_mut_ptr()).process, subject, 0, 0);
        finish(record, sk, details)
    }
}

/// Tells of a connection that the current process asked for, as far as the process itself can tell.
#[inline(always)]
pub(crate) unsafe fn tell_asked(subject: &Subject, sk: u64, details: &Details, to: &Peer) -> u32 {
    // SAFETY: as above.
    unsafe {
        let Some(mut record) = reserve(details, subject.cgroup_id) else { return 0 };
        let out = record.as_mut_ptr();
        write_process(&raw mut (*out).process, subject, 0, 0);
        fill(out, sk, details);
        if details.error != 0 {
            // The socket has no other end, or no more.
            to.write(out);
        }
        record.submit(submit_flags());
    }
    0
}

/// A record, if an event of this kind and cgroup is to be told, and there is room.
#[inline(always)]
fn reserve(details: &Details, cgroup_id: u64) -> Option<RingBufEntry<NetworkRecord>> {
    if !wants(details.kind) || !watches_result(details.error != 0 || details.flags != 0) {
        return None;
    }
    if !begin(cgroup_id) {
        return None;
    }
    let record = RECORDS.reserve::<NetworkRecord>(0);
    if record.is_none() {
        count_lost(cgroup_id);
    }
    record
}

/// Fills in what is behind the process, and submits.
#[inline(always)]
unsafe fn finish(mut record: RingBufEntry<NetworkRecord>, sk: u64, details: &Details) -> u32 {
    // SAFETY: the record is this program's alone.
    unsafe { fill(record.as_mut_ptr(), sk, details) };
    record.submit(submit_flags());
    0
}

/// Fills in the header, the details, and what the socket tells. `sk` may also be a request, which begins like a socket.
#[inline(never)]
unsafe fn fill(out: *mut NetworkRecord, sk: u64, details: &Details) {
    // SAFETY: the helpers check what they read.
    unsafe {
        write_header(
            &raw mut (*out).process.record,
            size_of::<NetworkRecord>() as u32,
            details.kind,
            details.flags,
        );
        (*out).waited = details.waited;
        (*out).duration = details.duration;
        (*out).error = details.error;
        (*out).padding = 0;

        let family: u16 = member(sk, &raw const (*OFFSETS).family);
        let state = u16::from(member::<u8>(sk, &raw const (*OFFSETS).state));
        let is_request = state == NEW_SYN_RECV;
        (*out).family = family;
        (*out).state = state;
        (*out).protocol = if is_request { TCP } else { member(sk, &raw const (*OFFSETS).protocol) };
        if family == IPV4 {
            (*out).local = pad(member(sk, &raw const (*OFFSETS).local));
            (*out).peer = pad(member(sk, &raw const (*OFFSETS).peer));
        } else {
            (*out).local = member(sk, &raw const (*OFFSETS).local_v6);
            (*out).peer = member(sk, &raw const (*OFFSETS).peer_v6);
        }
        // The bound port goes back when a connection ends; this one stays.
        (*out).local_port = if is_request {
            member(sk, &raw const (*OFFSETS).bound_port)
        } else {
            u16::from_be(member(sk, &raw const (*OFFSETS).local_port))
        };
        (*out).peer_port = u16::from_be(member(sk, &raw const (*OFFSETS).peer_port));
        let net: u64 = member(sk, &raw const (*OFFSETS).net);
        (*out).namespace = member(net, &raw const (*OFFSETS).net_inum);

        let ([mut sent, mut received, mut again], mut backlog) = ([0_u64; 3], 0_u32);
        if details.kind == KIND_NETWORK_CLOSE {
            again = member(sk, &raw const (*OFFSETS).bytes_retrans);
            sent = member::<u64>(sk, &raw const (*OFFSETS).bytes_sent).saturating_sub(again);
            // The kernel counts the other side's last word (FIN) as a byte.
            let flags: u64 = member(sk, &raw const (*OFFSETS).flags);
            let last = u64::from(flags & DONE != 0);
            received = member::<u64>(sk, &raw const (*OFFSETS).bytes_received).saturating_sub(last);
        }
        if details.kind == KIND_NETWORK_LISTEN && details.error == 0 {
            backlog = member(sk, &raw const (*OFFSETS).backlog);
        }
        if details.kind == KIND_NETWORK_LISTEN
            || details.kind == KIND_NETWORK_ACCEPT && details.error != 0
        {
            (*out).peer = [0; 16];
            (*out).peer_port = 0;
        }
        (*out).sent = sent;
        (*out).received = received;
        (*out).retransmitted = again;
        (*out).backlog = backlog;
    }
}

fn pad(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Where a process asks to be connected to.
pub(crate) struct Peer {
    /// Its address family, whichever the process has written there; 0 where it has written none.
    pub(crate) family: u16,
    port: u16,
    v4: [u8; 4],
    v6: [u8; 16],
}

impl Peer {
    /// From the address that the process gives to `connect`.
    #[inline(always)]
    pub(crate) unsafe fn read(address: u64, length: u64) -> Self {
        /// `struct sockaddr_in` up to its address.
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct Begin {
            family: u16,
            port: u16,
            v4: [u8; 4],
        }
        let mut peer = Self { family: 0, port: 0, v4: [0; 4], v6: [0; 16] };
        // SAFETY: the helper checks the addresses.
        unsafe {
            if length >= 8 {
                let begin: Begin = read_user(address);
                (peer.family, peer.port, peer.v4) = (begin.family, begin.port, begin.v4);
            } else if length >= 2 {
                peer.family = read_user(address);
            }
            if peer.family == IPV6 && length >= 24 {
                peer.v6 = read_user(address + 8);
            }
        }
        peer
    }

    /// Makes it the other end of a record.
    #[inline(always)]
    unsafe fn write(&self, out: *mut NetworkRecord) {
        // SAFETY: the record is the program's alone.
        unsafe {
            (*out).peer = match (self.family, (*out).family) {
                (IPV4, IPV4) => pad(self.v4),
                (IPV6, IPV6) => self.v6,
                (IPV4, _) => {
                    let [a, b, c, d] = self.v4;
                    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
                }
                _ => [0; 16],
            };
            let known = self.family == IPV4 || self.family == (*out).family;
            (*out).peer_port = if known { u16::from_be(self.port) } else { 0 };
        }
    }
}
