//! How types are laid out in memory, for the test that compares them with the compiled objects.

/// Size and member offsets of a type, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The type's name.
    pub name: &'static str,
    /// Its size.
    pub size: usize,
    /// Each member, or dotted path of members, with its offset.
    pub members: &'static [(&'static str, usize)],
}

/// Declares `LAYOUTS`, the layouts of a tracker's records and settings. `trackers/tests/layout.rs`
/// compares them with the type information in the tracker's compiled object.
macro_rules! layouts {
    ($($type:ident { $($($member:ident).+),+ $(,)? })+) => {
        /// Layouts of the records and settings that are in this tracker's object.
        pub const LAYOUTS: &[$crate::Layout] = &[$($crate::Layout {
            name: stringify!($type),
            size: core::mem::size_of::<$type>(),
            members: &[$((
                stringify!($($member).+),
                core::mem::offset_of!($type, $($member).+),
            )),+],
        }),+];
    };
}
pub(crate) use layouts;
