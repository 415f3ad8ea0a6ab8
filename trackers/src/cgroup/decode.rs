//! Decodes the cgroup tracker's records.

use whalewatch_core::ProcessKey;
use whalewatch_trackers_common::cgroup::CgroupRecord;
use whalewatch_trackers_common::kinds::{
    KIND_CGROUP_ATTACH, KIND_CGROUP_MKDIR, KIND_CGROUP_RENAME, KIND_CGROUP_RMDIR,
};
use whalewatch_trackers_common::{FLAG_PATH_TRUNCATED, FLAG_WHOLE_PROCESS};

use super::event::{CgroupEvent, CgroupWhat};
use crate::ring::{Arena, Decode, DecodeError, read, tail};

/// Decodes the cgroup tracker's records.
#[derive(Clone, Copy, Debug)]
pub struct CgroupDecoder;

impl Decode for CgroupDecoder {
    type Event = CgroupEvent;

    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<CgroupEvent, DecodeError> {
        let fixed: CgroupRecord = read(record)?;
        let flags = fixed.record.flags;
        let what = match fixed.record.kind {
            KIND_CGROUP_MKDIR => CgroupWhat::Made,
            KIND_CGROUP_RMDIR => CgroupWhat::Removed,
            KIND_CGROUP_RENAME => CgroupWhat::Renamed,
            KIND_CGROUP_ATTACH => CgroupWhat::Attached {
                process: ProcessKey { pid: fixed.pid, start_time: fixed.start_time },
                tid: fixed.tid,
                whole: flags & FLAG_WHOLE_PROCESS != 0,
            },
            _ => return Err(DecodeError),
        };
        let path = tail::<CgroupRecord>(record, fixed.path_length as usize)?;
        Ok(CgroupEvent {
            time: arena.time(fixed.record.time),
            id: fixed.cgroup_id,
            path: arena.keep(path),
            path_truncated: flags & FLAG_PATH_TRUNCATED != 0,
            hierarchy: fixed.hierarchy,
            level: fixed.level,
            what,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::{Change, Event as _};
    use whalewatch_trackers_common::RecordHeader;

    use super::*;
    use crate::testing::{decode_and_read, records};

    fn record(kind: u16, flags: u16, hierarchy: u32, tid: u32) -> Vec<u8> {
        let path = b"/docker/x";
        let fixed = CgroupRecord {
            record: RecordHeader { kind, flags, ..RecordHeader::default() },
            cgroup_id: 82,
            start_time: 5,
            hierarchy,
            pid: 7,
            tid,
            path_length: path.len() as u32,
            ..CgroupRecord::default()
        };
        [bytemuck::bytes_of(&fixed), path].concat()
    }

    fn decode(record: &[u8]) -> Result<CgroupEvent, DecodeError> {
        CgroupDecoder.decode(record, &mut Arena::default())
    }

    #[test]
    fn every_kind_is_decoded_and_announced() {
        for (kind, name) in [
            (KIND_CGROUP_MKDIR, "cgroup.mkdir"),
            (KIND_CGROUP_RMDIR, "cgroup.rmdir"),
            (KIND_CGROUP_RENAME, "cgroup.rename"),
            (KIND_CGROUP_ATTACH, "cgroup.attach"),
        ] {
            let event = decode(&record(kind, 0, 0, 7)).expect("a whole record");
            assert_eq!(event.kind(), name);
            assert!(CgroupEvent::KINDS.contains(&name));
            assert_eq!((&event.path[..], event.id), (&b"/docker/x"[..], 82));
        }
    }

    #[test]
    fn a_process_moves_with_its_first_thread() {
        let process = ProcessKey { pid: 7, start_time: 5 };
        let moved = Some(Change::Moved { process, to: 82 });
        for (flags, hierarchy, tid, want) in [
            (FLAG_WHOLE_PROCESS, 0, 7, moved),
            (FLAG_WHOLE_PROCESS, 0, 9, moved),
            (0, 0, 7, moved),
            (0, 0, 9, None),
            (FLAG_WHOLE_PROCESS, 4, 7, None),
        ] {
            let event = decode(&record(KIND_CGROUP_ATTACH, flags, hierarchy, tid));
            let event = event.expect("a whole record");
            assert_eq!(event.change(), want, "flags {flags} hierarchy {hierarchy} tid {tid}");
        }
    }

    #[test]
    fn short_and_unknown_records_are_errors() {
        let whole = record(KIND_CGROUP_MKDIR, 0, 0, 0);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), Err(DecodeError), "{length} bytes");
        }
        assert_eq!(decode(&record(3, 0, 0, 0)), Err(DecodeError));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(record in records(15..21, 200)) {
            decode_and_read(CgroupDecoder, &record);
        }
    }
}
