//! The compiled programs. `cargo xtask ebpf` builds them from `trackers-ebpf/`.

/// Bytes with the alignment of an ELF header, which the loader requires.
#[repr(C, align(32))]
pub(crate) struct Aligned<Bytes: ?Sized>(pub(crate) Bytes);

/// The compiled object of `trackers-ebpf/src/bin/NAME.rs`.
macro_rules! object {
    ($name:literal) => {{
        static ALIGNED: &$crate::objects::Aligned<[u8]> = &$crate::objects::Aligned(
            *include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/objects/", $name, ".o")),
        );
        &ALIGNED.0
    }};
}
pub(crate) use object;
