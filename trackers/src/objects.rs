//! The compiled programs. `cargo xtask ebpf` makes them from `trackers-ebpf/`.

/// Bytes where the loader wants them: it reads them as a file header.
#[repr(C, align(32))]
struct Aligned<Bytes: ?Sized>(Bytes);

static PROCESS_ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!("../objects/process.o"));
static CGROUP_ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!("../objects/cgroup.o"));

/// `trackers-ebpf/src/bin/process.rs`.
pub(crate) static PROCESS: &[u8] = &PROCESS_ALIGNED.0;
/// `trackers-ebpf/src/bin/cgroup.rs`.
pub(crate) static CGROUP: &[u8] = &CGROUP_ALIGNED.0;
