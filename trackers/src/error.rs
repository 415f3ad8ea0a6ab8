//! Why a tracker could not be opened.

use std::error::Error;
use std::{fmt, io};

use whalewatch_core::error::causes;

use crate::btf::BtfError;

/// How to fix a fault that is ours or the kernel's.
const REPORT: &str = "please report this with the output of `uname -a`";

/// A tracker could not be opened. Its text has the [problem](Self::problem), a colon, and the
/// [remedy](Self::remedy).
#[derive(Debug)]
pub enum LoadError {
    /// The process may not load programs.
    NoPrivileges,
    /// The process is in a user namespace other than the initial one, as in a rootless container:
    /// its capabilities there do not allow it to load programs.
    UserNamespace,
    /// The kernel has no type information.
    NoBtf,
    /// The kernel's lockdown forbids programs to read its memory.
    Lockdown,
    /// The kernel's type information is malformed or incomplete.
    Btf(BtfError),
    /// The kernel lacks a tracepoint.
    MissingTracepoint {
        /// Its name.
        name: &'static str,
    },
    /// The kernel cannot list its tasks to a program.
    MissingIterator,
    /// The verifier refused a program.
    Refused {
        /// The program.
        program: &'static str,
        /// The last lines of the verifier's log.
        log: String,
        /// What the kernel returned.
        source: io::Error,
    },
    /// The kernel refuses to load programs although the process has the capabilities.
    Forbidden {
        /// The step that was refused.
        what: String,
        /// What the kernel returned.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Loading or attaching failed for another reason.
    Failed {
        /// The step that failed.
        what: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl LoadError {
    pub(crate) fn failed(
        what: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        let what = what.into();
        if is_forbidden(&source) {
            return Self::Forbidden { what, source: Box::new(source) };
        }
        Self::Failed { what, source: Box::new(source) }
    }

    /// Says what is wrong, in one line.
    pub fn problem(&self) -> String {
        match self {
            Self::NoPrivileges => "no permission to load programs into the kernel".into(),
            Self::UserNamespace => {
                "no permission to load programs into the kernel from a user namespace".into()
            }
            Self::NoBtf => "this kernel has no type information at /sys/kernel/btf/vmlinux".into(),
            Self::Lockdown => "the kernel is locked down for confidentiality, so no program may \
                               read what happens in it"
                .into(),
            Self::Btf(error) => error.to_string(),
            Self::MissingTracepoint { name } => format!("this kernel has no tracepoint {name}"),
            Self::MissingIterator => {
                "this kernel cannot list its tasks to a program (bpf_iter_task)".into()
            }
            Self::Refused { program, .. } => {
                format!("the kernel's verifier refused program {program}")
            }
            Self::Forbidden { what, .. } => format!(
                "the kernel does not let this process load programs ({what}), although it has the \
                 capabilities"
            ),
            Self::Failed { what, .. } => format!("cannot {what}"),
        }
    }

    /// Says how to fix the problem.
    pub fn remedy(&self) -> String {
        let remedy = match self {
            Self::NoPrivileges => {
                "run whalewatch as root, or give it the capabilities CAP_BPF and CAP_PERFMON"
            }
            Self::UserNamespace => {
                "run whalewatch as the host's root, not in a rootless container or one with \
                 userns-remap"
            }
            Self::NoBtf => {
                "whalewatch needs a kernel built with CONFIG_DEBUG_INFO_BTF=y (those of all major \
                 distributions have been since 2021)"
            }
            Self::Lockdown => "boot with lockdown=integrity, or without lockdown",
            Self::Btf(BtfError::Unreadable { .. }) => {
                "whalewatch needs a kernel built with CONFIG_DEBUG_INFO_BTF=y"
            }
            Self::Btf(_) | Self::Failed { .. } => REPORT,
            Self::MissingTracepoint { .. } => {
                "whalewatch needs Linux 5.15 or newer with CONFIG_CGROUPS=y and tracepoints"
            }
            Self::MissingIterator => "whalewatch needs Linux 5.15 or newer",
            Self::Refused { log, .. } => {
                return format!("{REPORT} and these last lines of the verifier's log:\n{log}");
            }
            Self::Forbidden { .. } => {
                "look for a seccomp profile, a container without --privileged, or a security \
                 module that forbids bpf()"
            }
        };
        remedy.to_owned()
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.problem(), self.remedy())
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Its text is this error's: the cause is one below.
            Self::Btf(error) => error.source(),
            Self::Refused { source, .. } => Some(source),
            Self::Forbidden { source, .. } | Self::Failed { source, .. } => Some(&**source),
            _ => None,
        }
    }
}

impl From<BtfError> for LoadError {
    fn from(error: BtfError) -> Self {
        Self::Btf(error)
    }
}

/// Whether a refusal of the kernel (`EPERM` or `EACCES`) is among the causes.
fn is_forbidden(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .find_map(|error| error.downcast_ref::<io::Error>())
        .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_problem_and_remedy() {
        let error = LoadError::failed("load program x", io::Error::other("it broke"));
        assert_eq!(
            error.to_string(),
            "cannot load program x: please report this with the output of `uname -a`"
        );
        assert_eq!(error.source().unwrap().to_string(), "it broke");
    }

    #[test]
    fn a_refusal_shows_the_end_of_the_log() {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        let error = LoadError::Refused { program: "x", log: "R1 bad".into(), source };
        assert!(error.remedy().ends_with("of the verifier's log:\nR1 bad"));
        assert!(!error.problem().contains("R1"));
    }

    #[test]
    fn missing_permission_is_told_apart_from_other_failures() {
        let refused = |errno| LoadError::failed("load", io::Error::from_raw_os_error(errno));
        assert!(matches!(refused(libc::EPERM), LoadError::Forbidden { .. }));
        assert!(matches!(refused(libc::EINVAL), LoadError::Failed { .. }));
    }

    #[test]
    fn type_information_keeps_its_own_cause() {
        let source = io::Error::other("gone");
        let error = LoadError::from(BtfError::Unreadable { path: "/btf".into(), source });
        assert_eq!(error.source().unwrap().to_string(), "gone");
        assert!(
            error.to_string().starts_with("cannot read the kernel's type information from /btf: ")
        );
    }
}
