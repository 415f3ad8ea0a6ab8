//! The compiled programs. `cargo xtask ebpf` makes them from `trackers-ebpf/`.

/// Bytes where the loader wants them: it reads them as a file header.
#[repr(C, align(32))]
pub(crate) struct Aligned<Bytes: ?Sized>(pub(crate) Bytes);

/// The object that `trackers-ebpf/src/bin/` has the source of, by its name.
macro_rules! object {
    ($name:literal) => {{
        static ALIGNED: &$crate::objects::Aligned<[u8]> = &$crate::objects::Aligned(
            *include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/objects/", $name, ".o")),
        );
        &ALIGNED.0
    }};
}
pub(crate) use object;
