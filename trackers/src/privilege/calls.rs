//! The system calls that the privilege tracker watches.

use libc::c_long;
use whalewatch_trackers_common::kinds::{
    KIND_PRIVILEGE_BPF, KIND_PRIVILEGE_CAPSET, KIND_PRIVILEGE_MODULE, KIND_PRIVILEGE_PTRACE,
    KIND_PRIVILEGE_SETNS, KIND_PRIVILEGE_SETUID, KIND_PRIVILEGE_UNSHARE,
};
use whalewatch_trackers_common::privilege::{
    FORM_BPF, FORM_CAPSET, FORM_CLONE, FORM_CLONE3, FORM_DELETE_MODULE, FORM_EXEC,
    FORM_FINIT_MODULE, FORM_INIT_MODULE, FORM_PLAIN, FORM_PTRACE, FORM_SETNS, FORM_UNSHARE,
    PrivilegeCall,
};

use super::{BpfOption, PrivilegeOptions, PtraceOption};

/// No call.
pub(super) const NONE: PrivilegeCall = PrivilegeCall { kind: 0, form: 0, call: 0, padding: 0 };

/// A system call that can be watched.
pub(super) struct Call {
    pub(super) name: &'static str,
    number: c_long,
    kind: u16,
    form: u16,
    /// The ids that its arguments set, as indexes of `ID_NAMES`.
    pub(super) ids: &'static [usize],
}

const fn call(name: &'static str, number: c_long, kind: u16, form: u16) -> Call {
    Call { name, number, kind, form, ids: &[] }
}

const fn ids(name: &'static str, number: c_long, ids: &'static [usize]) -> Call {
    Call { name, number, kind: KIND_PRIVILEGE_SETUID, form: FORM_PLAIN, ids }
}

/// All calls that can be watched. Records name a call by its index here.
pub(super) const CALLS: &[Call] = &[
    call("setns", libc::SYS_setns, KIND_PRIVILEGE_SETNS, FORM_SETNS),
    call("unshare", libc::SYS_unshare, KIND_PRIVILEGE_UNSHARE, FORM_UNSHARE),
    call("clone", libc::SYS_clone, KIND_PRIVILEGE_UNSHARE, FORM_CLONE),
    call("clone3", libc::SYS_clone3, KIND_PRIVILEGE_UNSHARE, FORM_CLONE3),
    ids("setuid", libc::SYS_setuid, &[0]),
    ids("setreuid", libc::SYS_setreuid, &[0, 1]),
    ids("setresuid", libc::SYS_setresuid, &[0, 1, 2]),
    ids("setfsuid", libc::SYS_setfsuid, &[3]),
    ids("setgid", libc::SYS_setgid, &[4]),
    ids("setregid", libc::SYS_setregid, &[4, 5]),
    ids("setresgid", libc::SYS_setresgid, &[4, 5, 6]),
    ids("setfsgid", libc::SYS_setfsgid, &[7]),
    ids(SETGROUPS, libc::SYS_setgroups, &[]),
    call("execve", libc::SYS_execve, KIND_PRIVILEGE_SETUID, FORM_EXEC),
    call("execveat", libc::SYS_execveat, KIND_PRIVILEGE_SETUID, FORM_EXEC),
    call("capset", libc::SYS_capset, KIND_PRIVILEGE_CAPSET, FORM_CAPSET),
    call("ptrace", libc::SYS_ptrace, KIND_PRIVILEGE_PTRACE, FORM_PTRACE),
    call("process_vm_writev", libc::SYS_process_vm_writev, KIND_PRIVILEGE_PTRACE, FORM_PLAIN),
    call(READS_MEMORY, libc::SYS_process_vm_readv, KIND_PRIVILEGE_PTRACE, FORM_PLAIN),
    call("init_module", libc::SYS_init_module, KIND_PRIVILEGE_MODULE, FORM_INIT_MODULE),
    call("finit_module", libc::SYS_finit_module, KIND_PRIVILEGE_MODULE, FORM_FINIT_MODULE),
    call("delete_module", libc::SYS_delete_module, KIND_PRIVILEGE_MODULE, FORM_DELETE_MODULE),
    call("bpf", libc::SYS_bpf, KIND_PRIVILEGE_BPF, FORM_BPF),
];

/// The call whose first argument is the number of groups.
pub(super) const SETGROUPS: &str = "setgroups";
/// A debugger's most frequent call by far.
const READS_MEMORY: &str = "process_vm_readv";

/// The calls to watch, by number.
pub(super) fn watched(options: &PrivilegeOptions) -> impl Iterator<Item = (c_long, PrivilegeCall)> {
    let is_watched = |call: &Call| match call.kind {
        KIND_PRIVILEGE_SETNS | KIND_PRIVILEGE_UNSHARE => options.namespaces,
        KIND_PRIVILEGE_SETUID | KIND_PRIVILEGE_CAPSET => options.credentials,
        KIND_PRIVILEGE_PTRACE if call.form == FORM_PTRACE => options.ptrace != PtraceOption::None,
        KIND_PRIVILEGE_PTRACE if call.name == READS_MEMORY => options.ptrace == PtraceOption::All,
        KIND_PRIVILEGE_PTRACE => {
            matches!(options.ptrace, PtraceOption::Control | PtraceOption::All)
        }
        KIND_PRIVILEGE_MODULE => options.modules,
        _ => options.bpf != BpfOption::None,
    };
    let numbered = (0_u16..).zip(CALLS).filter(move |(_, call)| is_watched(call));
    numbered.map(|(place, call)| {
        let Call { number, kind, form, .. } = *call;
        (number, PrivilegeCall { kind, form, call: place, padding: 0 })
    })
}

impl PtraceOption {
    /// The requests to report, as the programs read them (`PrivilegeSettings::ptrace`).
    pub(super) fn bits(self) -> u64 {
        // Bit n stands for request n; in the upper half, bit 32 + n for request 0x4200 + n.
        const TRACEME: u64 = 1;
        const ATTACH: u64 = 1 << 16;
        const SEIZE: u64 = 1 << (32 + 6);
        const POKE: u64 = 0b111 << 4;
        // SETREGS, SETFPREGS, SETFPXREGS; SETREGSET.
        const REGISTERS: u64 = 1 << 13 | 1 << 15 | 1 << 19 | 1 << (32 + 5);
        match self {
            Self::None => 0,
            Self::Attach => TRACEME | ATTACH | SEIZE,
            Self::Control => TRACEME | ATTACH | SEIZE | POKE | REGISTERS,
            Self::All => u64::MAX,
        }
    }
}

impl BpfOption {
    /// The commands to report, as the programs read them (`PrivilegeSettings::bpf`).
    pub(super) fn bits(self) -> u64 {
        // Commands that load or create objects, get existing ones, or make them available to
        // others.
        const CONTROL: &[u32] =
            &[0, 5, 6, 7, 8, 9, 13, 14, 17, 18, 19, 28, 29, 30, 32, 33, 34, 35, 36];
        match self {
            Self::None => 0,
            Self::Control => CONTROL.iter().fold(0, |bits, command| bits | 1 << command),
            Self::All => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn options_select_calls() {
        let names = |options: &PrivilegeOptions| -> HashSet<&str> {
            watched(options).map(|(_, call)| CALLS[usize::from(call.call)].name).collect()
        };
        let all = names(&PrivilegeOptions { ptrace: PtraceOption::All, ..Default::default() });
        assert_eq!(all.len(), CALLS.len());
        let some = names(&PrivilegeOptions::default());
        assert!(!some.contains(READS_MEMORY) && some.contains("process_vm_writev"));
        let ptrace = PtraceOption::Attach;
        let few = names(&PrivilegeOptions {
            ptrace,
            bpf: BpfOption::None,
            namespaces: false,
            credentials: false,
            modules: false,
            ..Default::default()
        });
        assert_eq!(few, HashSet::from(["ptrace"]));
    }

    #[test]
    fn control_excludes_the_frequent_calls_of_debuggers() {
        let reports = |request: u32| {
            let bit = if request >= 0x4200 { request - 0x4200 + 32 } else { request };
            PtraceOption::Control.bits() >> bit & 1 != 0
        };
        assert!(
            [libc::PTRACE_ATTACH, libc::PTRACE_SEIZE, libc::PTRACE_POKEDATA]
                .into_iter()
                .all(reports)
        );
        assert!(
            ![libc::PTRACE_CONT, libc::PTRACE_PEEKDATA, libc::PTRACE_SETOPTIONS]
                .into_iter()
                .any(reports)
        );
        assert!(reports(libc::PTRACE_SETREGSET) && !reports(libc::PTRACE_GETREGSET));
        let bpf = BpfOption::Control.bits();
        assert_eq!((bpf & 1, bpf >> 5 & 1, bpf >> 1 & 1, bpf >> 63), (1, 1, 0, 0));
    }
}
