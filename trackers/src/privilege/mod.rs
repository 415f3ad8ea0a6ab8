//! The privilege tracker: what changes what a process may do and where it is, and what reaches into
//! other processes and the kernel: the calls that a way out of a container goes through.
//!
//! Each call is told when it returns, with what was before and what is then. A `clone` with flags
//! for new namespaces is a `privilege.unshare`: what is then is the new process's, which is the
//! event's target. An `execve` that changed ids or capabilities is a `privilege.setuid`.
//!
//! Not seen: calls of 32-bit programs, `prctl` (which mostly takes away, or gives what a process
//! could give itself), and what `/proc/PID/mem` is written with.

mod calls;
mod decode;
mod event;
mod fields;
mod names;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::Problem;
use whalewatch_trackers_common::privilege::{OptionalOffsets, PrivilegeOffsets, PrivilegeSettings};

pub use decode::PrivilegeDecoder;
pub use event::{Bpf, PrivilegeEvent, PrivilegeWhat, Told};

use crate::options::tracker_options;
use crate::program::Attached;
use crate::{Kernel, KernelTracker, LoadError, Program, Uses, object};

/// The kernel programs of the privilege tracker.
const PROGRAM: Program = Program {
    object: object!("privilege"),
    tracepoints: &[
        ("privilege_exit", "sys_exit"),
        ("privilege_fork", "sched_process_fork"),
        ("privilege_enter", "sys_enter"),
    ],
    iterator: None,
    members: &[PrivilegeOffsets::MEMBERS],
    uses: Uses { paths: true, syscalls: true },
};

/// The same where the kernel can load modules: then it tells their names.
const PROGRAM_WITH_MODULES: Program = Program {
    tracepoints: &[
        ("privilege_exit", "sys_exit"),
        ("privilege_fork", "sched_process_fork"),
        ("privilege_module", MODULE_LOAD),
        ("privilege_enter", "sys_enter"),
    ],
    ..PROGRAM
};

const MODULE_LOAD: &str = "module_load";

/// Which requests of `ptrace` are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PtraceOption {
    /// None.
    None,
    /// Those that begin to trace: `PTRACE_ATTACH`, `PTRACE_SEIZE`, `PTRACE_TRACEME`.
    Attach,
    /// Those, and those that write to the other's memory and registers; `process_vm_writev`, too.
    #[default]
    Control,
    /// All, and `process_vm_readv`. A debugger makes thousands in a second.
    All,
}

/// Which commands of `bpf` are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BpfOption {
    /// None.
    None,
    /// Those that load, make, attach, pin and get: not those that read and write the elements of
    /// maps, and that list what there is.
    #[default]
    Control,
    /// All.
    All,
}

tracker_options! {
    /// Options of the privilege tracker.
    PrivilegeOptions { ring_kib: 1024, results: true,
        /// Report namespaces that are entered and made: `setns`, `unshare`, `clone`.
        namespaces: bool = true,
        /// Report ids and capabilities that are changed: `setuid` and its family, `capset`, an
        /// `execve` that changes them.
        credentials: bool = true,
        /// Report kernel modules that are loaded and unloaded.
        modules: bool = true,
        /// Which requests of `ptrace` to report: "none", "attach", "control" or "all".
        ptrace: PtraceOption = PtraceOption::Control,
        /// Which commands of `bpf` to report: "none", "control" or "all".
        bpf: BpfOption = BpfOption::Control,
    }
}

/// Watches what changes what processes may do.
#[derive(Clone, Copy, Debug)]
pub struct PrivilegeTracker;

impl KernelTracker for PrivilegeTracker {
    const ABOUT: &'static str = "namespaces, ids, capabilities, ptrace, kernel modules and BPF: what a break-out passes through";
    const COST: &'static str = "about 50 ns at the beginning and at the end of every system call";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = PrivilegeOptions;
    type Settings = PrivilegeSettings;
    type Decoder = PrivilegeDecoder;

    fn settings(
        options: &PrivilegeOptions,
        kernel: &Kernel,
    ) -> Result<PrivilegeSettings, LoadError> {
        let (actions, calls) = crate::calls::table(calls::watched(options), calls::NONE);
        Ok(PrivilegeSettings {
            ptrace: options.ptrace.bits(),
            bpf: options.bpf.bits(),
            actions,
            calls,
            offsets: kernel.offsets(PrivilegeOffsets::MEMBERS)?,
            optional: optional(kernel),
            ..PrivilegeSettings::UNSET
        })
    }

    fn decoder(_: &PrivilegeOptions, _: &mut Attached) -> Result<PrivilegeDecoder, LoadError> {
        Ok(PrivilegeDecoder)
    }

    fn check(options: &PrivilegeOptions) -> Vec<Problem> {
        let mut problems = Vec::new();
        if calls::watched(options).next().is_none() {
            let hint = "set namespaces, credentials, modules, ptrace or bpf";
            problems.push(Problem::new("", "nothing is left to be watched").hint(hint));
        }
        problems
    }

    fn program(options: &PrivilegeOptions, kernel: &Kernel) -> Result<&'static Program, LoadError> {
        let has_modules = options.modules
            && optional(kernel).module_name != 0
            && kernel.btf().tracepoint(MODULE_LOAD)?.is_some();
        Ok(if has_modules { &PROGRAM_WITH_MODULES } else { &PROGRAM })
    }
}

/// What this kernel has of what some lack.
fn optional(kernel: &Kernel) -> OptionalOffsets {
    let name = OptionalOffsets::MODULE_NAME;
    let module_name = kernel.btf().offset(name.of, name.path).unwrap_or_default();
    let unset = OptionalOffsets { module_name, ..OptionalOffsets::UNSET };
    match kernel.offsets::<[u32; 3]>(&OptionalOffsets::TIME) {
        Ok([time_ns, time_children, time_inum]) => {
            OptionalOffsets { has_time: 1, time_ns, time_children, time_inum, ..unset }
        }
        Err(_) => unset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_alone_can_be_watched() {
        let options = PrivilegeOptions {
            namespaces: false,
            credentials: false,
            modules: false,
            ptrace: PtraceOption::Attach,
            bpf: BpfOption::None,
            ..PrivilegeOptions::default()
        };
        assert_eq!(PrivilegeTracker::check(&options), []);
    }

    #[test]
    fn nothing_to_watch_is_a_mistake() {
        let options = PrivilegeOptions {
            namespaces: false,
            credentials: false,
            modules: false,
            ptrace: PtraceOption::None,
            bpf: BpfOption::None,
            ..PrivilegeOptions::default()
        };
        assert_eq!(PrivilegeTracker::check(&options)[0].message, "nothing is left to be watched");
    }
}
