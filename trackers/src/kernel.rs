//! The running kernel: its type information, read once and shared by the trackers that are opened
//! together.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aya::{Btf as AyaBtf, EbpfLoader, Endianness};
use bytemuck::Pod;
use whalewatch_trackers_common::Member;

use crate::btf::{Btf, BtfError, KERNEL_BTF};
use crate::{LoadError, host};

/// Whoever opens trackers keeps a [`Kernel`] meanwhile, so that it is read once for all of them and
/// freed afterwards.
static SHARED: Mutex<Weak<Kernel>> = Mutex::new(Weak::new());

/// The running kernel's type information, and a loader for programs.
///
/// It takes some 30 ms to read and 8 MB to keep. Hold one while opening several trackers, and drop
/// it when they watch.
pub struct Kernel {
    btf: Btf,
    loader: Mutex<EbpfLoader<'static>>,
}

impl Kernel {
    /// The one that somebody holds already, or a new one.
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
        // A new loader reads all type information into 18 MB of its own, which only CO-RE
        // relocations need: the objects here have none. Giving that back at once keeps the program
        // small.
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        give_memory_back();
        Ok(Self { btf, loader: Mutex::new(loader) })
    }

    /// The type information.
    pub fn btf(&self) -> &Btf {
        &self.btf
    }

    /// The offsets of members, in order, as a struct of offsets.
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

/// Type information in the loader's own form that holds nothing but the types to attach to, each at
/// its true id.
///
/// The loader looks types up by name to learn their ids. From the kernel's own file that takes 18
/// ms and 18 MB; all else in it is of no use, so it is left out: every other id is a forward
/// declaration without a name.
pub(crate) fn types_to_attach(types: &[AttachType]) -> Result<AyaBtf, aya::BtfError> {
    const FORWARD: u32 = 7 << 24;
    let last = types.iter().map(|wanted| wanted.id).max().unwrap_or(0);
    let mut words = vec![[0, FORWARD, 0]; last as usize];
    let mut strings = vec![0];
    for wanted in types {
        let name = strings.len() as u32;
        strings.extend_from_slice(wanted.name.as_bytes());
        strings.push(0);
        if let Some(at) = (wanted.id as usize).checked_sub(1) {
            words[at] = [name, wanted.kind, 0];
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

/// Has the C library map large pieces of memory by themselves, so that they go back to the system
/// when they are freed.
///
/// Left alone, it raises the size from which it does so to the largest piece that was freed; what
/// is read after that stays with the program for good. Measured: 8.4 MB resident without this, 1.1
/// MB with it.
fn keep_large_memory_apart() {
    #[cfg(target_env = "gnu")]
    {
        const FROM_BYTES: libc::c_int = 128 * 1024; // The library's own default.
        #[expect(unsafe_code, reason = "the C library's function, which has no safe wrapper")]
        // SAFETY: it takes no pointers, and the allocator locks itself.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, FROM_BYTES);
        }
    }
}

/// Has the allocator return what was freed to the system: it keeps some 20 MB otherwise.
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
