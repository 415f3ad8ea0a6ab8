//! The syscalls tracker: system calls, counted for each cgroup, and chosen ones one by one.
//!
//! A call is reported when it returns. Not reported: calls that started before the tracker was
//! attached or that have not returned; `exit` and `exit_group`, which never return; calls of 32-bit
//! programs, whose numbers stand for other calls; and an `execve` by a thread other than the first,
//! because it changes the thread's id. A container with several cgroups has a `syscall.stats` for
//! each.

mod decode;
mod event;

use syscalls::Sysno;
use whalewatch_core::Problem;
use whalewatch_trackers_common::SYSCALLS;
use whalewatch_trackers_common::syscalls::{
    ACTION_CALL, ACTION_NO_RESULT, ACTION_STATS, SyscallsSettings,
};

pub use decode::SyscallsDecoder;
pub use event::{SyscallEvent, SyscallWhat};

use crate::options::tracker_options;
use crate::program::Attached;
use crate::{Kernel, KernelTracker, LoadError, Program, Uses, object};

/// The kernel programs of the syscalls tracker.
const PROGRAM: Program = Program {
    object: object!("syscalls"),
    tracepoints: &[("syscalls_exit", "sys_exit"), ("syscalls_enter", "sys_enter")],
    iterator: None,
    members: &[],
    uses: Uses { paths: false, syscalls: true },
};

tracker_options! {
    /// Options of the syscalls tracker.
    SyscallsOptions { ring_kib: 4096, results: true,
        /// Count calls, failures and time of each system call in each cgroup, and report the sums
        /// every `interval`. With `scope.results = "failed"`, only failed calls are counted. A
        /// budget does not apply.
        stats: bool = true,
        /// System calls to count, by name. Empty: all.
        only: Vec<String> = Vec::new(),
        /// System calls to report one by one with their arguments, by name. Empty: none.
        calls: Vec<String> = Vec::new(),
    }
}

/// Watches the system calls that processes make.
#[derive(Clone, Copy, Debug)]
pub struct SyscallsTracker;

impl KernelTracker for SyscallsTracker {
    const ABOUT: &'static str = "system calls: counted per container, and chosen ones one by one";
    const COST: &'static str = "about 0.4 µs per system call";
    const PROGRAM: &'static Program = &PROGRAM;
    type Options = SyscallsOptions;
    type Settings = SyscallsSettings;
    type Decoder = SyscallsDecoder;

    fn settings(options: &SyscallsOptions, _: &Kernel) -> Result<SyscallsSettings, LoadError> {
        Ok(SyscallsSettings { actions: actions(options), ..SyscallsSettings::UNSET })
    }

    fn decoder(
        options: &SyscallsOptions,
        attached: &mut Attached,
    ) -> Result<SyscallsDecoder, LoadError> {
        if options.stats {
            SyscallsDecoder::with_sums(attached)
        } else {
            Ok(SyscallsDecoder::default())
        }
    }

    fn check(options: &SyscallsOptions) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, names) in [("calls", &options.calls), ("only", &options.only)] {
            problems.extend(names.iter().filter_map(|name| unknown(key, name)));
        }
        if !options.stats && options.calls.is_empty() {
            let hint = "set stats to true, or list calls";
            problems.push(Problem::new("", "all kinds of events are disabled").hint(hint));
        }
        if !options.stats && !options.only.is_empty() {
            let message = "it selects the calls to count, but stats is false";
            problems.push(
                Problem::new("only", message).hint("remove the option, or set stats to true"),
            );
        }
        problems
    }
}

/// The name of a system call of this architecture.
pub(crate) fn name(number: u32) -> Option<&'static str> {
    Sysno::new(number as usize).map(|call| call.name())
}

/// Whether a call never returns.
fn never_returns(name: &str) -> bool {
    matches!(name, "exit" | "exit_group")
}

/// What the programs do about each call, by number. Calls that are missing in our list are counted
/// too.
fn actions(options: &SyscallsOptions) -> [u8; SYSCALLS] {
    let mut actions = [0; SYSCALLS];
    for (number, action) in (0..).zip(&mut actions) {
        let name = name(number).unwrap_or_default();
        if never_returns(name) {
            continue;
        }
        let is_in = |names: &[String]| names.iter().any(|known| known == name);
        if options.stats && (options.only.is_empty() || is_in(&options.only)) {
            *action |= ACTION_STATS;
        }
        if is_in(&options.calls) {
            *action |= ACTION_CALL;
        }
        if *action != 0 && name == "rt_sigreturn" {
            *action |= ACTION_NO_RESULT;
        }
    }
    actions
}

/// The problem with a name of a call that does not exist or cannot be reported.
fn unknown(key: &'static str, asked: &str) -> Option<Problem> {
    if never_returns(asked) {
        let message = format!("{asked} never returns, and calls are reported when they return");
        return Some(Problem::new(key, message).hint("the process tracker reports exits"));
    }
    let known = || Sysno::iter().map(|call| call.name());
    if known().any(|name| name == asked) {
        return None;
    }
    let problem = Problem::new(key, format!("this architecture has no system call {asked:?}"));
    let near = known()
        .max_by(|a, b| strsim::jaro_winkler(a, asked).total_cmp(&strsim::jaro_winkler(b, asked)));
    Some(match near {
        Some(near) => problem.hint(format!("did you mean {near:?}?")),
        None => problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_the_c_library() {
        let known = [
            (libc::SYS_openat, "openat"),
            (libc::SYS_getppid, "getppid"),
            (libc::SYS_futex, "futex"),
            (libc::SYS_clone3, "clone3"),
            (libc::SYS_rt_sigreturn, "rt_sigreturn"),
            (libc::SYS_execve, "execve"),
        ];
        for (number, expected) in known {
            assert_eq!(name(number as u32), Some(expected));
        }
        assert_eq!(name(511), None);
    }

    #[test]
    fn an_unknown_name_is_reported_with_the_nearest() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let options = SyscallsOptions { calls: names(&["opnat", "read"]), ..Default::default() };
        let problems = SyscallsTracker::check(&options);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].key, "calls");
        assert_eq!(problems[0].hint.as_deref(), Some("did you mean \"openat\"?"));
        let options = SyscallsOptions { only: names(&["exit"]), ..Default::default() };
        assert_eq!(SyscallsTracker::check(&options)[0].key, "only");
    }

    #[test]
    fn options_select_an_action_for_each_call() {
        let options = SyscallsOptions { calls: vec!["getppid".into()], ..Default::default() };
        let actions = actions(&options);
        let of = |number: libc::c_long| actions[number as usize];
        assert_eq!(of(libc::SYS_getppid), ACTION_STATS | ACTION_CALL);
        assert_eq!(of(libc::SYS_read), ACTION_STATS);
        assert_eq!(of(libc::SYS_exit_group), 0);
        assert_eq!(of(libc::SYS_rt_sigreturn), ACTION_STATS | ACTION_NO_RESULT);
    }
}
