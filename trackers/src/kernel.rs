//! The running kernel: its type information, read once and shared by trackers that are opened
//! together.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aya::{Btf as AyaBtf, EbpfLoader, Endianness};
use bytemuck::Pod;
use whalewatch_trackers_common::Member;

use crate::btf::{Btf, BtfError, KERNEL_BTF};
use crate::{LoadError, host};

/// The kernel that is in use. A caller that opens several trackers holds an [`Arc`] of it
/// meanwhile, so that it is read once for all of them and freed afterwards.
static SHARED: Mutex<Weak<Kernel>> = Mutex::new(Weak::new());

/// The running kernel's type information, and a loader for programs.
///
/// Reading it takes about 30 ms, keeping it 8 MB. Hold one while opening several trackers, and drop
/// it afterwards.
pub struct Kernel {
    btf: Btf,
    loader: Mutex<EbpfLoader<'static>>,
}

impl Kernel {
    /// Returns the kernel that another caller holds, or reads it.
    ///
    /// # Errors
    /// If this process may not load programs, the kernel is locked down, or has no usable type
    /// information.
    pub fn shared() -> Result<Arc<Self>, LoadError> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = shared.upgrade() {
            return Ok(kernel);
        }
        host::check_privileges()?;
        host::check_lockdown()?;
        let kernel = Arc::new(Self::read()?);
        *shared = Arc::downgrade(&kernel);
        Ok(kernel)
    }

    fn read() -> Result<Self, LoadError> {
        keep_large_memory_apart();
        let btf = Btf::read(Path::new(KERNEL_BTF)).map_err(|error| match error {
            BtfError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                LoadError::NoBtf
            }
            error => LoadError::Btf(error),
        })?;
        // A new loader reads all type information into 18 MB, for CO-RE relocations, which our
        // objects do not have. Freeing it at once keeps the program small.
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        give_memory_back();
        Ok(Self { btf, loader: Mutex::new(loader) })
    }

    /// The type information.
    pub fn btf(&self) -> &Btf {
        &self.btf
    }

    /// Looks up the offsets of members, and returns them in order as a struct of offsets.
    pub(crate) fn offsets<T: Pod>(&self, members: &[Member]) -> Result<T, LoadError> {
        let mut offsets = T::zeroed();
        let words = bytemuck::cast_slice_mut::<T, u32>(std::slice::from_mut(&mut offsets));
        for (word, member) in words.iter_mut().zip(members) {
            *word = self.btf.offset(member.of, member.path)?;
        }
        Ok(offsets)
    }

    /// Runs `load` with the loader.
    pub(crate) fn with_loader<T>(&self, load: impl FnOnce(&mut EbpfLoader<'static>) -> T) -> T {
        load(&mut self.loader.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Builds type information for the loader that has only the types to attach to, each at its id in
/// the kernel.
///
/// The loader looks types up by name to learn their ids. With the kernel's own file that takes 18
/// ms and 18 MB. Here every other id is a forward declaration without a name.
pub(crate) fn types_to_attach(types: &[AttachType]) -> Result<AyaBtf, aya::BtfError> {
    const FORWARD: u32 = 7 << 24;
    let last = types.iter().map(|attach| attach.id).max().unwrap_or(0);
    let mut words = vec![[0, FORWARD, 0]; last as usize];
    let mut strings = vec![0];
    for attach in types {
        let name = strings.len() as u32;
        strings.extend_from_slice(attach.name.as_bytes());
        strings.push(0);
        if let Some(at) = (attach.id as usize).checked_sub(1) {
            words[at] = [name, attach.kind, 0];
        }
    }
    let length = words.len() as u32 * 12;
    let mut data = vec![0x9f, 0xeb, 1, 0];
    if cfg!(target_endian = "big") {
        data.swap(0, 1);
    }
    for word in [24, 0, length, length, strings.len() as u32] {
        data.extend_from_slice(&u32::to_ne_bytes(word));
    }
    data.extend(words.as_flattened().iter().flat_map(|word| word.to_ne_bytes()));
    data.extend_from_slice(&strings);
    AyaBtf::parse(&data, Endianness::default())
}

/// A type that programs attach to.
pub(crate) struct AttachType {
    pub(crate) name: String,
    pub(crate) id: u32,
    /// [`TYPEDEF`](Self::TYPEDEF) or [`FUNCTION`](Self::FUNCTION).
    pub(crate) kind: u32,
}

impl AttachType {
    pub(crate) const TYPEDEF: u32 = 8 << 24;
    pub(crate) const FUNCTION: u32 = 12 << 24;
}

/// Makes the C library map each large allocation separately, so that freeing it returns the memory
/// to the system.
///
/// By default the library raises its threshold to the largest allocation freed so far
/// (`mallopt(3)`, `M_MMAP_THRESHOLD`); later allocations below it would then stay with the program.
/// Measured: 8.4 MB resident without this call, 1.1 MB with it.
fn keep_large_memory_apart() {
    #[cfg(target_env = "gnu")]
    {
        const FROM_BYTES: libc::c_int = 128 * 1024; // The library's default.
        #[expect(unsafe_code, reason = "the C library's function, which has no safe wrapper")]
        // SAFETY: it takes no pointers, and the allocator locks itself.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, FROM_BYTES);
        }
    }
}

/// Makes the allocator return freed memory to the system; otherwise it keeps about 20 MB.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "the C library's function, which has no safe wrapper")]
        // SAFETY: it takes no pointers, and the allocator locks itself.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
