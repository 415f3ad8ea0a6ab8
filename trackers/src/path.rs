//! Assembles paths from the pieces that the kernel side writes, and looks up what it needs for
//! them.

use bytes::Bytes;
use whalewatch_trackers_common::PathOffsets;

use crate::btf::BtfError;
use crate::ring::Arena;
use crate::{Kernel, LoadError};

/// The offsets of the members that lead to a path.
pub(crate) fn offsets(kernel: &Kernel) -> Result<PathOffsets, LoadError> {
    let offsets: PathOffsets = kernel.offsets(PathOffsets::MEMBERS)?;
    // The programs read a directory entry's parent and name in one go.
    let (length, name) = (offsets.dentry_parent + 12, offsets.dentry_parent + 16);
    if (offsets.dentry_name_length, offsets.dentry_name) != (length, name) {
        let name = String::from("dentry.d_name right after dentry.d_parent");
        return Err(BtfError::MissingMember { name }.into());
    }
    Ok(offsets)
}

/// A path, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePath {
    /// The path. If absolute, it starts at the root of the mount namespace.
    pub bytes: Bytes,
    /// Whether the kernel resolved it; otherwise the process gave it, and it may contain links and
    /// `..`.
    pub resolved: bool,
    /// Whether it is cut: a resolved path lacks its beginning, any other its end.
    pub truncated: bool,
}

/// Assembles a path. `names` go up from a file, or from the directory that a path is relative to;
/// `asked` is the path that the process gave, if it is needed.
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
    fn names_are_reversed() {
        assert_eq!(joined(b"passwd\0etc\0", b""), b"/etc/passwd");
        assert_eq!(joined(b"", b""), b"/");
        assert_eq!(joined(b"a\nb\0\xff\0", b""), b"/\xff/a\nb");
    }

    #[test]
    fn relative_paths_follow_their_directory() {
        assert_eq!(joined(b"b\0a\0", b"../c"), b"/a/b/../c");
        assert_eq!(joined(b"", b"c"), b"/c");
        assert_eq!(joined(b"b\0a\0", b"/c/d"), b"/c/d");
    }
}
