//! The network tracker's programs: TCP connections from start to end, and system calls on sockets.
//!
//! Most changes of a connection happen in interrupts, where the current task is unrelated. The
//! programs therefore remember each socket's process when it makes a call ([`OWNERS`]), and report
//! later changes with that process.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "kernel programs read through raw pointers; the verifier checks every one"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a chain of kernel pointers is one operation; the verifier checks each step"
)]

#[path = "network/record.rs"]
mod record;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::bpf_ktime_get_boot_ns,
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use whalewatch_trackers_common::kinds::{
    KIND_NETWORK_ACCEPT, KIND_NETWORK_CLOSE, KIND_NETWORK_CONNECT, KIND_NETWORK_LISTEN,
    KIND_NETWORK_RETRANSMIT,
};
use whalewatch_trackers_common::network::{
    CALL_CONNECT, CALL_LISTEN, CLOSED, NetworkOffsets, NetworkOwner, NetworkSettings, OWNED,
    PHASE_CLOSED, PHASE_FAILED, PHASE_LISTENING, PHASE_OPEN, PHASE_PENDING, PHASE_UNREPORTED,
};
use whalewatch_trackers_ebpf::{
    TASK,
    atomic::fetch_add,
    kernel::{Kernel, argument, global, load, number},
    output::{count_generated, count_lost},
    path::{file, member},
    process::{Subject, write_process},
    scope::{is_own, watches, watches_unowned},
    syscall,
};

use record::{
    Details, Peer, Socket, owner, report, report_connect, report_end, report_failure,
    report_subject, report_success, report_unowned, reports,
};

/// Set by the loader.
#[unsafe(no_mangle)]
static SETTINGS: NetworkSettings = NetworkSettings::UNSET;

const OFFSETS: *const NetworkOffsets = &raw const SETTINGS.offsets;

/// Owners of sockets by the socket's address, until the kernel destroys the socket. If that is
/// missed, a stale entry remains until the next socket at the address replaces it.
#[map]
static OWNERS: HashMap<u64, NetworkOwner> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// An owner without any data.
// SAFETY: it consists of numbers, for which all zeroes are valid.
static BLANK: NetworkOwner = unsafe { core::mem::zeroed() };

/// States of a TCP socket (`include/net/tcp_states.h`).
const ESTABLISHED: u64 = 1;
const SYN_SENT: u64 = 2;
const SYN_RECV: u64 = 3;
const CLOSE: u64 = 7;
/// The state of a connection request, which is not a full socket yet.
const NEW_SYN_RECV: u16 = 12;
/// States after a connection was established: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT,
/// LAST_ACK and CLOSING, as bits.
const WAS_ESTABLISHED: u64 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
/// Bits of a socket's flags (`enum sock_flags` in `include/net/sock.h`): `SOCK_DEAD`, the process
/// has closed it, and `SOCK_DONE`, the remote side has sent its FIN.
const DEAD: u64 = 1;
const DONE: u64 = 2;

const TCP: u16 = 6;
const UDP: u16 = 17;
const IPV4: u16 = 2;
const IPV6: u16 = 10;

/// Results that are not failures: the answer is outstanding or was received before, or the kernel
/// restarts the call (`include/linux/errno.h`).
const EINTR: i64 = -4;
const EAGAIN: i64 = -11;
const EISCONN: i64 = -106;
const EALREADY: i64 = -114;
const EINPROGRESS: i64 = -115;
const RESTARTS: core::ops::RangeInclusive<i64> = -516..=-512;

/// The state of a TCP socket changes.
///
/// The kernel does not run a program that is already running on the same CPU, so changes in an
/// interrupt are missed while this program runs in a process. The start of a connection cannot be
/// missed. A missed establishment is made up for at the connection's end, and a missed end when the
/// kernel destroys the socket.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn network_state(ctx: BtfTracePointContext) -> u32 {
    let (sk, from, to) = (argument(&ctx, 0), number(&ctx, 1) & 15, number(&ctx, 2) & 15);
    // SAFETY: the tracepoint's arguments are a socket and its states.
    unsafe {
        if to != ESTABLISHED && to != CLOSE && to != SYN_SENT {
            return 0;
        }
        if load::<u16>(sk, &raw const (*OFFSETS).protocol) != TCP {
            return 0;
        }
        match to {
            SYN_SENT => starts(sk),
            ESTABLISHED => is_established(sk, from),
            _ => ends(sk, from),
        }
    }
}

/// The current process asks for a connection.
#[inline(always)]
unsafe fn starts(sk: Kernel) -> u32 {
    // SAFETY: the tracepoint's socket; this runs in process context.
    unsafe {
        let subject = Subject::current();
        let watched = watches(&subject, true);
        // A socket without an owner counts as older than the tracker. Whalewatch's own connections
        // need an owner so that they are not reported as such.
        if !watched && !is_own(subject.leader) {
            return 0;
        }
        let Some(owner) = remember(sk) else {
            if watched {
                count_generated();
                count_lost(subject.cgroup_id);
            }
            return 0;
        };
        (*owner).started = bpf_ktime_get_boot_ns();
        (*owner).in_call = 1;
        write_process(&raw mut (*owner).process, &subject, 0, 0);
        (*owner).claims = if watched { OWNED } else { 0 };
        (*owner).phase = PHASE_PENDING;
    }
    0
}

/// Adds an owner for a socket that no other program uses yet, to be filled in inside the map. On
/// the stack it would exceed the 512 bytes that older kernels give a program and its callees
/// together.
#[inline(always)]
unsafe fn remember(sk: Kernel) -> Option<*mut NetworkOwner> {
    OWNERS.insert(sk as u64, &BLANK, BPF_ANY.into()).ok()?;
    OWNERS.get_ptr_mut(sk as u64)
}

/// A connection is established: an outgoing one, or one that now waits to be accepted.
#[inline(always)]
unsafe fn is_established(sk: Kernel, from: u64) -> u32 {
    // SAFETY: the tracepoint's socket; its owner is the map's memory, and the kernel has locked the
    // socket.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        if let Some(known) = OWNERS.get_ptr_mut(sk as u64) {
            if (*known).phase == PHASE_PENDING {
                (*known).phase = PHASE_OPEN;
                (*known).established = now;
                return report_success(known, sk, now - (*known).started, now);
            }
            // Accepted before it was established (TCP Fast Open). Any other entry is a stale one of
            // an earlier socket at this address.
            if (*known).phase == PHASE_OPEN && (*known).established == 0 {
                (*known).established = now;
                return 0;
            }
        }
        if from == SYN_RECV {
            // If the map is full, the time of establishment will be unknown when it is accepted.
            let Some(owner) = remember(sk) else { return 0 };
            (*owner).established = now;
            (*owner).phase = PHASE_OPEN;
        }
    }
    0
}

/// A connection ended, or was never established.
#[inline(always)]
unsafe fn ends(sk: Kernel, from: u64) -> u32 {
    // SAFETY: as above.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        let was_established = WAS_ESTABLISHED >> from & 1 != 0;
        let Some(owner) = OWNERS.get_ptr_mut(sk as u64) else {
            return if was_established { unowned_ends(sk) } else { 0 };
        };
        let error: u32 = load(sk, &raw const (*OFFSETS).error);
        if (*owner).phase == PHASE_PENDING {
            if was_established {
                // The establishment was missed.
                (*owner).phase = PHASE_OPEN;
                report_success(owner, sk, 0, now);
            } else {
                (*owner).closed = now;
                if error == 0 && (*owner).in_call != 0 {
                    (*owner).phase = PHASE_UNREPORTED;
                    return 0;
                }
                (*owner).phase = PHASE_FAILED;
                return report_failure(owner, sk, error);
            }
        }
        if (*owner).phase == PHASE_OPEN { closes(owner, sk, error, now) } else { 0 }
    }
}

/// An open connection ended.
#[inline(always)]
unsafe fn closes(owner: *mut NetworkOwner, sk: Kernel, error: u32, now: u64) -> u32 {
    // SAFETY: as above.
    unsafe {
        (*owner).closed = now;
        (*owner).phase = PHASE_CLOSED;
        if fetch_add(&raw mut (*owner).claims, CLOSED) & OWNED == 0 {
            return 0; // Not accepted yet, or not by a watched process.
        }
        report_end(owner, sk, error, now)
    }
}

/// The end of a connection that is older than the tracker: its cgroup is known, its process is not.
#[inline(never)]
unsafe fn unowned_ends(sk: Kernel) -> u32 {
    // SAFETY: as above.
    unsafe {
        let error: u32 = load(sk, &raw const (*OFFSETS).error);
        let socket: Kernel = load(sk, &raw const (*OFFSETS).socket);
        let flags: u64 = load(sk, &raw const (*OFFSETS).flags);
        if socket.is_null() && flags & DEAD == 0 {
            return 0; // It was never accepted.
        }
        let cgroup: Kernel = load(sk, &raw const (*OFFSETS).cgroup);
        if !reports(KIND_NETWORK_CLOSE) || !watches_unowned(cgroup, error != 0) {
            return 0;
        }
        let details = Details::new(KIND_NETWORK_CLOSE, error, bpf_ktime_get_boot_ns());
        report_unowned(cgroup_id(cgroup), sk, &details)
    }
}

/// The kernel destroys a TCP socket.
#[btf_tracepoint(function = "tcp_destroy_sock")]
fn network_destroy(ctx: BtfTracePointContext) -> u32 {
    let sk = argument(&ctx, 0);
    // SAFETY: the tracepoint's argument is a socket, which nothing else uses any more; the owner is
    // the map's memory.
    unsafe {
        let Some(owner) = OWNERS.get_ptr_mut(sk as u64) else { return 0 };
        match (*owner).phase {
            // No call returned the reason, so it was not `connect` that asked for the connection.
            PHASE_UNREPORTED => {
                report_failure(owner, sk, 0);
            }
            // The end was missed.
            PHASE_OPEN => {
                let error = load(sk, &raw const (*OFFSETS).error);
                closes(owner, sk, error, bpf_ktime_get_boot_ns());
            }
            _ => {}
        }
        let _ = OWNERS.remove(sk as u64);
    }
    0
}

/// A segment is retransmitted.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn network_retransmit(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: the tracepoint's arguments are a socket, a segment and, if the settings say so, the
    // result.
    unsafe {
        let mut result = 0;
        if global(&raw const SETTINGS.retransmit_has_error) != 0 {
            result = number(&ctx, 2) as i32;
        }
        let sk = argument(&ctx, 0);
        retransmits(sk, sk, result)
    }
}

/// The answer to a connection request is retransmitted.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn network_retransmit_answer(ctx: BtfTracePointContext) -> u32 {
    // SAFETY: the tracepoint's arguments are the listening socket and the connection request.
    unsafe { retransmits(argument(&ctx, 0), argument(&ctx, 1) as u64, 0) }
}

/// Reports a retransmission. `about` is the socket or the request that has the addresses.
#[inline(always)]
unsafe fn retransmits(sk: Kernel, about: impl Socket, result: i32) -> u32 {
    // SAFETY: as above.
    unsafe {
        let error = if result < 0 { result.unsigned_abs() } else { 0 };
        if !reports(KIND_NETWORK_RETRANSMIT) {
            return 0;
        }
        let details = Details::new(KIND_NETWORK_RETRANSMIT, error, bpf_ktime_get_boot_ns());
        if let Some(owner) = OWNERS.get_ptr_mut(sk as u64) {
            if (&raw const (*owner).claims).read_volatile() & OWNED == 0 {
                return 0;
            }
            return report(owner, about, &details);
        }
        let cgroup: Kernel = load(sk, &raw const (*OFFSETS).cgroup);
        if !watches_unowned(cgroup, error != 0) {
            return 0;
        }
        report_unowned(cgroup_id(cgroup), about, &details)
    }
}

/// A system call returns.
#[btf_tracepoint(function = "sys_exit")]
fn network_exit(ctx: BtfTracePointContext) -> u32 {
    let (regs, result) = (argument(&ctx, 0), number(&ctx, 1) as i64);
    // SAFETY: the tracepoint's arguments are the registers and the result; a system call is made by
    // the current task.
    unsafe {
        let fd = syscall::argument(regs, 0) as i32;
        match syscall::action(regs, &raw const SETTINGS.actions) {
            0 => 0,
            CALL_CONNECT => {
                connected(fd, syscall::argument(regs, 1), syscall::argument(regs, 2), result)
            }
            CALL_LISTEN => listens(fd, result),
            _ => accepted(fd, result),
        }
    }
}

/// `connect` returns.
#[inline(never)]
unsafe fn connected(fd: i32, address: u64, length: u64, result: i64) -> u32 {
    // SAFETY: the helpers check what they read; the owner is the map's memory.
    unsafe {
        let (sk, protocol) = socket(fd);
        // A TCP connection is reported when it is established.
        if sk == 0 || protocol == TCP && result == 0 || !is_internet(sk) {
            return 0;
        }
        let mut waited = 0;
        if protocol == TCP {
            let known = OWNERS.get_ptr_mut(sk);
            if result == EINPROGRESS || is_interrupted(result) {
                if let Some(owner) = known {
                    (*owner).in_call = 0;
                }
                return 0;
            }
            if result == EALREADY || result == EISCONN {
                return 0;
            }
            if let Some(owner) = known {
                match (*owner).phase {
                    PHASE_FAILED => {
                        // Reported already; the call only returns the reason.
                        let _ = OWNERS.remove(sk);
                        return 0;
                    }
                    PHASE_UNREPORTED => {
                        waited = (*owner).closed - (*owner).started;
                        let _ = OWNERS.remove(sk);
                    }
                    PHASE_CLOSED => {}
                    _ => return 0,
                }
            }
        }
        let to = Peer::read(address, length);
        if to.family != IPV4 && to.family != IPV6 && result == 0 {
            return 0; // `AF_UNSPEC`: the process disconnects the socket.
        }
        let error = failure(result);
        let subject = Subject::current();
        if !watches(&subject, error != 0) {
            return 0;
        }
        let mut details = Details::new(KIND_NETWORK_CONNECT, error, bpf_ktime_get_boot_ns());
        details.waited = waited;
        report_connect(&subject, sk, &details, &to)
    }
}

/// `listen` returns.
#[inline(never)]
unsafe fn listens(fd: i32, result: i64) -> u32 {
    // SAFETY: as above.
    unsafe {
        let (sk, protocol) = socket(fd);
        if sk == 0 || protocol != TCP || !is_internet(sk) {
            return 0;
        }
        let error = failure(result);
        let subject = Subject::current();
        let watched = watches(&subject, true);
        if error == 0 && (watched || is_own(subject.leader)) {
            let claims = if watched { OWNED } else { 0 };
            let mut owner = owner(claims, PHASE_LISTENING);
            write_process(&raw mut (*owner.as_mut_ptr()).process, &subject, 0, 0);
            // If the map is full, retransmitted answers are reported without a process.
            let _ = OWNERS.insert(sk, owner.assume_init_ref(), BPF_ANY.into());
        }
        let details = Details::new(KIND_NETWORK_LISTEN, error, bpf_ktime_get_boot_ns());
        if watched { report_subject(&subject, sk, &details) } else { 0 }
    }
}

/// `accept` returns.
#[inline(never)]
unsafe fn accepted(fd: i32, result: i64) -> u32 {
    // SAFETY: as above.
    unsafe {
        if result == EAGAIN || is_interrupted(result) {
            return 0;
        }
        let error = failure(result);
        let (sk, protocol) = socket(if error == 0 { result as i32 } else { fd });
        if sk == 0 || protocol != TCP || !is_internet(sk) {
            return 0;
        }
        let subject = Subject::current();
        if !watches(&subject, true) {
            return 0;
        }
        let now = bpf_ktime_get_boot_ns();
        let mut details = Details::new(KIND_NETWORK_ACCEPT, error, now);
        if error != 0 {
            return report_subject(&subject, sk, &details);
        }
        if OWNERS.get_ptr_mut(sk).is_none() {
            let state: u8 = member(sk, &raw const (*OFFSETS).state);
            let phase = if u64::from(state) == CLOSE { PHASE_CLOSED } else { PHASE_OPEN };
            let owner = owner(0, phase);
            let _ = OWNERS.insert(sk, owner.assume_init_ref(), BPF_NOEXIST.into());
        }
        let Some(owner) = OWNERS.get_ptr_mut(sk) else {
            return report_subject(&subject, sk, &details);
        };
        write_process(&raw mut (*owner).process, &subject, 0, 0);
        let established = (*owner).established;
        if established != 0 {
            details.waited = now - established;
        }
        report(owner, sk, &details);
        // From now on the program that sees the end reports it. An earlier end is reported here.
        if fetch_add(&raw mut (*owner).claims, OWNED) & CLOSED == 0 {
            return 0;
        }
        report_end(owner, sk, member(sk, &raw const (*OFFSETS).error), bpf_ktime_get_boot_ns())
    }
}

/// The id of a cgroup that the verifier knows.
#[inline(always)]
unsafe fn cgroup_id(cgroup: Kernel) -> u64 {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let node: Kernel = load(cgroup, &raw const (*TASK).cgroup_node);
        load(node, &raw const (*TASK).node_id)
    }
}

/// The socket behind one of the current process's descriptors, with its protocol; zeroes if it is
/// not TCP or UDP.
#[inline(always)]
unsafe fn socket(fd: i32) -> (u64, u16) {
    const NOTHING: (u64, u16) = (0, 0);
    // SAFETY: the helpers check what they read.
    unsafe {
        let file = file(fd);
        if file == 0 {
            return NOTHING;
        }
        let socket: u64 = member(file, &raw const (*OFFSETS).file_private);
        // For a file that is not a socket, the private data does not point back to the file.
        let back: u64 = member(socket, &raw const (*OFFSETS).socket_file);
        if back != file {
            return NOTHING;
        }
        let sk: u64 = member(socket, &raw const (*OFFSETS).socket_sk);
        let protocol: u16 = member(sk, &raw const (*OFFSETS).protocol);
        if protocol == TCP || protocol == UDP { (sk, protocol) } else { NOTHING }
    }
}

/// Whether a socket is IPv4 or IPv6: in other families the protocol numbers differ.
#[inline(always)]
unsafe fn is_internet(sk: u64) -> bool {
    // SAFETY: the helper checks the address.
    let family: u16 = unsafe { member(sk, &raw const (*OFFSETS).family) };
    family == IPV4 || family == IPV6
}

fn is_interrupted(result: i64) -> bool {
    result == EINTR || RESTARTS.contains(&result)
}

/// The error number in a call's result; 0 for none.
fn failure(result: i64) -> u32 {
    if result < 0 { result.unsigned_abs() as u32 } else { 0 }
}
