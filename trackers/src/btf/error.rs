//! What can be wrong with type information.

use std::io;
use std::path::PathBuf;

/// Type information could not be read, or lacks the requested type or member.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file could not be read.
    #[error("cannot read the kernel's type information from {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data is not BTF, or contradicts itself.
    #[error("the kernel's type information is malformed (at its {0})")]
    Malformed(&'static str),
    /// There is no struct of that name.
    #[error("this kernel has no struct {name}, so that `{member}` cannot be read")]
    MissingStruct {
        /// The struct.
        name: String,
        /// The member to read.
        member: String,
    },
    /// The struct has no such member.
    #[error("this kernel has no member `{name}`")]
    MissingMember {
        /// Struct and member.
        name: String,
    },
    /// The member is a bit field, which has no offset in bytes.
    #[error("in this kernel `{name}` is a bit field")]
    BitField {
        /// Struct and member.
        name: String,
    },
}
