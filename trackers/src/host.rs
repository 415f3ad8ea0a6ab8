//! What this host permits. Checked before anything is loaded, because the kernel's own errors do
//! not say what is wrong.

use std::fs;

use crate::LoadError;

const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// Whether this process may load programs.
///
/// # Errors
/// [`LoadError::NoPrivileges`] or [`LoadError::UserNamespace`] if it may not.
pub fn check_privileges() -> Result<(), LoadError> {
    if is_elsewhere("/proc/self/ns/user", "user:[4026531837]") {
        // Root of such a namespace has all capabilities there, but bpf(2) requires them in the
        // initial one.
        return Err(LoadError::UserNamespace);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Without /proc nothing is known; loading will show.
    match effective_capabilities(&status) {
        Some(capabilities) if !may_load(capabilities) => Err(LoadError::NoPrivileges),
        _ => Ok(()),
    }
}

/// Whether the kernel's lockdown lets programs read its memory.
///
/// # Errors
/// [`LoadError::Lockdown`] if it does not.
pub fn check_lockdown() -> Result<(), LoadError> {
    // If it cannot be read, the verifier's log shows it (see `Program::load`).
    let text = fs::read_to_string(LOCKDOWN).unwrap_or_default();
    if is_confidential(&text) { Err(LoadError::Lockdown) } else { Ok(()) }
}

/// Whether the state of the kernel's lockdown can be read: securityfs may not be mounted.
pub fn shows_lockdown() -> bool {
    fs::read_to_string(LOCKDOWN).is_ok()
}

/// Whether this process runs in the initial pid namespace, so that its own pid is the one that the
/// kernel programs see.
pub fn in_initial_pid_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
}

/// Whether a link to a namespace exists and points to another one than the initial one.
fn is_elsewhere(link: &str, initial: &str) -> bool {
    fs::read_link(link).is_ok_and(|found| found.as_os_str() != initial)
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn may_load(capabilities: u64) -> bool {
    let has = |capability: u32| capabilities & (1 << capability) != 0;
    has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_PERFMON))
}

fn is_confidential(lockdown: &str) -> bool {
    lockdown.contains("[confidentiality]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert!(effective_capabilities(status).is_some_and(may_load));
        assert!(may_load(1 << CAP_BPF | 1 << CAP_PERFMON));
        assert!(!may_load(1 << CAP_BPF));
        assert!(!may_load(0));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn only_confidentiality_forbids_reading() {
        assert!(is_confidential("none integrity [confidentiality]\n"));
        assert!(!is_confidential("none [integrity] confidentiality\n"));
        assert!(!is_confidential("[none] integrity confidentiality\n"));
    }
}
