//! Paths from the pieces that the kernel side writes, and where in the kernel they come from.

use bytes::Bytes;
use whalewatch_trackers_common::PathOffsets;

use crate::btf::BtfError;
use crate::ring::Arena;
use crate::{Kernel, LoadError};

/// Where the running kernel keeps what leads to a path.
pub(crate) fn offsets(kernel: &Kernel) -> Result<PathOffsets, LoadError> {
    let offsets: PathOffsets = kernel.offsets(PathOffsets::MEMBERS)?;
    // The programs read a directory entry's parent and name at once.
    let (length, name) = (offsets.dentry_parent + 12, offsets.dentry_parent + 16);
    if (offsets.dentry_name_length, offsets.dentry_name) != (length, name) {
        let name = String::from("dentry.d_name right behind dentry.d_parent");
        return Err(BtfError::MissingMember { name }.into());
    }
    Ok(offsets)
}

/// A path as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePath {
    /// The path: from the root of the mount namespace where it is absolute.
    pub bytes: Bytes,
    /// Whether it is what the kernel resolved; else it is what was asked for, links and `..` in it
    /// as they were.
    pub resolved: bool,
    /// Whether it is only a part of the true one: its end where it was resolved, else its
    /// beginning.
    pub truncated: bool,
}

/// Puts a path together: of the names up from a file; or of those up from the directory that a path
/// begins at, and the path as it was asked for.
pub(crate) fn join(arena: &mut Arena, names: &[u8], asked: &[u8]) -> Bytes {
    if asked.first() == Some(&b'/') {
        return arena.keep(asked);
    }
    let names = names.strip_suffix(b"\0").unwrap_or(names);
    arena.build(|out| {
        for name in names.rsplit(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            out.push(b'/');
            out.extend_from_slice(name);
        }
        if !asked.is_empty() || out.is_empty() {
            out.push(b'/');
            out.extend_from_slice(asked);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(names: &[u8], asked: &[u8]) -> Vec<u8> {
        join(&mut Arena::default(), names, asked).to_vec()
    }

    #[test]
    fn names_are_turned_round() {
        assert_eq!(joined(b"passwd\0etc\0", b""), b"/etc/passwd");
        assert_eq!(joined(b"", b""), b"/");
        assert_eq!(joined(b"a\nb\0\xff\0", b""), b"/\xff/a\nb");
    }

    #[test]
    fn what_was_asked_for_begins_at_its_directory_unless_it_is_absolute() {
        assert_eq!(joined(b"b\0a\0", b"../c"), b"/a/b/../c");
        assert_eq!(joined(b"", b"c"), b"/c");
        assert_eq!(joined(b"b\0a\0", b"/c/d"), b"/c/d");
    }
}
