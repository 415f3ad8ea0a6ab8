//! The oom tracker: processes that the kernel kills because memory ran out, in their cgroup or on
//! the whole host.

mod event;

use whalewatch_trackers_common::kinds::KIND_OOM_KILL;
use whalewatch_trackers_common::oom::{NO_LIMIT, OomOffsets, OomRecord, OomSettings};

pub use event::{Memory, OomEvent};

use crate::btf::BtfError;
use crate::header::process;
use crate::options::tracker_options;
use crate::program::Attached;
use crate::ring::{Arena, Decode, DecodeError, read};
use crate::{Kernel, KernelTracker, LoadError, Program, Uses, object};

/// The kernel programs of the oom tracker.
const PROGRAM: Program = Program {
    object: object!("oom"),
    tracepoints: &[("oom_kill", "mark_victim"), ("oom_signal", "signal_generate")],
    iterator: None,
    members: &[OomOffsets::MEMBERS],
    uses: Uses::NOTHING,
};

tracker_options! {
    /// Options of the oom tracker.
    OomOptions { ring_kib: 64, results: false, }
}

/// Watches the kernel's out-of-memory kills.
#[derive(Clone, Copy, Debug)]
pub struct OomTracker;

impl KernelTracker for OomTracker {
    const ABOUT: &'static str = "processes that the kernel kills because memory ran out";
    const COST: &'static str =
        "nothing, except when the kernel kills a process because memory ran out";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = OomOptions;
    type Settings = OomSettings;
    type Decoder = OomDecoder;

    fn settings(_: &OomOptions, kernel: &Kernel) -> Result<OomSettings, LoadError> {
        let btf = kernel.btf();
        // Since Linux 6.9 the tracepoint has the task and a user id; before, only a pid.
        let arguments = btf.tracepoint("mark_victim")?.map_or(0, |found| found.arguments);
        let missing =
            || BtfError::MissingMember { name: String::from("css_set.subsys[memory_cgrp_id]") };
        let memory_controller =
            btf.enumerator("cgroup_subsys_id", "memory_cgrp_id").ok_or_else(missing)?;
        // Since Linux 6.2 an array of per-CPU counters; before, an array of numbers.
        let (rss, rss_stride) = match btf.offset("mm_struct", "rss_stat.count") {
            Ok(offset) => (offset, 8),
            Err(_) => {
                let first = btf.offset("mm_struct", "rss_stat")?;
                (first + btf.offset("percpu_counter", "count")?, btf.size("percpu_counter")?)
            }
        };
        Ok(OomSettings {
            victim_is_task: (arguments > 1).into(),
            memory_controller,
            rss,
            rss_stride,
            offsets: kernel.offsets(OomOffsets::MEMBERS)?,
            ..OomSettings::UNSET
        })
    }

    fn decoder(_: &OomOptions, _: &mut Attached) -> Result<OomDecoder, LoadError> {
        Ok(OomDecoder::new())
    }
}

/// Decodes the oom tracker's records.
#[derive(Clone, Copy, Debug)]
pub struct OomDecoder {
    page: u64,
}

impl OomDecoder {
    fn new() -> Self {
        Self { page: rustix::param::page_size() as u64 }
    }
}

impl Decode for OomDecoder {
    type Event = OomEvent;

    fn decode(&mut self, record: &[u8], arena: &mut Arena) -> Result<OomEvent, DecodeError> {
        let record: OomRecord = read(record)?;
        if record.process.record.kind != KIND_OOM_KILL {
            return Err(DecodeError);
        }
        let bytes = |pages: u64| pages.saturating_mul(self.page);
        let known = |pages: u64| (pages != NO_LIMIT).then(|| bytes(pages));
        let [file, anonymous, swap, shared] = record.pages.map(bytes);
        Ok(OomEvent {
            time: arena.time(record.process.record.time),
            victim: process(&record.process),
            total: bytes(record.total),
            memory: Memory { anonymous, file, shared, swap },
            limit: known(record.limit),
            usage: known(record.usage),
            score_adjustment: record.score_adjustment,
            trigger_pid: record.trigger_pid,
            trigger_comm: record.trigger_comm,
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

    fn decode(record: &[u8]) -> Result<OomEvent, DecodeError> {
        OomDecoder { page: 4096 }.decode(record, &mut Arena::default())
    }

    #[test]
    fn pages_become_bytes_and_no_limit_becomes_none() {
        let header = RecordHeader { kind: KIND_OOM_KILL, ..RecordHeader::default() };
        let process = ProcessHeader { record: header, pid: 7, ..ProcessHeader::default() };
        let mut record =
            OomRecord { process, pages: [1, 2, 3, 4], limit: 8, ..OomRecord::default() };
        record.usage = NO_LIMIT;
        let event = decode(bytemuck::bytes_of(&record)).unwrap();
        let memory = Memory { file: 4096, anonymous: 8192, swap: 12_288, shared: 16_384 };
        assert_eq!((event.memory, event.limit, event.usage), (memory, Some(32_768), None));
        assert_eq!((event.kind(), event.victim.pid), ("oom.kill", 7));
        assert_eq!(decode(&bytemuck::bytes_of(&record)[..175]), Err(DecodeError));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(record in records(99..102, 300)) {
            decode_and_read(OomDecoder { page: 4096 }, &record);
        }
    }
}
