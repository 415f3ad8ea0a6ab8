//! Decodes the process tracker's records.

use std::io::Read as _;

use whalewatch_core::{ProcessKey, SourceError};
use whalewatch_trackers_common::kinds::{
    KIND_PROCESS_EXEC, KIND_PROCESS_EXIT, KIND_PROCESS_FORK, KIND_PROCESS_SNAPSHOT,
};
use whalewatch_trackers_common::process::{ExecRecord, ExitRecord, ForkRecord};
use whalewatch_trackers_common::{
    FLAG_ARGS_TRUNCATED, FLAG_ARGS_UNREADABLE, FLAG_KERNEL_THREAD, FLAG_PATH_TRUNCATED,
    ProcessHeader, RecordHeader,
};

use super::event::{Executed, ProcessEvent, What};
use crate::header::process;
use crate::program::Attached;
use crate::ring::{Arena, Decode, DecodeError, read, tail};

/// Decodes the process tracker's records.
#[derive(Clone, Copy, Debug)]
pub struct ProcessDecoder;

impl Decode for ProcessDecoder {
    type Event = ProcessEvent;

    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<ProcessEvent, DecodeError> {
        let kind = read::<RecordHeader>(record)?.kind;
        match kind {
            KIND_PROCESS_FORK => {
                let fork: ForkRecord = read(record)?;
                let maker = ProcessKey { pid: fork.maker_pid, start_time: fork.maker_start_time };
                Ok(event(&fork.process, What::Forked { maker }, arena))
            }
            KIND_PROCESS_EXEC => exec(record, arena),
            KIND_PROCESS_EXIT => {
                let exit: ExitRecord = read(record)?;
                Ok(event(&exit.process, What::Exited { status: exit.status }, arena))
            }
            KIND_PROCESS_SNAPSHOT => Ok(event(&read(record)?, What::Existing, arena)),
            _ => Err(DecodeError),
        }
    }

    fn existing(
        &mut self,
        attached: &mut Attached,
        arena: &mut Arena,
        out: &mut Vec<ProcessEvent>,
    ) -> Result<(), SourceError> {
        let broken = |error: &dyn std::error::Error| {
            SourceError(format!("cannot list the running processes: {error}"))
        };
        let mut file = attached.snapshot().map_err(|error| broken(&error))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| broken(&error))?;
        for record in bytes.chunks_exact(size_of::<ProcessHeader>()) {
            out.extend(self.decode(record, arena));
        }
        Ok(())
    }
}

fn exec(record: &[u8], arena: &mut Arena) -> Result<ProcessEvent, DecodeError> {
    let exec: ExecRecord = read(record)?;
    let (path_length, args_length) = (exec.path_length as usize, exec.args_length as usize);
    let length = path_length.checked_add(args_length).ok_or(DecodeError)?;
    let kept = arena.keep(tail::<ExecRecord>(record, length)?);
    let flags = exec.process.record.flags;
    let executed = Executed {
        path: kept.slice(..path_length),
        args: kept.slice(path_length..),
        args_count: exec.args_count,
        args_total: exec.args_total,
        path_truncated: flags & FLAG_PATH_TRUNCATED != 0,
        args_truncated: flags & (FLAG_ARGS_TRUNCATED | FLAG_ARGS_UNREADABLE) != 0,
    };
    Ok(event(&exec.process, What::Executed(executed), arena))
}

fn event(header: &ProcessHeader, what: What, arena: &Arena) -> ProcessEvent {
    ProcessEvent {
        time: arena.time(header.record.time),
        process: process(header),
        kernel_thread: header.record.flags & FLAG_KERNEL_THREAD != 0,
        what,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::{Change, Event as _, Texts};

    use super::*;
    use crate::testing::{decode_and_read, records};

    fn header(kind: u16, flags: u16) -> ProcessHeader {
        let record = RecordHeader { kind, flags, time: 1, ..RecordHeader::default() };
        ProcessHeader { record, pid: 7, tid: 8, parent_pid: 3, ..ProcessHeader::default() }
    }

    fn decode(record: &[u8]) -> Result<ProcessEvent, DecodeError> {
        ProcessDecoder.decode(record, &mut Arena::default())
    }

    fn exec_record(path: &[u8], args: &[u8], flags: u16) -> Vec<u8> {
        let exec = ExecRecord {
            process: header(KIND_PROCESS_EXEC, flags),
            path_length: path.len() as u32,
            args_length: args.len() as u32,
            args_total: 9000,
            args_count: 2,
        };
        [bytemuck::bytes_of(&exec), path, args].concat()
    }

    fn exit(status: u32) -> ProcessEvent {
        let process = header(KIND_PROCESS_EXIT, 0);
        let exit = ExitRecord { process, status, padding: 0 };
        decode(bytemuck::bytes_of(&exit)).expect("a whole record")
    }

    #[test]
    fn an_exec_has_path_and_arguments() {
        let event = decode(&exec_record(b"/bin/x", b"x\0-v\0", 0)).expect("a whole record");
        let What::Executed(executed) = &event.what else { panic!("{event:?}") };
        assert_eq!(&executed.path[..], b"/bin/x");
        assert_eq!(Texts(&executed.args).iter().collect::<Vec<_>>(), [&b"x"[..], b"-v"]);
        assert_eq!((executed.path_truncated, executed.args_truncated), (false, false));
        assert_eq!((event.kind(), event.process.pid), ("process.exec", 7));
    }

    #[test]
    fn truncation_is_flagged() {
        let event = decode(&exec_record(b"/", b"", FLAG_PATH_TRUNCATED | FLAG_ARGS_TRUNCATED));
        let What::Executed(executed) = event.expect("a whole record").what else { panic!() };
        assert_eq!((executed.path_truncated, executed.args_truncated), (true, true));
        assert_eq!(executed.args_total, 9000);
    }

    #[test]
    fn an_exit_has_a_code_or_a_signal() {
        let of = |status| {
            let event = exit(status);
            (event.exit_code(), event.exit_signal(), event.core_dumped())
        };
        assert_eq!(of(0), (Some(0), None, None));
        assert_eq!(of(3 << 8), (Some(3), None, None));
        assert_eq!(of(9), (None, Some(9), Some(false)));
        assert_eq!(of(0x8b), (None, Some(11), Some(true)));
    }

    #[test]
    fn a_fork_has_the_process_that_called_it() {
        let process = header(KIND_PROCESS_FORK, FLAG_KERNEL_THREAD);
        let fork = ForkRecord { process, maker_start_time: 5, maker_pid: 4, padding: 0 };
        let event = decode(bytemuck::bytes_of(&fork)).expect("a whole record");
        let parent = ProcessKey { pid: 4, start_time: 5 };
        assert_eq!(event.change(), Some(Change::Forked { parent }));
        assert!(event.kernel_thread);
    }

    #[test]
    fn every_kind_is_announced() {
        let events = [
            decode(bytemuck::bytes_of(&header(KIND_PROCESS_SNAPSHOT, 0))).expect("whole"),
            decode(&exec_record(b"", b"", 0)).expect("whole"),
            exit(0),
        ];
        for event in events {
            assert!(ProcessEvent::KINDS.contains(&event.kind()), "{}", event.kind());
        }
    }

    #[test]
    fn short_and_unknown_records_are_errors() {
        let whole = exec_record(b"/bin/x", b"x\0", 0);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), Err(DecodeError), "{length} bytes");
        }
        assert_eq!(decode(bytemuck::bytes_of(&header(99, 0))), Err(DecodeError));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(record in records(0..6, 300)) {
            decode_and_read(ProcessDecoder, &record);
        }
    }
}
