//! Opens, changes, reads and writes files.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, IntoRawFd as _};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::process::{chdir, chroot};
use rustix::thread::gettid;
use serde_json::{Value, json};

use crate::Report;

pub(crate) fn run(arguments: &[String]) -> Report {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["open-close", path, count] => open_close(path, count.parse()?),
        ["open-threads", path, threads, count] => {
            open_threads(path, threads.parse()?, count.parse()?)
        }
        ["race", path, count] => race(path, count.parse()?),
        ["tour", dir] => tour(Path::new(dir)),
        ["chroot", dir] => in_chroot(dir),
        ["io", path] => io(path),
        _ => Err("files open-close PATH COUNT | open-threads PATH THREADS COUNT | race PATH COUNT | tour DIR | chroot DIR | io PATH".into()),
    }
}

/// Opens and closes a file `count` times.
fn open_close(path: &str, count: u64) -> Report {
    for _ in 0..count {
        drop(File::open(path).map_err(Box::<dyn Error>::from)?);
    }
    Ok(json!({"opens": count}))
}

/// Opens and closes a file `count` times in each of `threads` threads.
fn open_threads(path: &str, threads: u64, count: u64) -> Report {
    std::thread::scope(|scope| {
        let each = || (0..count).try_for_each(|_| File::open(path).map(drop));
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    Ok(json!({"opens": threads * count}))
}

/// Opens a file `count` times with `O_CLOEXEC` while another thread closes its descriptor, which is
/// often closed already when the kernel program resolves it.
fn race(path: &str, count: u64) -> Report {
    let done = AtomicBool::new(false);
    let next = File::open("/dev/null")?.as_raw_fd();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                #[expect(
                    unsafe_code,
                    reason = "nothing safe closes what another thread has opened"
                )]
                // SAFETY: nothing else uses the descriptor: it is opened below and not used.
                let _gone_already = unsafe { libc::close(next) };
            }
        });
        for _ in 0..count {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            if let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) {
                // The other thread closes it, or the next open gets the same number.
                let _closed = file.into_raw_fd();
            }
        }
        done.store(true, Relaxed);
    });
    Ok(json!({"opens": count}))
}

/// The operations, in the form of events.
#[derive(Default)]
struct Done(Vec<Value>);

impl Done {
    fn add(&mut self, kind: &str, path: &str, more: Value) {
        let mut entry = json!({"kind": kind, "path": path});
        if let (Value::Object(entry), Value::Object(more)) = (&mut entry, more) {
            entry.extend(more);
        }
        self.0.push(entry);
    }

    /// Records an opened file with its `fstat`.
    fn opened(
        &mut self,
        path: &str,
        fd: impl AsFd,
        access: &str,
        more: Value,
    ) -> Result<(), Box<dyn Error>> {
        let stat = rustix::fs::fstat(fd)?;
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        let known = json!({"source": "kernel", "access": access, "inode": stat.st_ino, "device": [major, minor]});
        self.add("file.open", path, known);
        if let (Some(Value::Object(entry)), Value::Object(more)) = (self.0.last_mut(), more) {
            entry.extend(more);
        }
        Ok(())
    }
}

/// Does each operation once, in a new folder in `dir`.
fn tour(dir: &Path) -> Report {
    let home = dir.join("tour");
    fs::create_dir(&home)?;
    let home = home.to_str().ok_or("a folder whose name is text")?;
    chdir(home)?;
    let mut done = Done::default();
    opens(home, &mut done)?;
    odd_names(home, &mut done)?;
    changes(home, &mut done)?;
    long_paths(home, &mut done)?;
    Ok(json!({"done": done.0, "tid": gettid().as_raw_nonzero().get()}))
}

fn opens(home: &str, done: &mut Done) -> Result<(), Box<dyn Error>> {
    let path = format!("{home}/plain");
    let create = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::open("plain", create, Mode::from_raw_mode(0o640))?;
    // The library adds this flag to every open.
    let flags = create.bits() | OFlags::LARGEFILE.bits();
    let more = json!({"create": true, "truncate": true, "mode": "0640", "flags": flags});
    done.opened(&path, &file, "write", more)?;
    rustix::fs::symlink("plain", "by-link")?;
    done.add("file.link", "plain", json!({"to": format!("{home}/by-link"), "symbolic": true}));
    let file = rustix::fs::open("by-link", OFlags::RDWR, Mode::empty())?;
    done.opened(&path, file, "read-write", json!({}))?;
    rustix::fs::mkdir("sub", Mode::RWXU)?;
    let sub = rustix::fs::open("sub", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    done.opened(&format!("{home}/sub"), &sub, "path", json!({}))?;
    let file = rustix::fs::openat(&sub, "../sub/.././plain", OFlags::RDONLY, Mode::empty())?;
    done.opened(&path, file, "read", json!({}))?;
    let file = rustix::fs::openat2(
        &sub,
        "../plain",
        OFlags::RDONLY,
        Mode::empty(),
        ResolveFlags::empty(),
    )?;
    done.opened(&path, file, "read", json!({}))?;
    let missing = rustix::fs::openat(&sub, "missing", OFlags::RDONLY, Mode::empty());
    assert_eq!(missing.err(), Some(rustix::io::Errno::NOENT));
    let error = json!({"source": "asked", "error": [2, "ENOENT"]});
    done.add("file.open", &format!("{home}/sub/missing"), error);
    let file = rustix::fs::open("gone", OFlags::CREATE | OFlags::RDWR, Mode::RUSR)?;
    done.opened(&format!("{home}/gone"), &file, "read-write", json!({"mode": "0400"}))?;
    rustix::fs::unlink("gone")?;
    done.add("file.delete", &format!("{home}/gone"), json!({"source": "asked"}));
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    let file = rustix::fs::open(again, OFlags::RDONLY, Mode::empty())?;
    done.opened(&format!("{home}/gone"), file, "read", json!({"deleted": true}))?;
    let thread = std::thread::spawn(|| {
        let file = rustix::fs::open("plain", OFlags::RDONLY, Mode::empty());
        file.map(|file| (file, gettid().as_raw_nonzero().get()))
    });
    let (file, tid) = thread.join().expect("it does not panic")?;
    done.opened(&path, file, "read", json!({"tid": tid}))
}

fn odd_names(home: &str, done: &mut Done) -> Result<(), Box<dyn Error>> {
    let make = OFlags::CREATE | OFlags::RDONLY;
    let file = rustix::fs::open("new\nline \"q\"", make, Mode::RUSR)?;
    done.opened(&format!("{home}/new\nline \"q\""), file, "read", json!({}))?;
    // JSON has a replacement character for bytes that are not UTF-8.
    let file = rustix::fs::open(&b"bad\xff\xfe"[..], make, Mode::RUSR)?;
    done.opened(&format!("{home}/bad\u{fffd}\u{fffd}"), file, "read", json!({}))
}

fn changes(home: &str, done: &mut Done) -> Result<(), Box<dyn Error>> {
    let at = |name: &str| format!("{home}/{name}");
    rustix::fs::rename("plain", "renamed")?;
    done.add("file.rename", &at("plain"), json!({"to": at("renamed")}));
    rustix::fs::link("renamed", "linked")?;
    done.add("file.link", &at("renamed"), json!({"to": at("linked")}));
    rustix::fs::chmodat(CWD, "linked", Mode::from_raw_mode(0o4711), AtFlags::empty())?;
    done.add("file.permission", &at("linked"), json!({"source": "asked", "mode": "4711"}));
    let file = rustix::fs::open("linked", OFlags::RDONLY, Mode::empty())?;
    done.opened(&at("linked"), &file, "read", json!({}))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o600))?;
    done.add("file.permission", &at("linked"), json!({"source": "kernel", "mode": "0600"}));
    let group = Some(rustix::fs::Gid::from_raw(12));
    rustix::fs::fchown(&file, None, group)?;
    done.add("file.permission", &at("linked"), json!({"source": "kernel", "owner": [-1, 12]}));
    let user = Some(rustix::fs::Uid::from_raw(11));
    rustix::fs::chownat(CWD, "linked", user, group, AtFlags::empty())?;
    done.add("file.permission", &at("linked"), json!({"source": "asked", "owner": [11, 12]}));
    let refused = rustix::fs::rename("nothing", "else");
    assert_eq!(refused, Err(rustix::io::Errno::NOENT));
    let error = json!({"to": at("else"), "error": [2, "ENOENT"]});
    done.add("file.rename", &at("nothing"), error);
    rustix::fs::rmdir("sub")?;
    done.add("file.delete", &at("sub"), json!({"directory": true}));
    Ok(())
}

/// Opens paths of about 4,000 bytes, and one that is longer than a record can hold.
fn long_paths(home: &str, done: &mut Done) -> Result<(), Box<dyn Error>> {
    let part = "d".repeat(200);
    let mut path = home.to_owned();
    for (level, long) in [(0, 18), (18, 24)] {
        for _ in level..long {
            rustix::fs::mkdir(&*part, Mode::RWXU)?;
            chdir(&*part)?;
            path = format!("{path}/{part}");
        }
        let file = rustix::fs::open("deep", OFlags::CREATE | OFlags::RDONLY, Mode::RUSR)?;
        let truncated = path.len() > 4096;
        done.opened(&format!("{path}/deep"), file, "read", json!({"truncated": truncated}))?;
    }
    chdir("/")?;
    Ok(())
}

/// Opens a file after `chroot`.
fn in_chroot(dir: &str) -> Report {
    fs::create_dir_all(format!("{dir}/root/etc"))?;
    fs::write(format!("{dir}/root/etc/inside"), "")?;
    chroot(format!("{dir}/root"))?;
    chdir("/")?;
    let mut done = Done::default();
    let file = rustix::fs::open("/etc/inside", OFlags::RDONLY, Mode::empty())?;
    done.opened(&format!("{dir}/root/etc/inside"), file, "read", json!({}))?;
    Ok(json!({"done": done.0}))
}

/// Writes and reads a known number of bytes in a known number of calls.
fn io(path: &str) -> Report {
    let mut file = File::options().create_new(true).write(true).open(path)?;
    for _ in 0..1000 {
        file.write_all(&[7; 100])?;
    }
    let mut file = File::open(path)?;
    let (mut bytes, mut reads) = (0, 0);
    let mut buffer = [0; 777];
    loop {
        let read = file.read(&mut buffer)?;
        (bytes, reads) = (bytes + read, reads + 1);
        if read == 0 {
            break;
        }
    }
    Ok(json!({"written_bytes": 100_000, "writes": 1000, "read_bytes": bytes, "reads": reads}))
}
