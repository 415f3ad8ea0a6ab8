//! Arbitrary records, for the property tests of the decoders.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use whalewatch_core::Event;

use crate::ring::{Arena, Decode};

/// Records of up to `longest` arbitrary bytes, except that the header has one of `kinds`: other
/// kinds would be refused before anything else is read.
pub(crate) fn records(kinds: Range<u16>, longest: usize) -> impl Strategy<Value = Vec<u8>> {
    (kinds, vec(any::<u8>(), 0..longest)).prop_map(|(kind, mut record)| {
        if let Some(place) = record.get_mut(4..6) {
            place.copy_from_slice(&kind.to_ne_bytes());
        }
        record
    })
}

/// Decodes a record and reads every field of the event, if there is one.
pub(crate) fn decode_and_read<D: Decode>(mut decoder: D, record: &[u8]) {
    decoder.note(record);
    let Ok(event) = decoder.decode(record, &mut Arena::default()) else { return };
    assert!(D::Event::KINDS.contains(&event.kind()), "{} is not announced", event.kind());
    for field in D::Event::FIELDS {
        let _ = (field.get)(&event);
    }
}
