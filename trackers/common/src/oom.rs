//! The oom tracker's record and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::ProcessHeader;
use crate::layout::layouts;
use crate::offsets::{Member, offsets};

/// Stands for no limit, and for a usage that is not known.
pub const NO_LIMIT: u64 = u64::MAX;

/// The record of a kill. Amounts are in pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct OomRecord {
    /// The process that is killed.
    pub process: ProcessHeader,
    /// All that it has mapped.
    pub total: u64,
    /// What it has in memory: of files, of its own, swapped out, shared.
    pub pages: [u64; 4],
    /// The limit of its memory cgroup, or of the next one above that has one; [`NO_LIMIT`] for
    /// none.
    pub limit: u64,
    /// What is used of that.
    pub usage: u64,
    /// The process that needed memory when there was none.
    pub trigger_pid: u32,
    /// `oom_score_adj` of the process that is killed.
    pub score_adjustment: i32,
    /// Command name of the process that needed memory.
    pub trigger_comm: [u8; 16],
}

offsets! {
    /// Where the kernel keeps what an [`OomRecord`] needs.
    OomOffsets {
        mm: "task_struct"."mm",
        mm_total: "mm_struct"."total_vm",
        signal_score_adjustment: "signal_struct"."oom_score_adj",
        css_set_subsystems: "css_set"."subsys",
        memcg_css: "mem_cgroup"."css",
        memcg_memory: "mem_cgroup"."memory",
        counter_usage: "page_counter"."usage",
        counter_max: "page_counter"."max",
        counter_parent: "page_counter"."parent",
    }
}

/// The read-only globals of the oom tracker's programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct OomSettings {
    /// Takes no room: it brings the record into the object's type information, where a test
    /// compares it.
    pub record: [OomRecord; 0],
    /// 1 where the tracepoint gives the task that is killed, 0 where it gives its pid.
    pub victim_is_task: u32,
    /// The memory controller's place among a process's cgroups.
    pub memory_controller: u32,
    /// The first of the counters of pages in memory, in `mm_struct`.
    pub rss: u32,
    /// Bytes from one of them to the next.
    pub rss_stride: u32,
    /// Where the kernel keeps the rest.
    pub offsets: OomOffsets,
    /// Always 0.
    pub padding: u32,
}

impl OomSettings {
    /// What stands in the object before the loader sets it.
    pub const UNSET: Self = Self {
        record: [],
        victim_is_task: 0,
        memory_controller: 0,
        rss: 0,
        rss_stride: 0,
        offsets: OomOffsets::UNSET,
        padding: 0,
    };
}

layouts! {
    OomRecord {
        process, total, pages, limit, usage, trigger_pid, score_adjustment, trigger_comm
    }
    OomSettings { victim_is_task, memory_controller, rss, rss_stride, offsets }
    OomOffsets { mm, counter_parent }
}

const _: () = {
    assert!(size_of::<OomRecord>() == 176);
    assert!(offset_of!(OomRecord, total) == 96);
    assert!(offset_of!(OomRecord, trigger_comm) == 160);
};
