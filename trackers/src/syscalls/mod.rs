//! The syscalls tracker: system calls, counted for each cgroup, and chosen ones one by one.
//!
//! A call is told when it returns: one that was begun before watching began, or that still runs, is
//! not; nor are `exit` and `exit_group`, which never return, and calls of 32-bit programs, whose
//! numbers mean other calls. A container that has several cgroups has a `syscall.stats` for each.
//! An `execve` that a thread other than the first makes is not told either: the thread's id changes
//! with it.

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
        /// Count calls, failures and time of each system call in each cgroup, and report them each
        /// `interval`. With `scope.results = "failed"` only calls that failed are counted. A budget
        /// does not touch it.
        stats: bool = true,
        /// System calls that are counted, by name. Empty for all.
        only: Vec<String> = Vec::new(),
        /// System calls to report one by one with their arguments, by name. Empty for none.
        calls: Vec<String> = Vec::new(),
    }
}

/// Watches the system calls that processes make.
#[derive(Clone, Copy, Debug)]
pub struct SyscallsTracker;

impl KernelTracker for SyscallsTracker {
    const ABOUT: &'static str =
        "system calls: counted for each container, and chosen ones one by one";
    const COST: &'static str = "about 0.2 µs at the beginning and at the end of every system call";
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
            let hint = "set stats to true, or name calls";
            problems.push(Problem::new("", "nothing is left to be watched").hint(hint));
        }
        if !options.stats && !options.only.is_empty() {
            let message = "it says what is counted, and stats is false";
            problems.push(Problem::new("only", message).hint("leave it out"));
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

/// What the programs do about each call. Numbers that are newer than our list are counted, too.
fn actions(options: &SyscallsOptions) -> [u8; SYSCALLS] {
    let mut actions = [0; SYSCALLS];
    for (number, action) in (0..).zip(&mut actions) {
        let name = name(number).unwrap_or_default();
        if never_returns(name) {
            continue;
        }
        let among = |names: &[String]| names.iter().any(|known| known == name);
        if options.stats && (options.only.is_empty() || among(&options.only)) {
            *action |= ACTION_STATS;
        }
        if among(&options.calls) {
            *action |= ACTION_CALL;
        }
        if *action != 0 && name == "rt_sigreturn" {
            *action |= ACTION_NO_RESULT;
        }
    }
    actions
}

/// The problem with a name that is no system call's, or one of a call that cannot be told.
fn unknown(key: &'static str, asked: &str) -> Option<Problem> {
    if never_returns(asked) {
        let message = format!("{asked} never returns, and calls are told when they return");
        return Some(Problem::new(key, message).hint("the process tracker tells of exits"));
    }
    let known = || Sysno::iter().map(|call| call.name());
    if known().any(|name| name == asked) {
        return None;
    }
    let problem = Problem::new(key, format!("this machine has no system call {asked:?}"));
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
    fn names_are_those_of_the_c_librarys_numbers() {
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
    fn a_mistaken_name_is_told_with_the_nearest() {
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
    fn each_call_is_done_what_was_asked_for() {
        let options = SyscallsOptions { calls: vec!["getppid".into()], ..Default::default() };
        let actions = actions(&options);
        let of = |number: libc::c_long| actions[number as usize];
        assert_eq!(of(libc::SYS_getppid), ACTION_STATS | ACTION_CALL);
        assert_eq!(of(libc::SYS_read), ACTION_STATS);
        assert_eq!(of(libc::SYS_exit_group), 0);
        assert_eq!(of(libc::SYS_rt_sigreturn), ACTION_STATS | ACTION_NO_RESULT);
    }
}
