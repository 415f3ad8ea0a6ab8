//! Where records may lie: the system's storage and each user's.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

const SYSTEM: [&str; 2] = ["/var/lib/containers/storage", "/run/containers/storage"];
/// The administrator's settings, and the distribution's.
const SETTINGS: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];
/// Largest settings and password file that are read.
const MOST_BYTES: u64 = 1 << 20;
/// Most users whose homes are looked into.
const MOST_USERS: usize = 1024;

#[derive(Default, Deserialize)]
struct Settings {
    #[serde(default)]
    storage: Storage,
}

#[derive(Default, Deserialize)]
struct Storage {
    graphroot: Option<PathBuf>,
    runroot: Option<PathBuf>,
    rootless_storage_path: Option<String>,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    home: &'a str,
}

/// The folders that may hold records, the system's before users': whoever comes first has a
/// container. Few of them are there. What is kept for as long as the machine runs may have a folder
/// of its own (`transient_store`).
pub(super) fn usual() -> Vec<PathBuf> {
    let read = |path| read_with(Path::new(path), MOST_BYTES, 0).ok();
    let settings = SETTINGS.into_iter().find_map(read);
    let passwd = read("/etc/passwd").unwrap_or_default();
    from(&settings.unwrap_or_default(), &passwd)
}

fn from(settings: &[u8], passwd: &[u8]) -> Vec<PathBuf> {
    let settings: Option<Settings> =
        std::str::from_utf8(settings).ok().and_then(|text| toml::from_str(text).ok());
    let Storage { graphroot, runroot, rootless_storage_path } =
        settings.unwrap_or_default().storage;
    let mut roots: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    roots.extend([graphroot, runroot].into_iter().flatten());
    let passwd = String::from_utf8_lossy(passwd);
    for User { name, uid, home } in passwd.lines().filter_map(user).take(MOST_USERS) {
        roots.push(Path::new(home).join(".local/share/containers/storage"));
        roots.push(format!("/run/user/{uid}/containers").into());
        let set = rootless_storage_path.as_ref();
        roots.extend(set.map(|path| {
            let path = path.replace("$HOME", home).replace("$USER", name);
            path.replace("$UID", &uid.to_string()).into()
        }));
    }
    let mut told = BTreeSet::new();
    roots.retain(|root| root.is_absolute() && told.insert(root.clone()));
    roots
}

fn user(line: &str) -> Option<User<'_>> {
    let mut fields = line.split(':');
    let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
    let home = fields.nth(2)?;
    (home.starts_with('/') && home.len() > 1).then_some(User { name, uid, home })
}

/// Reads a file that may be any user's: a regular one, not behind a link, not larger than that.
/// Opening it never waits.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_with(path, most, libc::O_NOFOLLOW | libc::O_NONBLOCK)
}

fn read_with(path: &Path, most: u64, flags: i32) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() > most {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no file, or too large a one"));
    }
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n\
        ann:x:1000:1000::/home/ann:/bin/sh\nann2:x:1000:1000::/home/ann:/bin/sh\nbroken:x\n";

    #[track_caller]
    fn check(settings: &str, want: &[&str]) {
        let usual = [
            "/var/lib/containers/storage",
            "/run/containers/storage",
            "/root/.local/share/containers/storage",
            "/run/user/0/containers",
            "/home/ann/.local/share/containers/storage",
            "/run/user/1000/containers",
        ];
        let found = from(settings.as_bytes(), PASSWD.as_bytes());
        for path in usual.iter().chain(want) {
            assert!(found.contains(&PathBuf::from(path)), "{path} is missing in {found:?}");
        }
        assert_eq!(found.len(), usual.len() + want.len(), "{found:?}");
    }

    #[test]
    fn the_system_s_storage_and_each_home_s_are_looked_into_once() {
        check("", &[]);
        check("rubbish [", &[]);
        check("[storage]\ngraphroot = \"relative\"", &[]);
        check("[storage]\ngraphroot = \"/var/lib/containers/storage\"\nunknown = 7", &[]);
    }

    #[test]
    fn the_settings_may_move_them() {
        check("[storage]\ndriver = \"overlay\"\ngraphroot = \"/data/c\"", &["/data/c"]);
        let each = ["/data/root/0", "/data/ann/1000", "/data/ann2/1000"];
        check("[storage]\nrootless_storage_path = \"/data/$USER/$UID\"", &each);
    }

    #[test]
    fn neither_links_nor_pipes_nor_large_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert_eq!(read(&path("file"), 4).unwrap(), b"text");
        assert!(read(&path("file"), 3).is_err());
        for name in ["link", "pipe", "."] {
            assert!(read(&path(name), 99).is_err(), "{name}");
        }
    }
}
