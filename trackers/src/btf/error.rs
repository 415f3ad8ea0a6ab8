//! What can be wrong with type information.

use std::io;
use std::path::PathBuf;

/// Type information could not be read, or does not hold what was looked for.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file could not be read.
    #[error("could not read the kernel's type information from {}: whalewatch needs a kernel built with CONFIG_DEBUG_INFO_BTF=y", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data is not BTF, or contradicts itself.
    #[error(
        "the kernel's type information is malformed (at its {0}): please report this with the output of `uname -a`"
    )]
    Malformed(&'static str),
    /// No struct of that name.
    #[error(
        "this kernel has no struct {name}, so that `{member}` cannot be read: please report this with the output of `uname -a`"
    )]
    MissingStruct {
        /// The struct.
        name: String,
        /// What was wanted of it.
        member: String,
    },
    /// The struct has no such member.
    #[error("this kernel has no member `{name}`: please report this with the output of `uname -a`")]
    MissingMember {
        /// Struct and member.
        name: String,
    },
    /// The member is a bit field, which has no offset in bytes.
    #[error(
        "in this kernel `{name}` is a bit field: please report this with the output of `uname -a`"
    )]
    BitField {
        /// Struct and member.
        name: String,
    },
}
