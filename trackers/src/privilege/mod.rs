//! The privilege tracker: calls that change the ids, capabilities or namespaces of a process, or
//! that access other processes or the kernel. A process that breaks out of a container uses some of
//! them.
//!
//! Each call is reported when it returns, with the state before and after. A `clone` with flags for
//! new namespaces is a `privilege.unshare`, whose state after is that of the new process, the
//! event's target. An `execve` that changed ids or capabilities is a `privilege.setuid`.
//!
//! Not reported: calls of 32-bit programs, `prctl` (it mostly drops privileges, or adds ones that
//! the process could acquire anyway), and writes to `/proc/PID/mem`.

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
pub use event::{Bpf, PrivilegeEvent, PrivilegeWhat, Relevant};

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

/// The same for kernels that can load modules, with a program that reads their names.
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

/// Which requests of `ptrace` to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PtraceOption {
    /// None.
    None,
    /// Requests that start tracing: `PTRACE_ATTACH`, `PTRACE_SEIZE`, `PTRACE_TRACEME`.
    Attach,
    /// Also requests that write memory or registers, and `process_vm_writev`.
    #[default]
    Control,
    /// All requests, and `process_vm_readv`. A debugger makes thousands per second.
    All,
}

/// Which commands of `bpf` to report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BpfOption {
    /// None.
    None,
    /// Commands that load, create, attach, pin and get objects; not those that access the elements
    /// of maps or list objects.
    #[default]
    Control,
    /// All.
    All,
}

tracker_options! {
    /// Options of the privilege tracker.
    PrivilegeOptions { ring_kib: 1024, results: true,
        /// Report namespaces that are entered or created: `setns`, `unshare`, `clone`.
        namespaces: bool = true,
        /// Report changes of ids and capabilities: `setuid` and its family, `capset`, and an
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

/// Watches changes of privileges.
#[derive(Clone, Copy, Debug)]
pub struct PrivilegeTracker;

impl KernelTracker for PrivilegeTracker {
    const ABOUT: &'static str =
        "changes of namespaces, ids and capabilities; use of ptrace, kernel modules and BPF";
    const COST: &'static str = "about 100 ns per system call";
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
            problems.push(Problem::new("", "all kinds of events are disabled").hint(hint));
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

/// Offsets of members that only some kernels have.
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
    fn one_kind_alone_can_be_watched() {
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
        assert_eq!(
            PrivilegeTracker::check(&options)[0].message,
            "all kinds of events are disabled"
        );
    }
}
