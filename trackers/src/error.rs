//! Why a tracker could not be opened.

use std::io;

use crate::btf::BtfError;

/// A tracker could not be opened. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The process may not load programs.
    #[error(
        "no permission to load programs into the kernel: run whalewatch as root, or give it the capabilities CAP_BPF and CAP_PERFMON"
    )]
    NoPrivileges,
    /// The process has a user namespace of its own, as in a rootless container: what it may do
    /// there counts for nothing here.
    #[error(
        "no permission to load programs into the kernel from a user namespace: run whalewatch as the host's root, not in a rootless container or one with userns-remap"
    )]
    UserNamespace,
    /// The kernel has no type information.
    #[error(
        "this kernel has no type information at /sys/kernel/btf/vmlinux: whalewatch needs a kernel built with CONFIG_DEBUG_INFO_BTF=y (all big distributions' kernels since 2021 are)"
    )]
    NoBtf,
    /// The kernel's lockdown forbids to read its memory.
    #[error(
        "the kernel is locked down for confidentiality, so no program may read what happens in it: boot with lockdown=integrity, or without lockdown"
    )]
    Lockdown,
    /// The kernel's type information is malformed or lacks something.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel lacks a tracepoint.
    #[error(
        "this kernel has no tracepoint {name}: whalewatch needs Linux 5.15 or newer with CONFIG_CGROUPS=y and tracepoints"
    )]
    MissingTracepoint {
        /// Its name.
        name: &'static str,
    },
    /// The kernel cannot list its tasks to a program.
    #[error(
        "this kernel cannot list its tasks to a program (bpf_iter_task): whalewatch needs Linux 5.15 or newer"
    )]
    MissingIterator,
    /// The verifier refused a program.
    #[error(
        "the kernel's verifier refused program {program}: please report this with the output of `uname -a` and these last lines of its log:\n{log}"
    )]
    Refused {
        /// The program.
        program: &'static str,
        /// The last lines of the verifier's log.
        log: String,
        /// What the kernel returned.
        source: io::Error,
    },
    /// The kernel forbids to load programs, though the process has the capabilities.
    #[error(
        "the kernel does not let this process load programs ({what}), though it has the capabilities: look for a seccomp profile, a container without --privileged, or a security module that forbids bpf()"
    )]
    Forbidden {
        /// What was refused.
        what: String,
        /// What the kernel returned.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something else went wrong in loading or attaching.
    #[error("could not {what}: please report this with the output of `uname -a`")]
    Failed {
        /// What failed.
        what: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LoadError {
    pub(crate) fn failed(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let what = what.into();
        if is_forbidden(&source) {
            return Self::Forbidden { what, source: Box::new(source) };
        }
        Self::Failed { what, source: Box::new(source) }
    }
}

/// Whether the kernel's refusal to let this process do it is among the causes.
fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::PermissionDenied;
        }
        cause = error.source();
    }
    false
}
