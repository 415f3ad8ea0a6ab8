//! Anything with fields that conditions are tested on and templates are filled from.

use whalewatch_core::{Accessor, EventRef, Type, Value};

/// Something that has values for fields: an event, or an event with extra fields of a handler.
pub trait Subject {
    /// Returns the value of a field. An [`Accessor::Extra`] is one of the [`Extra`] fields that the
    /// condition was compiled with.
    fn value(&self, accessor: Accessor) -> Value<'_>;
}

impl Subject for EventRef<'_> {
    #[inline]
    fn value(&self, accessor: Accessor) -> Value<'_> {
        EventRef::value(self, accessor)
    }
}

impl<S: Subject + ?Sized> Subject for &S {
    #[inline]
    fn value(&self, accessor: Accessor) -> Value<'_> {
        S::value(self, accessor)
    }
}

/// A field that a [`Subject`] adds to those of the event. Its index in the list of extra fields is
/// the number of its [`Accessor::Extra`]. It takes precedence over an event's field of the same
/// name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Dotted path: `parent.comm`.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// Finds an extra field by its name.
pub(crate) fn find(extra: &[Extra], name: &str) -> Option<(Type, Accessor)> {
    let place = extra.iter().position(|field| field.name == name)?;
    Some((extra[place].ty, Accessor::Extra(u16::try_from(place).ok()?)))
}
