//! The folders that may have records: the system's storage and that of each user.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

const SYSTEM: [&str; 2] = ["/var/lib/containers/storage", "/run/containers/storage"];
/// The administrator's settings, and the distribution's.
const SETTINGS: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];
/// Bound in bytes on the settings and the password file.
const MAX_BYTES: u64 = 1 << 20;
/// Bound on the users.
const MAX_USERS: usize = 1024;

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

/// Returns the folders that may have records, the system's before the users': the first that has a
/// container keeps it. Few of them exist. Storage that is lost at a reboot may have a separate
/// folder (`transient_store`).
pub(super) fn usual() -> Vec<PathBuf> {
    let read = |path| read_with(Path::new(path), MAX_BYTES, 0).ok();
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
    for User { name, uid, home } in passwd.lines().filter_map(user).take(MAX_USERS) {
        roots.push(Path::new(home).join(".local/share/containers/storage"));
        roots.push(format!("/run/user/{uid}/containers").into());
        let set = rootless_storage_path.as_ref();
        roots.extend(set.map(|path| {
            let path = path.replace("$HOME", home).replace("$USER", name);
            path.replace("$UID", &uid.to_string()).into()
        }));
    }
    let mut seen = BTreeSet::new();
    roots.retain(|root| root.is_absolute() && seen.insert(root.clone()));
    roots
}

fn user(line: &str) -> Option<User<'_>> {
    let mut fields = line.split(':');
    let (name, uid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
    let home = fields.nth(2)?;
    (home.starts_with('/') && home.len() > 1).then_some(User { name, uid, home })
}

/// Reads a file that any user may have made: only a regular file, not a link, of at most `max`
/// bytes. Opening it never waits.
pub(super) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_with(path, max, libc::O_NOFOLLOW | libc::O_NONBLOCK)
}

fn read_with(path: &Path, max: u64, flags: i32) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file, or too large",
        ));
    }
    let mut text = Vec::new();
    file.take(max).read_to_end(&mut text)?;
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
    fn storage_of_the_system_and_of_each_home_is_found_once() {
        check("", &[]);
        check("rubbish [", &[]);
        check("[storage]\ngraphroot = \"relative\"", &[]);
        check("[storage]\ngraphroot = \"/var/lib/containers/storage\"\nunknown = 7", &[]);
    }

    #[test]
    fn settings_may_move_the_storage() {
        check("[storage]\ndriver = \"overlay\"\ngraphroot = \"/data/c\"", &["/data/c"]);
        let each = ["/data/root/0", "/data/ann/1000", "/data/ann2/1000"];
        check("[storage]\nrootless_storage_path = \"/data/$USER/$UID\"", &each);
    }

    #[test]
    fn links_pipes_and_large_files_are_not_read() {
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
