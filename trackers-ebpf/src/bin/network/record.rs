//! Writes the network tracker's records.

use core::mem::{MaybeUninit, size_of};

use aya_ebpf::maps::ring_buf::RingBufEntry;
use whalewatch_trackers_common::kinds::{
    KIND_NETWORK_ACCEPT, KIND_NETWORK_CLOSE, KIND_NETWORK_CONNECT, KIND_NETWORK_LISTEN,
};
use whalewatch_trackers_common::{
    ProcessHeader, RecordHeader,
    network::{FLAG_NETWORK_ABANDONED, FLAG_NETWORK_UNOWNED, NetworkOwner, NetworkRecord, OWNED},
};
use whalewatch_trackers_ebpf::{
    kernel::{Kernel, global, load, opaque},
    output::{RECORDS, begin, count_lost, submit_flags},
    path::{member, read_user},
    process::{Subject, write_process},
    scope::watches_result,
};

use crate::{DONE, IPV4, IPV6, NEW_SYN_RECV, OFFSETS, SETTINGS, TCP};

/// Writes zeroes word by word; the compiler would write them byte by byte.
#[inline(always)]
unsafe fn clear<T>(to: *mut T) {
    let zero = opaque(0);
    for i in 0..size_of::<T>() / 8 {
        // SAFETY: guaranteed by the caller; the value consists of whole words.
        unsafe { to.cast::<u64>().add(i).write_volatile(zero) };
    }
}

/// An owner with only these fields set.
#[inline(always)]
pub(crate) fn owner(claims: u64, phase: u32) -> MaybeUninit<NetworkOwner> {
    let mut owner = MaybeUninit::<NetworkOwner>::uninit();
    let out = owner.as_mut_ptr();
    // SAFETY: it is a local variable, and all zeroes are a valid owner.
    unsafe {
        clear(out);
        (*out).claims = claims;
        (*out).phase = phase;
    }
    owner
}

/// A socket, or a connection request, which starts with the same members: as a pointer that the
/// verifier knows, or as an address.
pub(crate) trait Socket: Copy {
    /// Reads a member of `struct sock`, `within` bytes from the member's start.
    unsafe fn get<T: Copy>(self, offset: *const u32, within: usize) -> T;
    /// Inode number of its network namespace.
    unsafe fn namespace(self) -> u32;
    /// Its address.
    fn address(self) -> u64;
}

impl Socket for Kernel {
    #[inline(always)]
    unsafe fn get<T: Copy>(self, offset: *const u32, within: usize) -> T {
        // SAFETY: the verifier knows the socket.
        unsafe { load(self.add(within), offset) }
    }

    #[inline(always)]
    unsafe fn namespace(self) -> u32 {
        // SAFETY: as above.
        unsafe {
            let net: Self = load(self, &raw const (*OFFSETS).net);
            load(net, &raw const (*OFFSETS).net_inum)
        }
    }

    #[inline(always)]
    fn address(self) -> u64 {
        self as u64
    }
}

impl Socket for u64 {
    #[inline(always)]
    unsafe fn get<T: Copy>(self, offset: *const u32, within: usize) -> T {
        // SAFETY: the helper checks the address.
        unsafe { member(self.wrapping_add(within as Self), offset) }
    }

    #[inline(always)]
    unsafe fn namespace(self) -> u32 {
        // SAFETY: as above.
        unsafe {
            let net: Self = member(self, &raw const (*OFFSETS).net);
            member(net, &raw const (*OFFSETS).net_inum)
        }
    }

    #[inline(always)]
    fn address(self) -> u64 {
        self
    }
}

/// The data of an event that is neither its process's nor its socket's.
#[derive(Clone, Copy)]
pub(crate) struct Details {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) error: u32,
    pub(crate) waited: u64,
    pub(crate) duration: u64,
    /// When it happened.
    pub(crate) time: u64,
}

impl Details {
    #[inline(always)]
    pub(crate) fn new(kind: u16, error: u32, time: u64) -> Self {
        let zero = opaque(0); // As in `clear`.
        Self { kind, flags: 0, error, waited: zero, duration: zero, time }
    }
}

/// Whether to report events of this kind.
#[inline(always)]
pub(crate) fn reports(kind: u16) -> bool {
    // SAFETY: a global of this object.
    let kinds = unsafe { global(&raw const SETTINGS.kinds) };
    kinds >> (kind - KIND_NETWORK_CONNECT) & 1 != 0
}

/// Reports an event with the owner's process.
#[inline(always)]
pub(crate) unsafe fn report(owner: *const NetworkOwner, sk: impl Socket, details: &Details) -> u32 {
    // SAFETY: the owner is the map's memory; the record is this program's alone.
    unsafe {
        let process = &raw const (*owner).process;
        let cgroup_id = (*process).cgroup_id;
        let Some(mut record) = reserve(details, cgroup_id) else { return 0 };
        let out = (&raw mut (*record.as_mut_ptr()).process).cast::<u64>();
        for i in 0..size_of::<ProcessHeader>() / 8 {
            // Word by word: see `clear`.
            out.add(i).write_volatile(process.cast::<u64>().add(i).read_volatile());
        }
        finish(record, sk, details)
    }
}

/// Reports that an outgoing connection was established.
#[inline(always)]
pub(crate) unsafe fn report_success(
    owner: *mut NetworkOwner,
    sk: impl Socket,
    latency: u64,
    now: u64,
) -> u32 {
    // SAFETY: as above.
    unsafe {
        if (*owner).claims & OWNED == 0 {
            return 0;
        }
        let mut details = Details::new(KIND_NETWORK_CONNECT, 0, now);
        details.waited = latency;
        report(owner, sk, &details)
    }
}

/// Reports that an outgoing connection failed.
#[inline(always)]
pub(crate) unsafe fn report_failure(owner: *mut NetworkOwner, sk: impl Socket, error: u32) -> u32 {
    // SAFETY: as above.
    unsafe {
        if (*owner).claims & OWNED == 0 {
            return 0;
        }
        let mut details = Details::new(KIND_NETWORK_CONNECT, error, (*owner).closed);
        details.waited = (*owner).closed - (*owner).started;
        if error == 0 {
            details.flags = FLAG_NETWORK_ABANDONED;
        }
        report(owner, sk, &details)
    }
}

/// Reports the end of a connection.
#[inline(always)]
pub(crate) unsafe fn report_end(
    owner: *mut NetworkOwner,
    sk: impl Socket,
    error: u32,
    now: u64,
) -> u32 {
    // SAFETY: as above.
    unsafe {
        let mut details = Details::new(KIND_NETWORK_CLOSE, error, now);
        if (*owner).established != 0 {
            details.duration = (*owner).closed - (*owner).established;
        }
        report(owner, sk, &details)
    }
}

/// Reports an event of a socket of which only the cgroup is known.
#[inline(always)]
pub(crate) unsafe fn report_unowned(cgroup_id: u64, sk: impl Socket, details: &Details) -> u32 {
    // SAFETY: as above.
    unsafe {
        let Some(mut record) = reserve(details, cgroup_id) else { return 0 };
        let out = record.as_mut_ptr();
        clear(&raw mut (*out).process);
        (*out).process.cgroup_id = cgroup_id;
        finish(record, sk, &Details { flags: FLAG_NETWORK_UNOWNED, ..*details })
    }
}

/// Reports an action of the current process.
#[inline(always)]
pub(crate) unsafe fn report_subject(subject: &Subject, sk: impl Socket, details: &Details) -> u32 {
    // SAFETY: as above; the subject's tasks are known to the verifier.
    unsafe {
        let Some(mut record) = reserve(details, subject.cgroup_id) else { return 0 };
        write_process(&raw mut (*record.as_mut_ptr()).process, subject, 0, 0);
        finish(record, sk, details)
    }
}

/// Reports a call of `connect` by the current process, with the requested address if it failed.
#[inline(always)]
pub(crate) unsafe fn report_connect(
    subject: &Subject,
    sk: impl Socket,
    details: &Details,
    to: &Peer,
) -> u32 {
    // SAFETY: as above.
    unsafe {
        let Some(mut record) = reserve(details, subject.cgroup_id) else { return 0 };
        let out = record.as_mut_ptr();
        write_process(&raw mut (*out).process, subject, 0, 0);
        fill(out, sk, details);
        if details.error != 0 {
            // The socket has no remote address, or no longer has one.
            to.write(out);
        }
        record.submit(submit_flags());
    }
    0
}

/// Reserves a record, if an event of this kind and cgroup is to be reported and there is room.
#[inline(always)]
fn reserve(details: &Details, cgroup_id: u64) -> Option<RingBufEntry<NetworkRecord>> {
    if !reports(details.kind) || !watches_result(details.error != 0 || details.flags != 0) {
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

/// Fills in everything after the process, and submits the record.
#[inline(always)]
unsafe fn finish(
    mut record: RingBufEntry<NetworkRecord>,
    sk: impl Socket,
    details: &Details,
) -> u32 {
    // SAFETY: the record is this program's alone.
    unsafe { fill(record.as_mut_ptr(), sk, details) };
    record.submit(submit_flags());
    0
}

/// Fills in the header, the details, and the data of the socket.
#[inline(never)]
unsafe fn fill<S: Socket>(out: *mut NetworkRecord, sk: S, details: &Details) {
    // SAFETY: the helpers check what they read; the verifier checks direct loads.
    unsafe {
        (*out).process.record = RecordHeader {
            length: size_of::<NetworkRecord>() as u32,
            kind: details.kind,
            flags: details.flags,
            time: details.time,
        };
        (*out).waited = details.waited;
        (*out).duration = details.duration;
        (*out).error = details.error;
        (*out).padding = 0;

        let family: u16 = sk.get(&raw const (*OFFSETS).family, 0);
        let state = u16::from(sk.get::<u8>(&raw const (*OFFSETS).state, 0));
        let is_request = state == NEW_SYN_RECV;
        (*out).family = family;
        (*out).state = state;
        let (local, peer) = if family == IPV4 {
            let local: u32 = sk.get(&raw const (*OFFSETS).local, 0);
            let peer: u32 = sk.get(&raw const (*OFFSETS).peer, 0);
            ([local.into(), 0], [peer.into(), 0])
        } else {
            let (local, peer) = (&raw const (*OFFSETS).local_v6, &raw const (*OFFSETS).peer_v6);
            ([sk.get(local, 0), sk.get(local, 8)], [sk.get(peer, 0), sk.get(peer, 8)])
        };
        let has_peer = details.kind != KIND_NETWORK_LISTEN
            && (details.kind != KIND_NETWORK_ACCEPT || details.error == 0);
        let peer_port = u16::from_be(sk.get(&raw const (*OFFSETS).peer_port, 0));
        write_address(&raw mut (*out).local, local);
        write_address(&raw mut (*out).peer, if has_peer { peer } else { [0; 2] });
        (*out).peer_port = if has_peer { peer_port } else { 0 };
        if is_request {
            (*out).protocol = TCP;
            (*out).local_port = sk.get(&raw const (*OFFSETS).bound_port, 0);
        } else {
            (*out).protocol = sk.get(&raw const (*OFFSETS).protocol, 0);
            // The kernel clears the bound port when a connection ends, but not this one.
            let port = member(sk.address(), &raw const (*OFFSETS).local_port);
            (*out).local_port = u16::from_be(port);
        }
        (*out).namespace = sk.namespace();
        (*out).backlog = if details.kind == KIND_NETWORK_LISTEN && details.error == 0 {
            sk.get(&raw const (*OFFSETS).backlog, 0)
        } else {
            0
        };
        fill_bytes(out, sk, details.kind == KIND_NETWORK_CLOSE);
    }
}

/// Fills in the bytes sent and received, for a connection that ended.
#[inline(always)]
unsafe fn fill_bytes(out: *mut NetworkRecord, sk: impl Socket, ended: bool) {
    let (mut sent, mut received, mut again) = (0_u64, 0_u64, 0_u64);
    // SAFETY: as above.
    unsafe {
        if ended {
            let address = sk.address();
            again = member(address, &raw const (*OFFSETS).bytes_retrans);
            sent = member::<u64>(address, &raw const (*OFFSETS).bytes_sent).saturating_sub(again);
            // The kernel counts the remote side's FIN as a byte.
            let flags: u64 = sk.get(&raw const (*OFFSETS).flags, 0);
            let last = u64::from(flags & DONE != 0);
            received = member(address, &raw const (*OFFSETS).bytes_received);
            received = received.saturating_sub(last);
        }
        (*out).sent = sent;
        (*out).received = received;
        (*out).retransmitted = again;
    }
}

/// Writes an address as two words.
#[inline(always)]
unsafe fn write_address(to: *mut [u8; 16], [first, second]: [u64; 2]) {
    // SAFETY: the record's addresses are aligned as words.
    unsafe {
        to.cast::<u64>().write_volatile(first);
        to.cast::<u64>().add(1).write_volatile(second);
    }
}

/// The address that a process gives to `connect`.
pub(crate) struct Peer {
    /// The address family that the process wrote; 0 if none.
    pub(crate) family: u16,
    port: u16,
    v4: u32,
    v6: [u64; 2],
}

impl Peer {
    /// Reads it from the process's memory.
    #[inline(always)]
    pub(crate) unsafe fn read(address: u64, length: u64) -> Self {
        let mut peer = Self { family: 0, port: 0, v4: 0, v6: [0; 2] };
        // SAFETY: the helper checks the addresses.
        unsafe {
            if length >= 8 {
                // `struct sockaddr_in` starts with family, port and address.
                let begin: [u16; 4] = read_user(address);
                (peer.family, peer.port) = (begin[0], begin[1]);
                peer.v4 = u32::from(begin[2]) | u32::from(begin[3]) << 16;
            } else if length >= 2 {
                peer.family = read_user(address);
            }
            if peer.family == IPV6 && length >= 24 {
                peer.v6 = read_user(address + 8);
            }
        }
        peer
    }

    /// Writes it as the remote address of a record.
    #[inline(always)]
    unsafe fn write(&self, out: *mut NetworkRecord) {
        /// The prefix of an IPv4-mapped IPv6 address, as half a word in memory.
        const MAPPED: u64 = 0xffff_0000;
        // SAFETY: the record is this program's alone.
        unsafe {
            let v4 = u64::from(self.v4);
            let (address, port) = match (self.family, (*out).family) {
                (IPV4, IPV4) => ([v4, 0], self.port),
                (IPV4, _) => ([0, MAPPED | v4 << 32], self.port),
                (IPV6, IPV6) => (self.v6, self.port),
                _ => ([0; 2], 0),
            };
            write_address(&raw mut (*out).peer, address);
            (*out).peer_port = u16::from_be(port);
        }
    }
}
