//! Decodes the privilege tracker's records.

use whalewatch_trackers_common::FLAG_PATH_TRUNCATED;
use whalewatch_trackers_common::kinds::{
    KIND_PRIVILEGE_BPF, KIND_PRIVILEGE_CAPSET, KIND_PRIVILEGE_MODULE, KIND_PRIVILEGE_PTRACE,
    KIND_PRIVILEGE_SETNS, KIND_PRIVILEGE_SETUID, KIND_PRIVILEGE_UNSHARE,
};
use whalewatch_trackers_common::privilege::{
    FLAG_PRIVILEGE_BEFORE, FLAG_PRIVILEGE_RESOLVED, FLAG_PRIVILEGE_TARGET, GIVEN_WORDS,
    PrivilegeRecord, PrivilegeState,
};

use super::calls::{CALLS, Call, SETGROUPS};
use super::event::{Bpf, PrivilegeEvent, PrivilegeWhat, Relevant};
use super::names;
use crate::header::process;
use crate::path::{FilePath, join};
use crate::ring::{Arena, Decode, DecodeError, pieces, read};

/// Flags for namespaces, each with the name of its type and its bits in a state's namespaces.
const NAMESPACES: [(u64, &str, u16); 8] = [
    (libc::CLONE_NEWUSER as u64, "user", 1),
    (libc::CLONE_NEWNS as u64, "mnt", 1 << 1),
    (libc::CLONE_NEWNET as u64, "net", 1 << 2),
    (libc::CLONE_NEWUTS as u64, "uts", 1 << 3),
    (libc::CLONE_NEWIPC as u64, "ipc", 1 << 4),
    (libc::CLONE_NEWCGROUP as u64, "cgroup", 1 << 5),
    (libc::CLONE_NEWPID as u64, "pid", 1 << 6),
    (0x80, "time", 1 << 7 | 1 << 8),
];
/// Versions of the header of `capset` (`include/uapi/linux/capability.h`). The first has room for
/// 32 capabilities only.
const FIRST_VERSION: u32 = 0x1998_0330;
const OTHER_VERSIONS: [u32; 2] = [0x2007_1026, 0x2008_0522];

/// Decodes the privilege tracker's records.
#[derive(Clone, Copy, Debug)]
pub struct PrivilegeDecoder;

impl Decode for PrivilegeDecoder {
    type Event = PrivilegeEvent;

    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<PrivilegeEvent, DecodeError> {
        let fixed: PrivilegeRecord = read(record)?;
        let header = &fixed.process.record;
        let tail = pieces::<PrivilegeRecord, 2>(record, fixed.pieces)?;
        let call = CALLS.get(fixed.call as usize).ok_or(DecodeError)?;
        let has_states = (KIND_PRIVILEGE_SETNS..=KIND_PRIVILEGE_CAPSET).contains(&header.kind);
        let before = if !has_states {
            None
        } else if header.flags & FLAG_PRIVILEGE_BEFORE != 0 {
            Some(fixed.before)
        } else {
            // A call that seccomp refuses passes only `sys_exit`. A failed call changes nothing.
            (fixed.result < 0).then_some(fixed.after)
        };
        let mut relevant = before.map(|before| changes(&before, &fixed.after)).unwrap_or_default();
        let (kind, what) = match header.kind {
            KIND_PRIVILEGE_SETNS => {
                ("privilege.setns", namespaces(arena, call, &fixed, &mut relevant))
            }
            KIND_PRIVILEGE_UNSHARE => {
                ("privilege.unshare", namespaces(arena, call, &fixed, &mut relevant))
            }
            KIND_PRIVILEGE_SETUID => ("privilege.setuid", ids(call, &fixed, &mut relevant)),
            KIND_PRIVILEGE_CAPSET => {
                relevant.capabilities |= 0b111;
                let requested = requested_capabilities(&fixed.given);
                ("privilege.capset", PrivilegeWhat::Capabilities { requested })
            }
            KIND_PRIVILEGE_PTRACE => ("privilege.ptrace", ptrace(arena, call, &fixed)),
            KIND_PRIVILEGE_MODULE => ("privilege.module", module(arena, &fixed, tail)),
            KIND_PRIVILEGE_BPF => ("privilege.bpf", PrivilegeWhat::Bpf(bpf(arena, &fixed, tail))),
            _ => return Err(DecodeError),
        };
        let effective = |state: &PrivilegeState| state.capabilities[0];
        let [gained, lost] = before.map_or([0, 0], |before| {
            let (before, after) = (effective(&before), effective(&fixed.after));
            [after & !before, before & !after]
        });
        let has_target = header.flags & FLAG_PRIVILEGE_TARGET != 0;
        Ok(PrivilegeEvent {
            time: arena.time(header.time),
            process: process(&fixed.process),
            target: has_target.then(|| process(&fixed.target)),
            kind,
            call: call.name,
            result: fixed.result,
            before,
            after: fixed.after,
            relevant,
            gained: names::capabilities(arena, gained),
            lost: names::capabilities(arena, lost),
            what,
        })
    }
}

/// The parts of a state that differ from before.
fn changes(before: &PrivilegeState, after: &PrivilegeState) -> Relevant {
    fn bits<T: PartialEq>(before: &[T], after: &[T]) -> u16 {
        let pairs = before.iter().zip(after).enumerate();
        pairs.fold(0, |bits, (place, (before, after))| bits | u16::from(before != after) << place)
    }
    let ids = bits(&before.ids, &after.ids);
    let capabilities = bits(&before.capabilities, &after.capabilities);
    let namespaces = bits(&before.namespaces, &after.namespaces);
    let changed = Some(ids | capabilities | namespaces != 0);
    Relevant { ids, capabilities, namespaces, changed }
}

fn namespaces(
    arena: &mut Arena,
    call: &Call,
    fixed: &PrivilegeRecord,
    relevant: &mut Relevant,
) -> PrivilegeWhat {
    let [first, second, _] = fixed.arguments;
    let (flags, entered) = match call.name {
        "setns" => (second & u64::from(u32::MAX), fixed.given[0] as u32),
        "clone3" => (fixed.given[0], 0),
        // The lowest byte of the flags of `clone` is the signal to send when the child exits.
        "clone" => (first & u64::from(u32::MAX) & !0xff, 0),
        _ => (first & u64::from(u32::MAX), 0),
    };
    // The kernel names the type of the namespace that a descriptor stands for.
    let opened: &[u8] = if entered == 0 { &[] } else { bytemuck::cast_slice(&fixed.given[1..4]) };
    let opened = opened.split(|&byte| byte == 0).next().unwrap_or_default();
    let asked = |flag: u64, name: &str, places: u16| {
        flags & flag != 0 || name.as_bytes() == opened || relevant.namespaces & places != 0
    };
    let asked = NAMESPACES.map(|(flag, name, places)| asked(flag, name, places));
    let mut about = 0;
    let names = arena.build(|out| {
        for ((_, name, places), _) in NAMESPACES.iter().zip(asked).filter(|(_, asked)| *asked) {
            about |= places;
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
    });
    relevant.namespaces |= about;
    PrivilegeWhat::Namespaces { flags, names, entered }
}

fn ids(call: &Call, fixed: &PrivilegeRecord, relevant: &mut Relevant) -> PrivilegeWhat {
    let mut requested = [None; 8];
    for (&place, argument) in call.ids.iter().zip(fixed.arguments) {
        let id = argument as u32;
        requested[place] = Some(if id == u32::MAX { -1 } else { id.into() });
    }
    // All four user ids, or all four group ids.
    if let Some(place) = call.ids.first() {
        relevant.ids |= if *place < 4 { 0x0f } else { 0xf0 };
    }
    let is_groups = call.name == SETGROUPS;
    if is_groups {
        // The list of groups is not compared.
        relevant.changed = None;
    }
    let groups = is_groups.then_some(fixed.arguments[0] & u64::from(u32::MAX));
    PrivilegeWhat::Ids { requested, groups }
}

/// The effective, permitted and inheritable sets, from a header of two words and twice three words
/// of 32 bits.
fn requested_capabilities(given: &[u64; GIVEN_WORDS]) -> Option<[u64; 3]> {
    let words: [u32; 2 * GIVEN_WORDS] = bytemuck::cast(*given);
    let [version, _, effective, permitted, inheritable, e, p, i, ..] = words;
    let low = [effective, permitted, inheritable].map(u64::from);
    if version == FIRST_VERSION {
        return Some(low);
    }
    let high = [e, p, i].map(|word| u64::from(word) << 32);
    let both = [low[0] | high[0], low[1] | high[1], low[2] | high[2]];
    OTHER_VERSIONS.contains(&version).then_some(both)
}

fn ptrace(arena: &mut Arena, call: &Call, fixed: &PrivilegeRecord) -> PrivilegeWhat {
    const TRACEME: u64 = 0;
    let [first, second, _] = fixed.arguments;
    let pid = |argument: u64| i64::from(argument as i32);
    if call.name != "ptrace" {
        return PrivilegeWhat::Ptrace { request: None, pid: Some(pid(first)) };
    }
    PrivilegeWhat::Ptrace {
        request: Some(names::request(arena, first)),
        pid: (first != TRACEME).then(|| pid(second)),
    }
}

fn module(arena: &mut Arena, fixed: &PrivilegeRecord, [file, asked]: [&[u8]; 2]) -> PrivilegeWhat {
    let header = &fixed.process.record;
    let path = (header.flags & FLAG_PRIVILEGE_RESOLVED != 0).then(|| FilePath {
        bytes: join(arena, file, b""),
        resolved: true,
        truncated: header.flags & FLAG_PATH_TRUNCATED != 0,
    });
    let name = if asked.is_empty() { until_nul(&fixed.given, 0, 56) } else { asked };
    PrivilegeWhat::Module { name: arena.keep(name), path }
}

/// A text of at most `length` bytes at offset `from`, without its NUL byte.
fn until_nul(given: &[u64; GIVEN_WORDS], from: usize, length: usize) -> &[u8] {
    let bytes: &[u8] = bytemuck::cast_slice(given);
    let bytes = bytes.get(from..).unwrap_or_default();
    let bytes = bytes.get(..length).unwrap_or(bytes);
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Reads `union bpf_attr`, whose layout is part of the kernel's stable interface
/// (`include/uapi/linux/bpf.h`).
fn bpf(arena: &mut Arena, fixed: &PrivilegeRecord, [_, text]: [&[u8]; 2]) -> Bpf {
    const MAP_CREATE: u64 = 0;
    const PROG_LOAD: u64 = 5;
    const OBJ_PIN: u64 = 6;
    const OBJ_GET: u64 = 7;
    const PROG_ATTACH: u64 = 8;
    const PROG_DETACH: u64 = 9;
    const PROG_GET_FD_BY_ID: u64 = 13;
    const MAP_GET_FD_BY_ID: u64 = 14;
    const RAW_TRACEPOINT_OPEN: u64 = 17;
    const BTF_GET_FD_BY_ID: u64 = 19;
    const LINK_CREATE: u64 = 28;
    const LINK_GET_FD_BY_ID: u64 = 30;
    let given = &fixed.given;
    let words: [u32; 2 * GIVEN_WORDS] = bytemuck::cast(*given);
    let command = fixed.arguments[0] & u64::from(u32::MAX);
    let mut bpf = Bpf {
        command: names::bpf_command(arena, command),
        truncated: fixed.process.record.flags & FLAG_PATH_TRUNCATED != 0,
        ..Bpf::default()
    };
    match command {
        PROG_LOAD => {
            bpf.program_type = Some(names::bpf_program(arena, words[0]));
            bpf.name = arena.keep(until_nul(given, 48, 16));
            // 0 is the first attach type, and also the value of an unset one.
            bpf.attach_type = Some(words[17])
                .filter(|&number| number != 0)
                .map(|number| names::bpf_attachment(arena, number));
        }
        MAP_CREATE => {
            bpf.map_type = Some(names::bpf_map(arena, words[0]));
            bpf.name = arena.keep(until_nul(given, 28, 16));
        }
        PROG_ATTACH | PROG_DETACH | LINK_CREATE => {
            bpf.attach_type = Some(names::bpf_attachment(arena, words[2]));
        }
        OBJ_PIN | OBJ_GET => bpf.path = arena.keep(text),
        RAW_TRACEPOINT_OPEN => bpf.tracepoint = arena.keep(text),
        PROG_GET_FD_BY_ID | MAP_GET_FD_BY_ID | BTF_GET_FD_BY_ID | LINK_GET_FD_BY_ID => {
            bpf.id = Some(words[0]);
        }
        _ => {}
    }
    bpf
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::{Event as _, Value};
    use whalewatch_trackers_common::{ProcessHeader, RecordHeader};

    use super::*;
    use crate::testing::{decode_and_read, records};

    fn place(name: &str) -> u32 {
        CALLS.iter().position(|call| call.name == name).unwrap() as u32
    }

    /// A record of a call, changed by `with`, and with a tail.
    fn record(
        kind: u16,
        call: &str,
        with: impl FnOnce(&mut PrivilegeRecord),
        tail: [&[u8]; 2],
    ) -> Vec<u8> {
        let header = RecordHeader { kind, flags: FLAG_PRIVILEGE_BEFORE, ..RecordHeader::default() };
        let mut fixed = PrivilegeRecord {
            process: ProcessHeader { record: header, pid: 7, ..ProcessHeader::default() },
            call: place(call),
            pieces: tail.map(|piece| piece.len() as u32),
            ..PrivilegeRecord::default()
        };
        with(&mut fixed);
        [bytemuck::bytes_of(&fixed), &tail.concat()].concat()
    }

    fn decode(record: &[u8]) -> Result<PrivilegeEvent, DecodeError> {
        PrivilegeDecoder.decode(record, &mut Arena::default())
    }

    fn get<'a>(event: &'a PrivilegeEvent, name: &str) -> Value<'a> {
        let field = PrivilegeEvent::FIELDS.iter().find(|field| field.info.name == name);
        (field.unwrap_or_else(|| panic!("no field {name}")).get)(event)
    }

    fn list(bytes: &[u8]) -> Value<'_> {
        Value::Texts(whalewatch_core::Texts(bytes))
    }

    #[test]
    fn an_unshare_has_the_namespaces_of_its_flags() {
        let unshare = record(
            KIND_PRIVILEGE_UNSHARE,
            "unshare",
            |record| {
                record.arguments[0] = (libc::CLONE_NEWNET | libc::CLONE_NEWUSER) as u64;
                record.before.namespaces = [1, 2, 3, 4, 5, 6, 7, 8, 9];
                record.after.namespaces = [10, 2, 30, 4, 5, 6, 7, 8, 9];
                record.before.capabilities[0] = 1 << 21;
                record.after.capabilities[0] = 1;
            },
            [b"", b""],
        );
        let event = decode(&unshare).unwrap();
        assert_eq!((event.kind(), event.relevant.changed), ("privilege.unshare", Some(true)));
        assert_eq!(get(&event, "privilege.namespaces"), list(b"user\0net\0"));
        assert_eq!(get(&event, "privilege.before.namespaces.net"), Value::Uint(3));
        assert_eq!(get(&event, "privilege.after.namespaces.net"), Value::Uint(30));
        assert_eq!(get(&event, "privilege.after.namespaces.mnt"), Value::Null);
        assert_eq!(get(&event, "privilege.before.uid"), Value::Null);
        assert_eq!(get(&event, "privilege.gained"), list(b"CAP_CHOWN\0"));
        assert_eq!(get(&event, "privilege.lost"), list(b"CAP_SYS_ADMIN\0"));
    }

    #[test]
    fn a_setns_has_the_type_of_the_opened_namespace() {
        let setns = record(
            KIND_PRIVILEGE_SETNS,
            "setns",
            |record| {
                record.result = -1;
                record.given[0] = 4_026_531_838;
                record.given[1] = u64::from_ne_bytes(*b"uts\0\0\0\0\0");
            },
            [b"", b""],
        );
        let event = decode(&setns).unwrap();
        assert_eq!(get(&event, "privilege.namespaces"), list(b"uts\0"));
        assert_eq!(get(&event, "privilege.requested.namespace"), Value::Uint(4_026_531_838));
        assert_eq!(get(&event, "privilege.flags"), Value::Uint(0));
        assert_eq!(get(&event, "error.type"), Value::Text(b"EPERM"));
        assert_eq!(get(&event, "privilege.changed"), Value::Bool(false));
    }

    #[test]
    fn unchanged_ids_are_minus_one() {
        let call = record(
            KIND_PRIVILEGE_SETUID,
            "setresuid",
            |record| {
                record.arguments = [u64::MAX, 1000, 0xffff_ffff];
                record.after.ids[1] = 1000;
            },
            [b"", b""],
        );
        let event = decode(&call).unwrap();
        assert_eq!(get(&event, "privilege.requested.uid"), Value::Int(-1));
        assert_eq!(get(&event, "privilege.requested.euid"), Value::Int(1000));
        assert_eq!(get(&event, "privilege.requested.suid"), Value::Int(-1));
        assert_eq!(get(&event, "privilege.requested.fsuid"), Value::Null);
        assert_eq!(get(&event, "privilege.before.euid"), Value::Uint(0));
        assert_eq!(get(&event, "privilege.after.euid"), Value::Uint(1000));
        assert_eq!(get(&event, "privilege.after.fsuid"), Value::Uint(0));
        assert_eq!(get(&event, "privilege.after.gid"), Value::Null);
    }

    #[test]
    fn a_call_older_than_the_tracker_has_no_state_before() {
        let call = record(
            KIND_PRIVILEGE_SETUID,
            "setgid",
            |record| record.process.record.flags = 0,
            [b"", b""],
        );
        let event = decode(&call).unwrap();
        assert_eq!((event.relevant.changed, event.before), (None, None));
        assert_eq!(get(&event, "privilege.before.gid"), Value::Null);
        assert_eq!(get(&event, "privilege.after.gid"), Value::Uint(0));
    }

    #[test]
    fn requested_capabilities_have_either_version() {
        let mut given = [0; GIVEN_WORDS];
        given[0] = u64::from(OTHER_VERSIONS[1]);
        given[1] = 1 | 2 << 32;
        given[2] = 3 | 4 << 32;
        given[3] = 5 | 6 << 32;
        let sets = [1 | 4 << 32, 2 | 5 << 32, 3 | 6 << 32];
        assert_eq!(requested_capabilities(&given), Some(sets));
        given[0] = u64::from(FIRST_VERSION);
        assert_eq!(requested_capabilities(&given), Some([1, 2, 3]));
        given[0] = 0;
        assert_eq!(requested_capabilities(&given), None);
    }

    #[test]
    fn a_traced_process_is_the_target() {
        let attach = |flags| {
            let with = |record: &mut PrivilegeRecord| {
                record.process.record.flags = flags;
                record.arguments = [libc::PTRACE_ATTACH.into(), 99, 0];
                record.target.pid = 1234;
            };
            decode(&record(KIND_PRIVILEGE_PTRACE, "ptrace", with, [b"", b""])).unwrap()
        };
        let event = attach(FLAG_PRIVILEGE_TARGET);
        assert_eq!(get(&event, "privilege.request"), Value::Text(b"PTRACE_ATTACH"));
        assert_eq!(get(&event, "privilege.target_pid"), Value::Int(99));
        assert_eq!(get(&event, "privilege.target.pid"), Value::Uint(1234));
        assert_eq!(event.target().unwrap().pid, 1234);
        assert_eq!(get(&event, "privilege.changed"), Value::Null);
        assert!(attach(0).target().is_none());
    }

    #[test]
    fn a_module_has_the_kernels_name_or_the_requested_one() {
        let with = |record: &mut PrivilegeRecord| {
            record.process.record.flags = FLAG_PRIVILEGE_RESOLVED;
            record.given[0] = u64::from_ne_bytes(*b"dummy\0\0\0");
        };
        let loaded = record(KIND_PRIVILEGE_MODULE, "finit_module", with, [b"dummy.ko\0lib\0", b""]);
        let event = decode(&loaded).unwrap();
        assert_eq!(get(&event, "module.name"), Value::Text(b"dummy"));
        assert_eq!(get(&event, "module.path"), Value::Text(b"/lib/dummy.ko"));
        let removed = record(KIND_PRIVILEGE_MODULE, "delete_module", |_| {}, [b"", b"other"]);
        let event = decode(&removed).unwrap();
        assert_eq!(get(&event, "module.name"), Value::Text(b"other"));
        assert_eq!(get(&event, "module.path"), Value::Null);
    }

    #[test]
    fn a_bpf_call_has_its_attributes() {
        let with = |record: &mut PrivilegeRecord| {
            record.arguments[0] = 5;
            record.given[0] = 26;
            record.given[6] = u64::from_ne_bytes(*b"my_progr");
            record.given[7] = u64::from_ne_bytes(*b"am\0\0\0\0\0\0");
            record.given[8] = 24 << 32;
        };
        let event = decode(&record(KIND_PRIVILEGE_BPF, "bpf", with, [b"", b""])).unwrap();
        assert_eq!(get(&event, "bpf.command"), Value::Text(b"BPF_PROG_LOAD"));
        assert_eq!(get(&event, "bpf.program.type"), Value::Text(b"BPF_PROG_TYPE_TRACING"));
        assert_eq!(get(&event, "bpf.attach_type"), Value::Text(b"BPF_TRACE_FENTRY"));
        assert_eq!(get(&event, "bpf.name"), Value::Text(b"my_program"));
        let with = |record: &mut PrivilegeRecord| record.arguments[0] = 6;
        let event =
            decode(&record(KIND_PRIVILEGE_BPF, "bpf", with, [b"", b"/sys/fs/bpf/x"])).unwrap();
        assert_eq!(get(&event, "bpf.path"), Value::Text(b"/sys/fs/bpf/x"));
    }

    #[test]
    fn short_and_unknown_records_are_errors() {
        let whole = record(KIND_PRIVILEGE_MODULE, "finit_module", |_| {}, [b"a\0", b"x"]);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), Err(DecodeError), "{length} bytes");
        }
        assert_eq!(decode(&record(99, "bpf", |_| {}, [b"", b""])), Err(DecodeError));
        let unknown = record(KIND_PRIVILEGE_BPF, "bpf", |record| record.call = 99, [b"", b""]);
        assert_eq!(decode(&unknown), Err(DecodeError));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut record in records(110..120, 700), call in 0_u32..30) {
            if let Some(place) = record.get_mut(528..532) {
                place.copy_from_slice(&call.to_ne_bytes());
            }
            if record.len() % 2 == 0 && let Some(place) = record.get_mut(520..528) {
                place.copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
            }
            decode_and_read(PrivilegeDecoder, &record);
        }
    }
}
