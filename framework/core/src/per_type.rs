//! Per-type caches: what a handler works out from an event type's schema, once for each type.

use std::ops::{Index, IndexMut};

use crate::batch::Batch;
use crate::field::Schema;

/// A cache with one entry for each type of events that a handler has met.
///
/// Finding fields by name, or compiling a condition, depends only on the [`Schema`] of the events,
/// and is too slow to do for each batch. A handler keeps the result here and looks it up by
/// [`Batch::event_name`].
///
/// ```
/// use whalewatch_core::{Accessor, Batch, PerType, Value};
///
/// struct Sizes {
///     fields: PerType<Option<Accessor>>,
/// }
///
/// impl Sizes {
///     fn total(&mut self, batch: &Batch) -> u64 {
///         let find = |schema: &whalewatch_core::Schema| Some(schema.find("file.size")?.1);
///         let Some(size) = *self.fields.of(batch, find) else { return 0 };
///         let sizes = batch.iter().map(|event| match event.value(size) {
///             Value::Uint(size) => size,
///             _ => 0,
///         });
///         sizes.sum()
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct PerType<T> {
    /// A program has a handful of types, so a list is the fastest map.
    entries: Vec<(&'static str, T)>,
}

impl<T> PerType<T> {
    /// Creates an empty cache.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Returns the entry for the batch's type of events; `make` creates it for the first batch of
    /// a type.
    pub fn of(&mut self, batch: &Batch, make: impl FnOnce(&Schema) -> T) -> &mut T {
        let place = self.place(batch, make);
        &mut self[place]
    }

    /// Returns the place of the entry that [`PerType::of`] returns. It stays valid as long as the
    /// cache: the entry is `cache[place]`.
    pub fn place(&mut self, batch: &Batch, make: impl FnOnce(&Schema) -> T) -> usize {
        self.find(batch).unwrap_or_else(|| self.add(batch.event_name(), make(&batch.schema())))
    }

    /// As [`PerType::place`], where creating an entry can fail.
    ///
    /// # Errors
    /// If `make` fails. Nothing is kept then, and the type's next batch tries again.
    pub fn try_place<E>(
        &mut self,
        batch: &Batch,
        make: impl FnOnce(&Schema) -> Result<T, E>,
    ) -> Result<usize, E> {
        match self.find(batch) {
            Some(place) => Ok(place),
            None => Ok(self.add(batch.event_name(), make(&batch.schema())?)),
        }
    }

    fn find(&self, batch: &Batch) -> Option<usize> {
        let name = batch.event_name();
        self.entries.iter().position(|(known, _)| *known == name)
    }

    fn add(&mut self, name: &'static str, entry: T) -> usize {
        self.entries.push((name, entry));
        self.entries.len() - 1
    }
}

impl<T> Default for PerType<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<usize> for PerType<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        &self.entries[place].1
    }
}

impl<T> IndexMut<usize> for PerType<T> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut self.entries[place].1
    }
}

#[cfg(test)]
mod tests {
    use crate::budget::BudgetEvent;
    use crate::extension::Extension;
    use crate::field::Field;

    use super::*;

    struct Nothing;

    impl Extension for Nothing {
        const NAME: &'static str = "nothing";
        const FIELDS: &'static [Field<Self>] = &[];
    }

    /// Batches of two types.
    fn batches() -> [Batch; 2] {
        let plain = Batch::new("t".into(), Vec::<BudgetEvent>::new());
        let mut extended = plain.clone();
        extended.extend(|_| None::<Nothing>);
        [plain, extended]
    }

    #[test]
    fn each_type_has_one_entry_made_once() {
        let (mut cache, mut made) = (PerType::new(), 0);
        for batch in batches().iter().cycle().take(6) {
            let entry = cache.of(batch, |schema| {
                made += 1;
                schema.name
            });
            assert_eq!(*entry, batch.event_name());
        }
        assert_eq!(made, 2);
        let [first, second] = batches();
        let places = [&first, &second].map(|batch| cache.place(batch, |_| "new"));
        assert_eq!(places, [0, 1]);
        cache[1] = "changed";
        assert_eq!(*cache.of(&second, |_| "new"), "changed");
    }

    #[test]
    fn entry_that_cannot_be_made_is_tried_again() {
        let [batch, _] = batches();
        let mut cache = PerType::new();
        assert_eq!(cache.try_place(&batch, |_| Err("no such field")), Err("no such field"));
        assert_eq!(cache.try_place(&batch, |_| Ok::<_, &str>(1)), Ok(0));
        assert_eq!(cache.try_place(&batch, |_| Err("not called")), Ok(0));
    }
}
