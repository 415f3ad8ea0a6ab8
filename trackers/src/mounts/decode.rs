//! Decodes the mounts tracker's records.

use whalewatch_trackers_common::kinds::{
    KIND_MOUNT, KIND_MOVE_MOUNT, KIND_PIVOT_ROOT, KIND_UMOUNT,
};
use whalewatch_trackers_common::mounts::{
    FLAG_SOURCE_TRUNCATED, FLAG_TARGET_TRUNCATED, MountRecord,
};

use super::event::{MountEvent, Operation};
use crate::header::process;
use crate::path::{FilePath, join};
use crate::ring::{Arena, Decode, DecodeError, pieces, read};

/// Decodes the mounts tracker's records.
#[derive(Clone, Copy, Debug)]
pub struct MountsDecoder;

impl Decode for MountsDecoder {
    type Event = MountEvent;

    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<MountEvent, DecodeError> {
        let fixed: MountRecord = read(record)?;
        let header = &fixed.process.record;
        let [source_names, source, target_names, target, fs_type] =
            pieces::<MountRecord, 5>(record, fixed.pieces)?;
        let operation = match header.kind {
            KIND_MOUNT => Operation::of_mount(fixed.flags),
            KIND_UMOUNT => Operation::Unmount,
            KIND_MOVE_MOUNT if source.is_empty() => Operation::Attach,
            KIND_MOVE_MOUNT => Operation::Move,
            KIND_PIVOT_ROOT => Operation::PivotRoot,
            _ => return Err(DecodeError),
        };
        // `tmpfs` or a device's name is not relative to any directory.
        let source = if operation.has_source_path() && !source.is_empty() {
            join(arena, source_names, source)
        } else {
            arena.keep(source)
        };
        let known =
            |bytes, flag| FilePath { bytes, resolved: false, truncated: header.flags & flag != 0 };
        Ok(MountEvent {
            time: arena.time(header.time),
            process: process(&fixed.process),
            operation,
            source: known(source, FLAG_SOURCE_TRUNCATED),
            target: known(join(arena, target_names, target), FLAG_TARGET_TRUNCATED),
            fs_type: arena.keep(fs_type),
            flags: fixed.flags,
            result: fixed.result,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::Event as _;
    use whalewatch_trackers_common::{ProcessHeader, RecordHeader};

    use super::*;
    use crate::testing::{decode_and_read, records};

    fn record(kind: u16, flags: u64, pieces: [&[u8]; 5]) -> Vec<u8> {
        let record = RecordHeader { kind, time: 1, ..RecordHeader::default() };
        let fixed = MountRecord {
            process: ProcessHeader { record, pid: 7, ..ProcessHeader::default() },
            flags,
            pieces: pieces.map(|piece| piece.len() as u32),
            ..MountRecord::default()
        };
        [bytemuck::bytes_of(&fixed), &pieces.concat()].concat()
    }

    fn decode(record: &[u8]) -> Result<MountEvent, DecodeError> {
        MountsDecoder.decode(record, &mut Arena::default())
    }

    #[test]
    fn a_bound_directory_is_a_path_but_a_device_is_not() {
        let pieces: [&[u8]; 5] = [b"home\0", b"data", b"home\0", b"mnt", b"tmpfs"];
        let event = decode(&record(KIND_MOUNT, 0, pieces)).unwrap();
        assert_eq!(
            (&event.source.bytes[..], &event.target.bytes[..]),
            (&b"data"[..], &b"/home/mnt"[..])
        );
        assert_eq!((event.kind(), &event.fs_type[..]), ("mount.mount", &b"tmpfs"[..]));
        let event = decode(&record(KIND_MOUNT, libc::MS_BIND, pieces)).unwrap();
        assert_eq!(
            (&event.source.bytes[..], event.operation),
            (&b"/home/data"[..], Operation::Bind)
        );
    }

    #[test]
    fn detached_mounts_are_attached_and_others_moved() {
        let attached =
            decode(&record(KIND_MOVE_MOUNT, 4, [b"", b"", b"", b"/mnt", b"tmpfs"])).unwrap();
        assert_eq!((attached.operation, attached.kind()), (Operation::Attach, "mount.mount"));
        let moved = decode(&record(KIND_MOVE_MOUNT, 0, [b"", b"/a", b"", b"/b", b""])).unwrap();
        assert_eq!((moved.operation, moved.kind()), (Operation::Move, "mount.move"));
        let gone = decode(&record(KIND_UMOUNT, 2, [b"", b"", b"", b"/b", b""])).unwrap();
        assert_eq!((gone.kind(), gone.flags), ("mount.umount", 2));
    }

    #[test]
    fn short_and_unknown_records_are_errors() {
        let whole = record(KIND_MOUNT, 0, [b"a\0", b"x", b"b\0", b"y", b"z"]);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), Err(DecodeError), "{length} bytes");
        }
        assert_eq!(decode(&record(99, 0, [b""; 5])), Err(DecodeError));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(record in records(103..109, 300)) {
            decode_and_read(MountsDecoder, &record);
        }
    }
}
