//! Records: encoded events, with the same layout in memory and on disk.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 4 | length of everything from offset 8 on |
//! | 4 | 4 | CRC-32 of everything from offset 8 on |
//! | 8 | 2 | length of the id |
//! | 10 | 2 | length of the subject |
//! | 12 | | id, subject, payload |
//!
//! Numbers are little-endian.

use std::ops::Range;

use bytes::Bytes;

/// Offset of the id.
const HEAD: usize = 12;
/// Offset from which on the length counts.
const FRAME: usize = 8;
/// The highest length of a valid record.
const MAX_LENGTH: usize = 64 << 20;

/// Appends a record. The three closures append its id, its subject and its payload.
pub(crate) fn write(
    out: &mut Vec<u8>,
    id: impl FnOnce(&mut Vec<u8>),
    subject: impl FnOnce(&mut Vec<u8>),
    payload: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    id(out);
    let id_len = out.len() - start - HEAD;
    subject(out);
    let subject_len = out.len() - start - HEAD - id_len;
    payload(out);
    // The encoder makes ids and subjects shorter than 64 KiB.
    out[start + 8..start + 10].copy_from_slice(&(id_len as u16).to_le_bytes());
    out[start + 10..start + 12].copy_from_slice(&(subject_len as u16).to_le_bytes());
    let len = (out.len() - start - FRAME) as u32;
    let sum = crc32fast::hash(&out[start + FRAME..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + FRAME].copy_from_slice(&sum.to_le_bytes());
}

/// The result of [`find`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole record of this many bytes.
    Record(usize),
    /// There are no bytes.
    End,
    /// The first part of a record, which has at least this many bytes.
    Part(usize),
    /// Bytes that are not a record.
    Damage,
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn short(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 2).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])))
}

/// Checks the record at the start of `bytes`.
pub(crate) fn find(bytes: &[u8]) -> Found {
    if bytes.is_empty() {
        return Found::End;
    }
    if bytes.len() < HEAD {
        return Found::Part(HEAD);
    }
    let len = number(bytes, 0) as usize;
    if !(HEAD - FRAME..=MAX_LENGTH).contains(&len) {
        return Found::Damage;
    }
    let whole = FRAME + len;
    let Some(body) = bytes.get(FRAME..whole) else { return Found::Part(whole) };
    let texts = short(bytes, 8) + short(bytes, 10);
    if crc32fast::hash(body) != number(bytes, 4) || HEAD + texts > whole {
        return Found::Damage;
    }
    Found::Record(whole)
}

/// The parts of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: Bytes,
    pub(crate) subject: Bytes,
    pub(crate) payload: Bytes,
}

/// Returns the record at offset `at`, and the offset of the next one. Returns `None` at the end.
/// The bytes must come from [`write()`] or have been checked.
pub(crate) fn take(bytes: &Bytes, at: usize) -> Option<(Record, usize)> {
    let head = bytes.get(at..)?;
    if head.len() < HEAD {
        return None;
    }
    let end = at + FRAME + number(head, 0) as usize;
    let id = at + HEAD..at + HEAD + short(head, 8);
    let subject = id.end..id.end + short(head, 10);
    let payload = subject.end..end;
    let slice = |range: Range<usize>| {
        (range.start <= range.end && range.end <= bytes.len()).then(|| bytes.slice(range))
    };
    let record = Record { id: slice(id)?, subject: slice(subject)?, payload: slice(payload)? };
    Some((record, end))
}

/// Returns the number of whole records at the start of `bytes`, and their length in bytes.
pub(crate) fn scan(bytes: &[u8]) -> (u64, usize) {
    let (mut count, mut at) = (0, 0);
    while let Found::Record(len) = find(&bytes[at..]) {
        count += 1;
        at += len;
    }
    (count, at)
}

#[cfg(test)]
pub(crate) fn example(number: u64, payload: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |text: String| move |out: &mut Vec<u8>| out.extend_from_slice(text.as_bytes());
    write(
        &mut out,
        text(format!("node-1-{number}")),
        text("whalewatch.node-1".to_owned()),
        text("p".repeat(payload)),
    );
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_reads_back() {
        let mut bytes = example(7, 100);
        bytes.extend(example(8, 0));
        let bytes = Bytes::from(bytes);
        let (first, next) = take(&bytes, 0).expect("a record");
        assert_eq!(
            (&first.id[..], &first.subject[..]),
            (&b"node-1-7"[..], &b"whalewatch.node-1"[..])
        );
        assert_eq!(first.payload.len(), 100);
        let (second, end) = take(&bytes, next).expect("a record");
        assert_eq!((&second.id[..], second.payload.len()), (&b"node-1-8"[..], 0));
        assert_eq!((end, take(&bytes, end)), (bytes.len(), None));
        assert_eq!(scan(&bytes), (2, bytes.len()));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>, at in 0..300_usize) {
            let _found = find(&bytes);
            let (count, end) = scan(&bytes);
            prop_assert!(end <= bytes.len() && count <= bytes.len() as u64);
            let _taken = take(&Bytes::from(bytes), at);
        }

        #[test]
        fn a_changed_bit_is_detected(
            payload in 0..200_usize,
            byte: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let mut bytes = example(1, payload);
            let at = byte.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(!matches!(find(&bytes), Found::Record(_)));
        }

        #[test]
        fn a_cut_record_is_never_a_whole_one(payload in 0..200_usize, cut: prop::sample::Index) {
            let bytes = example(1, payload);
            let cut = cut.index(bytes.len());
            prop_assert_eq!(matches!(find(&bytes[..cut]), Found::Record(_)), false);
            prop_assert_eq!(scan(&bytes[..cut]), (0, 0));
        }
    }
}
