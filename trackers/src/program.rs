//! A compiled object: what it needs from the kernel, and how it is loaded and attached.

use std::fs::File;
use std::io;

use aya::maps::{Map, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf};
use aya::programs::{BtfTracePoint, Iter, ProgramError};
use aya::{Btf as AyaBtf, Ebpf};
use bytemuck::NoUninit;
use whalewatch_trackers_common::{
    BUDGET_CGROUPS, BudgetSettings, CommonSettings, Member, SCOPE_CGROUPS, ScopeSettings,
    TaskOffsets,
};

use crate::kernel::{AttachType, Kernel, types_to_attach};
use crate::{LoadError, calls, host, options, path};

/// Lines of the verifier's log to show in an error.
const LOG_LINES: usize = 8;

/// How often to retry loading a program when a signal interrupts it.
const INTERRUPTIONS: u32 = 100;

/// A compiled object, its programs and their needs.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The object file.
    pub object: &'static [u8],
    /// Each program with the tracepoint that it attaches to.
    pub tracepoints: &'static [(&'static str, &'static str)],
    /// The iterator program that lists existing tasks, if the object has one.
    pub iterator: Option<&'static str>,
    /// Members of kernel structs that the programs read.
    pub members: &'static [&'static [Member]],
    /// The shared parts that the programs use.
    pub uses: Uses,
}

/// Shared parts of the kernel side that a program uses, apart from the process header.
#[derive(Clone, Copy, Debug)]
pub struct Uses {
    /// Paths of files (`trackers-ebpf/src/path.rs`).
    pub paths: bool,
    /// System calls (`trackers-ebpf/src/syscall.rs`).
    pub syscalls: bool,
}

impl Uses {
    /// Nothing.
    pub const NOTHING: Self = Self { paths: false, syscalls: false };
}

/// A loaded object whose programs are attached.
pub struct Attached {
    /// Programs and links: dropping them detaches and unloads.
    ebpf: Option<Ebpf>,
    iterator: Option<&'static str>,
    pub(crate) records: RingBuf<MapData>,
    pub(crate) counters: PerCpuArray<MapData, [u64; 3]>,
    pub(crate) lost_by_cgroup: PerCpuHashMap<MapData, u64, u64>,
}

/// Settings that all trackers' programs read, and the sizes of their maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) ring_kib: u32,
    pub(crate) scope: ScopeSettings,
    pub(crate) budget: BudgetSettings,
}

impl Program {
    /// The hooks in the kernel that it attaches to.
    pub fn attaches(&self) -> Vec<&'static str> {
        let tracepoints = self.tracepoints.iter().map(|(_, tracepoint)| *tracepoint);
        tracepoints.chain(self.iterator.map(|_| "iter/task")).collect()
    }

    /// Everything that this kernel lacks for it.
    pub fn missing(&self, kernel: &Kernel) -> Vec<LoadError> {
        let tracepoints = self
            .tracepoints
            .iter()
            .filter_map(|(_, tracepoint)| attach_type(kernel, tracepoint).err());
        let members = self.members.iter().copied().chain([TaskOffsets::MEMBERS]).flatten();
        let members = members.filter_map(|member| {
            kernel.btf().offset(member.of, member.path).err().map(LoadError::Btf)
        });
        let shared = [
            self.uses.paths.then(|| path::offsets(kernel).err()).flatten(),
            self.uses.syscalls.then(|| calls::offsets(kernel).err()).flatten(),
        ];
        let iterator = self.iterator.and_then(|_| iterator_type(kernel).err());
        tracepoints.chain(members).chain(iterator).chain(shared.into_iter().flatten()).collect()
    }

    /// Loads the object with its settings (the programs' `SETTINGS`) and attaches its programs.
    ///
    /// # Errors
    /// If the kernel lacks something or refuses a program.
    pub(crate) fn load<S: NoUninit>(
        &self,
        kernel: &Kernel,
        settings: &S,
        setup: &Setup,
    ) -> Result<Attached, LoadError> {
        let common = CommonSettings {
            counters: [],
            bucket: [],
            ring: options::ring_settings(setup.ring_kib),
            scope: setup.scope,
            budget: setup.budget,
            task: kernel.offsets(TaskOffsets::MEMBERS)?,
            padding: 0,
        };
        // The shared loader borrows the settings for as long as it lives. The leak is about a
        // kilobyte per tracker.
        let settings: &'static [u8] = bytemuck::bytes_of(settings).to_vec().leak();
        let common: &'static [u8] = bytemuck::bytes_of(&common).to_vec().leak();
        let paths = self.uses.paths.then(|| path::offsets(kernel)).transpose()?;
        let paths = bytemuck::bytes_of(&paths.unwrap_or_default()).to_vec().leak();
        let syscalls = self.uses.syscalls.then(|| calls::offsets(kernel)).transpose()?;
        let syscalls = bytemuck::bytes_of(&syscalls.unwrap_or_default()).to_vec().leak();
        let used = |count: u32, used: bool| if used { count } else { 1 };
        let mut ebpf = kernel
            .with_loader(|loader| {
                loader
                    .override_global("SETTINGS", settings, true)
                    .override_global("COMMON", common, true)
                    .override_global("PATH_OFFSETS", &*paths, self.uses.paths)
                    .override_global("SYSCALL_OFFSETS", &*syscalls, self.uses.syscalls)
                    .map_max_entries("RECORDS", setup.ring_kib.saturating_mul(1024))
                    .map_max_entries("SCOPE", used(SCOPE_CGROUPS, setup.scope.by_cgroup != 0))
                    .map_max_entries("BUDGETS", used(BUDGET_CGROUPS, setup.budget.cost != 0))
                    .load(self.object)
            })
            .map_err(|error| LoadError::failed("load the kernel programs", error))?;
        let mut types = Vec::new();
        for (_, tracepoint) in self.tracepoints {
            types.push(attach_type(kernel, tracepoint)?);
        }
        if self.iterator.is_some() {
            types.push(iterator_type(kernel)?);
        }
        let types = types_to_attach(&types)
            .map_err(|error| LoadError::failed("list the types to attach to", error))?;
        for (program, tracepoint) in self.tracepoints {
            attach(&mut ebpf, program, tracepoint, &types)?;
        }
        if let Some(program) = self.iterator {
            load_iterator(&mut ebpf, program, &types)?;
        }
        Attached::new(ebpf, self.iterator)
    }
}

fn attach_type(kernel: &Kernel, tracepoint: &'static str) -> Result<AttachType, LoadError> {
    let found = kernel.btf().tracepoint(tracepoint)?;
    let found = found.ok_or(LoadError::MissingTracepoint { name: tracepoint })?;
    let name = format!("btf_trace_{tracepoint}");
    Ok(AttachType { name, id: found.type_id, kind: AttachType::TYPEDEF })
}

fn iterator_type(kernel: &Kernel) -> Result<AttachType, LoadError> {
    const NAME: &str = "bpf_iter_task";
    let id = kernel.btf().function(NAME).ok_or(LoadError::MissingIterator)?;
    Ok(AttachType { name: NAME.to_owned(), id, kind: AttachType::FUNCTION })
}

fn attach(
    ebpf: &mut Ebpf,
    name: &'static str,
    tracepoint: &'static str,
    types: &AyaBtf,
) -> Result<(), LoadError> {
    let program = find::<BtfTracePoint>(ebpf, name)?;
    verify(name, || program.load(tracepoint, types))?;
    program.attach().map_err(|error| LoadError::failed(format!("attach program {name}"), error))?;
    Ok(())
}

fn load_iterator(ebpf: &mut Ebpf, name: &'static str, types: &AyaBtf) -> Result<(), LoadError> {
    let program = find::<Iter>(ebpf, name)?;
    verify(name, || program.load("task", types))
}

/// The program of that name. Objects and names are built together, so it exists.
fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType);
    program
        .and_then(TryInto::try_into)
        .map_err(|error| LoadError::failed(format!("find program {name}"), error))
}

/// Loads a program, and retries if a signal to this process interrupted the verifier: the kernel
/// then returns `EAGAIN` (`do_check` in `kernel/bpf/verifier.c`, Linux 6.1).
fn verify(
    program: &'static str,
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), LoadError> {
    for _ in 0..INTERRUPTIONS {
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(refusal(program, error)),
            Ok(()) => return Ok(()),
        }
    }
    load().map_err(|error| refusal(program, error))
}

/// The reason for the kernel's refusal of a program.
fn refusal(program: &'static str, error: ProgramError) -> LoadError {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return LoadError::failed(format!("load program {program}"), error);
    };
    let log = verifier_log.to_string();
    if is_lockdown(&log) || host::check_lockdown().is_err() {
        return LoadError::Lockdown;
    }
    if log.trim().is_empty() {
        return LoadError::failed(format!("load program {program}"), io_error);
    }
    LoadError::Refused { program, log: last_lines(&log, LOG_LINES), source: io_error }
}

/// Whether the verifier refused a helper that reads kernel memory. It allows these to our types of
/// programs, except under lockdown. Linux 6.1 then says `unknown func bpf_probe_read#4`, and 6.12
/// `program of this type cannot use helper bpf_probe_read#4`.
fn is_lockdown(log: &str) -> bool {
    let refused =
        |line: &str| line.contains("unknown func ") || line.contains("cannot use helper ");
    log.lines().any(|line| refused(line) && line.contains("bpf_probe_read"))
}

/// The last lines of a log, without the verifier's closing statistics.
fn last_lines(log: &str, count: usize) -> String {
    const STATISTICS: [&str; 3] = ["processed ", "verification time ", "stack depth "];
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !line.trim().is_empty() && !STATISTICS.iter().any(|s| line.starts_with(s)))
        .collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

impl Attached {
    fn new(mut ebpf: Ebpf, iterator: Option<&'static str>) -> Result<Self, LoadError> {
        Ok(Self {
            records: take_map(&mut ebpf, "RECORDS")?,
            counters: take_map(&mut ebpf, "COUNTERS")?,
            lost_by_cgroup: take_map(&mut ebpf, "LOST_BY_CGROUP")?,
            ebpf: Some(ebpf),
            iterator,
        })
    }

    /// Takes one of the object's maps out of it, which works once per map.
    pub(crate) fn map<T: TryFrom<Map, Error = MapError>>(
        &mut self,
        name: &str,
    ) -> Result<T, LoadError> {
        let missing = || LoadError::failed(format!("open map {name}"), MapError::ElementNotFound);
        take_map(self.ebpf.as_mut().ok_or_else(missing)?, name)
    }

    /// Detaches and unloads the programs, and waits until none is running any more (about 10 ms).
    /// Submitted records can still be read.
    pub(crate) fn detach(&mut self) {
        self.ebpf = None;
        wait_for_running_programs();
    }

    /// Whether the programs are detached.
    pub(crate) fn is_detached(&self) -> bool {
        self.ebpf.is_none()
    }

    /// Opens a file with one record for each existing process.
    pub(crate) fn snapshot(&mut self) -> Result<File, LoadError> {
        let name = self.iterator.ok_or(LoadError::MissingIterator)?;
        let ebpf = self.ebpf.as_mut().ok_or(LoadError::MissingIterator)?;
        let program = find::<Iter>(ebpf, name)?;
        let link = program.attach().and_then(|id| program.take_link(id));
        let link = link.map_err(|error| LoadError::failed("attach the task iterator", error))?;
        link.into_file().map_err(|error| LoadError::failed("start the task iterator", error))
    }
}

fn take_map<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &str,
) -> Result<T, LoadError> {
    let map = ebpf.take_map(name).ok_or(MapError::ElementNotFound);
    map.and_then(T::try_from).map_err(|error| LoadError::failed(format!("open map {name}"), error))
}

/// Waits for an RCU grace period. A detached program may still be running on another CPU: counts
/// read before it finishes could miss its record.
pub(crate) fn wait_for_running_programs() {
    #[expect(unsafe_code, reason = "a system call that has no safe wrapper")]
    // SAFETY: it takes no pointers.
    let waited = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if waited != 0 {
        // The kernel refuses this with `nohz_full`; sleep for longer than any program runs.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_end_of_the_verifiers_log() {
        let log = "0: r1 = 1\n1: r2 = 2\ninvalid mem access\nverification time 9 usec\n\
                   stack depth 32+0\nprocessed 2 insns (limit 1000000)\n\n";
        assert_eq!(last_lines(log, 2), "1: r2 = 2\ninvalid mem access");
        assert_eq!(last_lines(log, 9), "0: r1 = 1\n1: r2 = 2\ninvalid mem access");
        assert_eq!(last_lines("", 3), "");
    }

    #[test]
    fn lockdown_is_recognised_in_every_kernels_log() {
        let log =
            |last: &str| format!("188: (b7) r2 = 16\n189: (85) call bpf_probe_read#4\n{last}\n");
        assert!(is_lockdown(&log("unknown func bpf_probe_read#4")));
        assert!(is_lockdown(&log("unknown func bpf_probe_read_kernel#113")));
        assert!(is_lockdown(&log("program of this type cannot use helper bpf_probe_read#4")));
        assert!(!is_lockdown(&log("R1 invalid mem access 'scalar'")));
        assert!(!is_lockdown(&log("unknown func bpf_get_current_task#35")));
    }
}
