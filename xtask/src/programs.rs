//! What kernel programs cost, as the kernel counts it.

#![expect(unsafe_code, reason = "nothing safe asks the kernel about its programs")]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail};

/// Commands of `bpf`.
const GET_BY_ID: libc::c_int = 13;
const GET_INFO: libc::c_int = 15;
const ENABLE_STATS: libc::c_int = 32;
/// `BPF_STATS_RUN_TIME`.
const RUN_TIME: u32 = 0;

/// Places in `struct bpf_prog_info`, and how much of it is asked for.
const NAME: usize = 64;
const NAME_LENGTH: usize = 16;
const NANOSECONDS: usize = 192;
const CALLS: usize = 200;
const INFO_LENGTH: usize = 208;

/// The kernel counts while this is held.
#[derive(Debug)]
pub(crate) struct Counting(#[expect(dead_code, reason = "held until it is dropped")] OwnedFd);

impl Counting {
    pub(crate) fn begin() -> Result<Self> {
        open(ENABLE_STATS, RUN_TIME).map(Self).context("the kernel cannot count")
    }
}

/// How often a program ran, and how long that took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ran {
    pub(crate) calls: u64,
    pub(crate) nanoseconds: u64,
}

impl Ran {
    /// The program of this name that the process `pid` has loaded, since counting began.
    pub(crate) fn of(pid: u32, name: &str) -> Result<Self> {
        for id in programs(pid)? {
            let program = open(GET_BY_ID, id)?;
            let info = info(&program)?;
            if text(&info) == name {
                let number = |at: usize| {
                    let bytes = info[at..at + 8].try_into().expect("eight bytes");
                    u64::from_ne_bytes(bytes)
                };
                return Ok(Self { calls: number(CALLS), nanoseconds: number(NANOSECONDS) });
            }
        }
        bail!("{pid} has no program {name}")
    }

    /// Since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            nanoseconds: self.nanoseconds - before.nanoseconds,
        }
    }

    /// Nanoseconds a call.
    pub(crate) fn mean(self) -> f64 {
        self.nanoseconds as f64 / self.calls as f64
    }
}

/// Ids of the programs that a process has loaded.
fn programs(pid: u32) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // One that is closed meanwhile is none of them.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}

fn text(info: &[u8; INFO_LENGTH]) -> String {
    let name = &info[NAME..NAME + NAME_LENGTH];
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LENGTH);
    String::from_utf8_lossy(&name[..end]).into_owned()
}

fn info(program: &OwnedFd) -> io::Result<[u8; INFO_LENGTH]> {
    let mut info = [0_u8; INFO_LENGTH];
    let [descriptor, length] = [program.as_raw_fd() as u32, INFO_LENGTH as u32];
    let address = (&raw mut info).expose_provenance() as u64;
    let attributes = [descriptor.to_ne_bytes(), length.to_ne_bytes()].concat();
    // SAFETY: the address and the length are those of the array, which outlives the call.
    unsafe { bpf(GET_INFO, &[&attributes[..], &address.to_ne_bytes()].concat())? };
    Ok(info)
}

/// The descriptor that a command gives whose only attribute is a number.
fn open(command: libc::c_int, attribute: u32) -> io::Result<OwnedFd> {
    // SAFETY: there is no address in it.
    let descriptor = unsafe { bpf(command, &attribute.to_ne_bytes())? };
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// Calls `bpf`.
///
/// # Safety
///
/// What the kernel is told to write to must be ours, and long enough.
unsafe fn bpf(command: libc::c_int, attributes: &[u8]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are readable in this length; the rest is the caller's.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), attributes.len()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}
