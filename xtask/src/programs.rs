//! The kernel's own statistics of BPF programs: runs and their time.

#![expect(unsafe_code, reason = "no safe interface reports on BPF programs")]

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

/// Offsets in `struct bpf_prog_info`, and the length that is read.
const NAME: usize = 64;
const NAME_LENGTH: usize = 16;
const NANOSECONDS: usize = 192;
const CALLS: usize = 200;
const INFO_LENGTH: usize = 208;

/// Makes the kernel count until it is dropped.
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
    /// Reads the statistics of the program of that name that the process `pid` has loaded.
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

    /// Returns the difference to earlier statistics.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            nanoseconds: self.nanoseconds - before.nanoseconds,
        }
    }

    /// Returns the mean time of a run, in nanoseconds.
    pub(crate) fn mean(self) -> f64 {
        self.nanoseconds as f64 / self.calls as f64
    }
}

/// Lists the ids of the programs that a process has loaded.
fn programs(pid: u32) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor that has been closed meanwhile is none of a program.
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

/// Runs a command whose only attribute is a number. Returns its descriptor.
fn open(command: libc::c_int, attribute: u32) -> io::Result<OwnedFd> {
    // SAFETY: the attributes contain no address.
    let descriptor = unsafe { bpf(command, &attribute.to_ne_bytes())? };
    // SAFETY: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// Calls `bpf`.
///
/// # Safety
///
/// Addresses in the attributes must be valid for the kernel's writes, in their full length.
unsafe fn bpf(command: libc::c_int, attributes: &[u8]) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are readable in this length; the caller vouches for addresses in them.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), attributes.len()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}
