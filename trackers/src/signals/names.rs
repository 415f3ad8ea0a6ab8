//! Names of signals: those of `signal(7)`, the same on x86-64 and aarch64.

/// Names of the signals from number 1 on.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The name of a signal; all real-time signals share one.
pub(super) fn name(number: u32) -> &'static str {
    let named = (number as usize).checked_sub(1).and_then(|place| NAMES.get(place));
    named.copied().unwrap_or("SIGRT")
}

/// The bit of a signal in a set, by its name with or without `SIG`.
pub(super) fn bit(name: &str) -> Option<u64> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    if name == "RT" {
        return Some(u64::MAX << NAMES.len());
    }
    let place = NAMES.iter().position(|known| known.strip_prefix("SIG") == Some(name))?;
    Some(1 << place)
}

/// All names that [`bit`] accepts.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(["SIGRT"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_c_library() {
        let known =
            [(libc::SIGKILL, "SIGKILL"), (libc::SIGCHLD, "SIGCHLD"), (libc::SIGSYS, "SIGSYS")];
        for (number, expected) in known {
            assert_eq!(name(number as u32), expected);
            assert_eq!(bit(expected), Some(1 << (number - 1)));
        }
        assert_eq!(
            (name(34), name(0), bit("TERM"), bit("NONE")),
            ("SIGRT", "SIGRT", Some(1 << 14), None)
        );
        assert!(all().all(|name| bit(name).is_some()));
    }
}
