//! The oom tracker's record and settings.

use core::mem::{offset_of, size_of};

use bytemuck::{Pod, Zeroable};

use crate::ProcessHeader;
use crate::layout::layouts;
use crate::offsets::{Member, offsets};

/// No limit, or a usage that is not known.
pub const NO_LIMIT: u64 = u64::MAX;

/// The record of a kill. Amounts are in pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct OomRecord {
    /// The killed process.
    pub process: ProcessHeader,
    /// The size of its address space.
    pub total: u64,
    /// Its memory: mapped files, anonymous, swapped out, shared.
    pub pages: [u64; 4],
    /// The limit of its memory cgroup, or of the nearest one above that has a limit; [`NO_LIMIT`]
    /// if none has.
    pub limit: u64,
    /// The usage of the cgroup with that limit.
    pub usage: u64,
    /// The process whose request for memory failed.
    pub trigger_pid: u32,
    /// `oom_score_adj` of the killed process.
    pub score_adjustment: i32,
    /// Command name of the process whose request for memory failed.
    pub trigger_comm: [u8; 16],
}

offsets! {
    /// Offsets for an [`OomRecord`].
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
    /// Occupies no space: it adds the record to the object's type information, for a test.
    pub record: [OomRecord; 0],
    /// 1 if the tracepoint has the killed task, 0 if it has the pid.
    pub victim_is_task: u32,
    /// The memory controller's index in `css_set.subsys`.
    pub memory_controller: u32,
    /// Offset of the first counter of resident pages in `mm_struct`.
    pub rss: u32,
    /// Bytes from one counter to the next.
    pub rss_stride: u32,
    /// Offsets of other kernel members.
    pub offsets: OomOffsets,
    /// Always 0.
    pub padding: u32,
}

impl OomSettings {
    /// The value in the object, which the loader replaces.
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
