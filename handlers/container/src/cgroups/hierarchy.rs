//! The host's cgroup file systems: which cgroups exist, and the path of a cgroup by its id.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::path::container_in;

/// Type of a kernfs file handle, which is nothing but the 64-bit id (`FILEID_KERNFS` in the
/// kernel's include/linux/exportfs.h, since 5.5).
const FILEID_KERNFS: i32 = 0xfe;

/// A mounted cgroup hierarchy.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    mount: PathBuf,
    root: OwnedFd,
    /// Whether the kernel lets this process open a cgroup by its id.
    asks: bool,
}

/// `struct file_handle` of `open_by_handle_at(2)` with the handle itself.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: [u8; 8],
}

impl Hierarchy {
    /// Opens the host's cgroup2 hierarchy, if one is mounted: alone, or beside those of version 1.
    pub(crate) fn version_2() -> Option<Self> {
        Self::open(mounts(&fs::read("/proc/mounts").ok()?, b"cgroup2").next()?)
    }

    /// Opens a hierarchy of version 1, if one is mounted. Each of them has every process.
    pub(crate) fn version_1() -> Option<Self> {
        Self::open(mounts(&fs::read("/proc/mounts").ok()?, b"cgroup").next()?)
    }

    pub(crate) fn open(mount: PathBuf) -> Option<Self> {
        let root = fs::File::open(&mount).ok()?;
        let id = root.metadata().ok()?.ino();
        let mut hierarchy = Self { mount, root: root.into(), asks: false };
        hierarchy.asks = hierarchy.open_by_id(id).is_ok();
        Some(hierarchy)
    }

    /// Returns the cgroups from the root down, at most `limit`: directory, id, path in the
    /// hierarchy.
    pub(crate) fn walk(&self, limit: usize) -> impl Iterator<Item = (PathBuf, u64, Vec<u8>)> {
        let root = fs::metadata(&self.mount).map(|m| (self.mount.clone(), m.ino()));
        let mut waiting: VecDeque<(PathBuf, u64)> = root.ok().into_iter().collect();
        std::iter::from_fn(move || {
            let (dir, id) = waiting.pop_front()?;
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    waiting.push_back((entry.path(), entry.ino()));
                }
            }
            let path = below(&self.mount, &dir)?;
            Some((dir, id, path))
        })
        .take(limit)
    }

    /// Returns the path of a cgroup. Asks the kernel by file handle, which takes microseconds and
    /// reads no disk. `None` if the cgroup is gone, or without `CAP_DAC_READ_SEARCH`.
    pub(crate) fn path_of(&self, id: u64) -> Option<Vec<u8>> {
        let cgroup = self.open_by_id(id).ok()?;
        let link = fs::read_link(format!("/proc/self/fd/{}", cgroup.as_raw_fd())).ok()?;
        path_of_link(&self.mount, link)
    }

    /// Whether there is certainly no cgroup with this id.
    pub(crate) fn lacks(&self, id: u64) -> bool {
        self.asks && self.open_by_id(id).is_err()
    }

    fn open_by_id(&self, id: u64) -> io::Result<OwnedFd> {
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
        #[expect(unsafe_code, reason = "neither std nor rustix has open_by_handle_at")]
        // SAFETY: `handle` is laid out as the kernel's struct file_handle followed by `bytes`
        // bytes, and outlives the call.
        let fd = unsafe {
            libc::open_by_handle_at(
                self.root.as_raw_fd(),
                (&raw mut handle).cast(),
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        #[expect(unsafe_code, reason = "the descriptor comes from a raw system call")]
        // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Returns the pids in the cgroups of each container that `wanted` accepts, including cgroups
    /// below its own.
    pub(crate) fn processes(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, Vec<u32>)> {
        const MAX_CGROUPS: usize = 1 << 20;
        let mut found: Vec<(String, Vec<u32>)> = Vec::new();
        for (dir, _, path) in self.walk(MAX_CGROUPS) {
            let Some(container) = container_in(&path).filter(|c| wanted(c.id)) else { continue };
            let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            let pids = procs.lines().filter_map(|l| l.parse().ok()).filter(|&pid| pid != 0);
            match found.iter_mut().find(|(id, _)| id == container.id) {
                Some((_, known)) => known.extend(pids),
                None => found.push((container.id.to_owned(), pids.collect())),
            }
        }
        found
    }
}

/// Returns the path of the cgroup that a link in `/proc/self/fd` shows. The kernel marks a deleted
/// one.
fn path_of_link(mount: &Path, link: PathBuf) -> Option<Vec<u8>> {
    let link = link.into_os_string().into_vec();
    let path = link.strip_suffix(b" (deleted)").unwrap_or(&link);
    below(mount, Path::new(OsStr::from_bytes(path)))
}

fn below(mount: &Path, dir: &Path) -> Option<Vec<u8>> {
    let rest = dir.strip_prefix(mount).ok()?;
    Some([b"/", rest.as_os_str().as_bytes()].concat())
}

/// Returns the mount points of this type of file system in the text of `/proc/mounts`.
fn mounts<'a>(text: &'a [u8], fs_type: &'a [u8]) -> impl Iterator<Item = PathBuf> + use<'a> {
    text.split(|&b| b == b'\n').filter_map(move |line| {
        let mut words = line.split(|&b| b == b' ').skip(1);
        let point = words.next()?;
        (words.next()? == fs_type).then(|| PathBuf::from(OsStr::from_bytes(&unescape(point))))
    })
}

/// Undoes the octal escapes of `/proc/mounts`: `\040` for a space.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        out.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_mount_is_found_alone_and_beside_version_1() {
        let hybrid = b"tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let found = |text, fs_type| mounts(text, fs_type).collect::<Vec<_>>();
        assert_eq!(found(hybrid, b"cgroup2"), [PathBuf::from("/sys/fs/cgroup/unified")]);
        assert_eq!(found(hybrid, b"cgroup"), [PathBuf::from("/sys/fs/cgroup/pids")]);
        let odd = b"none /mnt/my\\040cgroups cgroup2 rw 0 0";
        assert_eq!(found(odd, b"cgroup2"), [PathBuf::from("/mnt/my cgroups")]);
        assert_eq!(found(b"\n\nx\n/dev/sda / ext4 rw 0 0\n", b"cgroup2"), Vec::<PathBuf>::new());
    }

    #[test]
    fn walk_yields_directories_with_inodes_up_to_its_limit() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("docker/x")).unwrap();
        fs::write(root.path().join("cgroup.procs"), "1\n").unwrap();
        let tree = Hierarchy::open(root.path().into()).unwrap();
        let paths: Vec<_> = tree.walk(10).map(|(_, _, p)| String::from_utf8(p).unwrap()).collect();
        assert_eq!(paths, ["/", "/docker", "/docker/x"]);
        for (dir, id, _) in tree.walk(10) {
            assert_eq!(fs::metadata(dir).unwrap().ino(), id);
        }
        assert_eq!(tree.walk(2).count(), 2);
    }

    #[test]
    fn processes_in_nested_cgroups_belong_to_the_container() {
        let id = "ab".repeat(32);
        let root = tempfile::tempdir().unwrap();
        let container = root.path().join("docker").join(&id);
        fs::create_dir_all(container.join("inner")).unwrap();
        fs::write(container.join("cgroup.procs"), "10\n11\n").unwrap();
        fs::write(container.join("inner/cgroup.procs"), "12\n0\n").unwrap();
        let tree = Hierarchy::open(root.path().into()).unwrap();
        assert_eq!(tree.processes(|_| true), [(id, vec![10, 11, 12])]);
        assert_eq!(tree.processes(|_| false), []);
    }

    #[test]
    fn path_is_the_one_below_the_mount_also_of_a_deleted_cgroup() {
        let mount = Path::new("/sys/fs/cgroup");
        for (link, path) in [
            ("/sys/fs/cgroup/docker/x", Some("/docker/x")),
            ("/sys/fs/cgroup/docker/x (deleted)", Some("/docker/x")),
            ("/sys/fs/cgroup", Some("/")),
            ("/elsewhere", None),
        ] {
            let found = path_of_link(mount, link.into());
            assert_eq!(found, path.map(|path| path.as_bytes().to_vec()), "{link}");
        }
    }

    #[test]
    fn nothing_is_lacking_where_the_kernel_cannot_be_asked_by_id() {
        // No id opens an ordinary folder, which could still contain every cgroup.
        let root = tempfile::tempdir().unwrap();
        let tree = Hierarchy::open(root.path().into()).unwrap();
        for id in [fs::metadata(root.path()).unwrap().ino(), u64::MAX] {
            assert_eq!((tree.path_of(id), tree.lacks(id)), (None, false), "{id}");
        }
    }
}
