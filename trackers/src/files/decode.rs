//! Decodes the files tracker's records, and turns its sums into events.

use std::collections::{HashMap, VecDeque};

use aya::maps::{HashMap as KernelMap, MapData};
use bytes::Bytes;
use whalewatch_core::{Process, SourceError, Timestamp};
use whalewatch_trackers_common::files::{
    FLAG_FILE_DELETED, FLAG_FILE_RESOLVED, FLAG_SECOND_TRUNCATED, FileRecord, IoKey, IoNote,
};
use whalewatch_trackers_common::kinds::{
    KIND_FILE_DELETE, KIND_FILE_IO_NOTE, KIND_FILE_LINK, KIND_FILE_MODE, KIND_FILE_OPEN,
    KIND_FILE_OWNER, KIND_FILE_RENAME, KIND_FILE_SYMLINK,
};
use whalewatch_trackers_common::{FLAG_PATH_TRUNCATED, RecordHeader};

use super::event::{FileEvent, FileWhat, Octal};
use crate::LoadError;
use crate::header::process;
use crate::path::{FilePath, join};
use crate::program::Attached;
use crate::ring::{Arena, Decode, DecodeError, pieces, read, tail};
use crate::sums::Epochs;

/// `IoKey` and `IoSums` as arrays of words, which the map's type accepts.
type Key = [u64; 3];
type Sums = [u64; 4];

/// Decodes the files tracker's records.
#[derive(Default)]
pub struct FilesDecoder {
    io: Option<Io>,
}

/// The sums of bytes read and written.
struct Io {
    epochs: Epochs,
    tables: [KernelMap<MapData, Key, Sums>; 2],
    /// The process and file of each key, by table.
    notes: [HashMap<Key, (Process, FilePath)>; 2],
}

impl FilesDecoder {
    /// Takes the tables of sums from the object.
    pub(super) fn with_io(attached: &mut Attached) -> Result<Self, LoadError> {
        let epochs = Epochs::new(attached)?;
        let tables = [attached.map("IO_0")?, attached.map("IO_1")?];
        Ok(Self { io: Some(Io { epochs, tables, notes: [HashMap::new(), HashMap::new()] }) })
    }
}

impl Decode for FilesDecoder {
    type Event = FileEvent;

    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<FileEvent, DecodeError> {
        let fixed: FileRecord = read(record)?;
        let header = &fixed.process.record;
        let [names, asked, second_names, second_asked] =
            pieces::<FileRecord, 4>(record, fixed.pieces)?;
        let path = FilePath {
            bytes: join(arena, names, asked),
            resolved: header.flags & FLAG_FILE_RESOLVED != 0,
            truncated: header.flags & FLAG_PATH_TRUNCATED != 0,
        };
        let second = |arena: &mut Arena| FilePath {
            bytes: join(arena, second_names, second_asked),
            resolved: false,
            truncated: header.flags & FLAG_SECOND_TRUNCATED != 0,
        };
        let what = match header.kind {
            KIND_FILE_OPEN => FileWhat::Opened { flags: fixed.flags, mode: Octal::new(fixed.mode) },
            KIND_FILE_DELETE => {
                FileWhat::Deleted { directory: fixed.flags.cast_signed() & libc::AT_REMOVEDIR != 0 }
            }
            KIND_FILE_RENAME => FileWhat::Renamed { to: second(arena) },
            KIND_FILE_LINK => FileWhat::Linked { to: second(arena), symbolic: false },
            KIND_FILE_SYMLINK => FileWhat::Linked { to: second(arena), symbolic: true },
            KIND_FILE_MODE => FileWhat::Mode { mode: Octal::new(fixed.mode) },
            KIND_FILE_OWNER => FileWhat::Owner { user: id(fixed.mode), group: id(fixed.group) },
            _ => return Err(DecodeError),
        };
        // The content of a symbolic link is not relative to any directory.
        let path = match what {
            FileWhat::Linked { symbolic: true, .. } => {
                FilePath { bytes: arena.keep(asked), ..path }
            }
            _ => path,
        };
        Ok(FileEvent {
            time: arena.time(header.time),
            process: process(&fixed.process),
            path,
            inode: fixed.inode,
            device: fixed.device,
            deleted: header.flags & FLAG_FILE_DELETED != 0,
            result: fixed.result,
            what,
        })
    }

    fn note(&mut self, record: &[u8]) -> bool {
        if !read::<RecordHeader>(record).is_ok_and(|header| header.kind == KIND_FILE_IO_NOTE) {
            return false;
        }
        let (Some(io), Ok(note)) = (&mut self.io, read::<IoNote>(record)) else { return true };
        let Ok(names) = tail::<IoNote>(record, note.names as usize) else { return true };
        let path = FilePath {
            bytes: Bytes::copy_from_slice(&join(&mut Arena::default(), names, b"")),
            resolved: true,
            truncated: note.process.record.flags & FLAG_PATH_TRUNCATED != 0,
        };
        let notes = &mut io.notes[(note.table & 1) as usize];
        notes.insert(bytemuck::cast(note.key), (process(&note.process), path));
        true
    }

    fn epochs(&mut self) -> Option<&mut Epochs> {
        self.io.as_mut().map(|io| &mut io.epochs)
    }

    fn report(
        &mut self,
        table: usize,
        _: &mut Arena,
        out: &mut VecDeque<FileEvent>,
    ) -> Result<(), SourceError> {
        let Some(io) = &mut self.io else { return Ok(()) };
        let broken =
            |error| SourceError(format!("cannot read the sums of bytes read and written: {error}"));
        let map = &mut io.tables[table];
        let sums: Vec<_> = map.iter().collect::<Result<_, _>>().map_err(broken)?;
        let notes = std::mem::take(&mut io.notes[table]);
        let time = Timestamp::now();
        for (words, [read_bytes, reads, written_bytes, writes]) in sums {
            map.remove(&words).map_err(broken)?;
            let key: IoKey = bytemuck::cast(words);
            let known = notes.get(&words).cloned();
            // If the note was lost, only the key is known.
            let (process, path) = known.unwrap_or_else(|| {
                let process =
                    Process { pid: key.pid, start_time: key.start_time, ..Process::default() };
                (process, FilePath { truncated: true, resolved: true, ..FilePath::default() })
            });
            let sums = whalewatch_trackers_common::files::IoSums {
                read_bytes,
                reads,
                written_bytes,
                writes,
            };
            out.push_back(FileEvent {
                time,
                process,
                path,
                inode: key.inode,
                device: key.device,
                deleted: false,
                result: 0,
                what: FileWhat::Io(sums),
            });
        }
        Ok(())
    }
}

/// A user or group id; all bits set mean -1, no change.
fn id(id: u32) -> i64 {
    if id == u32::MAX { -1 } else { id.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::Event as _;
    use whalewatch_trackers_common::ProcessHeader;

    use crate::errno;

    use super::*;
    use crate::testing::{decode_and_read, records};

    fn record(kind: u16, flags: u16, result: i64, pieces: [&[u8]; 4]) -> Vec<u8> {
        let record = RecordHeader { kind, flags, time: 1, ..RecordHeader::default() };
        let fixed = FileRecord {
            process: ProcessHeader { record, pid: 7, ..ProcessHeader::default() },
            result,
            mode: u32::MAX,
            pieces: pieces.map(|piece| piece.len() as u32),
            ..FileRecord::default()
        };
        [bytemuck::bytes_of(&fixed), &pieces.concat()].concat()
    }

    fn decode(record: &[u8]) -> Result<FileEvent, DecodeError> {
        FilesDecoder::default().decode(record, &mut Arena::default())
    }

    #[test]
    fn an_opened_file_has_the_kernels_path() {
        let open = record(KIND_FILE_OPEN, FLAG_FILE_RESOLVED, 3, [b"passwd\0etc\0", b"", b"", b""]);
        let event = decode(&open).unwrap();
        assert_eq!((&event.path.bytes[..], event.path.resolved), (&b"/etc/passwd"[..], true));
        assert_eq!((event.kind(), event.access()), ("file.open", Some("read")));
    }

    #[test]
    fn a_failed_open_has_the_path_that_the_process_gave() {
        let open = record(KIND_FILE_OPEN, 0, -2, [b"etc\0", b"nothing", b"", b""]);
        let event = decode(&open).unwrap();
        assert_eq!((&event.path.bytes[..], event.path.resolved), (&b"/etc/nothing"[..], false));
        assert_eq!(errno::name(errno::of(event.result).unwrap()), Some("ENOENT"));
    }

    #[test]
    fn a_rename_has_two_paths_and_a_symbolic_link_its_content() {
        let pieces: [&[u8]; 4] = [b"a\0", b"x", b"b\0", b"y"];
        let event = decode(&record(KIND_FILE_RENAME, FLAG_SECOND_TRUNCATED, 0, pieces)).unwrap();
        let FileWhat::Renamed { to } = &event.what else { panic!("{event:?}") };
        assert_eq!((&event.path.bytes[..], &to.bytes[..]), (&b"/a/x"[..], &b"/b/y"[..]));
        assert!(to.truncated && !event.path.truncated);
        let event = decode(&record(KIND_FILE_SYMLINK, 0, 0, pieces)).unwrap();
        assert_eq!((event.kind(), &event.path.bytes[..]), ("file.link", &b"x"[..]));
    }

    #[test]
    fn an_unchanged_owner_is_minus_one() {
        let event = decode(&record(KIND_FILE_OWNER, 0, 0, [b""; 4])).unwrap();
        assert_eq!(event.what, FileWhat::Owner { user: -1, group: 0 });
    }

    #[test]
    fn short_and_unknown_records_are_errors() {
        let whole = record(KIND_FILE_RENAME, 0, 0, [b"a\0", b"x", b"b\0", b"y"]);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), Err(DecodeError), "{length} bytes");
        }
        assert_eq!(decode(&record(99, 0, 0, [b""; 4])), Err(DecodeError));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(record in records(30..42, 300)) {
            decode_and_read(FilesDecoder::default(), &record);
        }
    }
}
