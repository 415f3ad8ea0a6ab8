//! The part of Protocol Buffers that logs need. Fields are written directly to a buffer without
//! building a message first, so an event costs no allocation.
//!
//! See <https://protobuf.dev/programming-guides/encoding/>.

/// How a field is encoded.
#[derive(Clone, Copy)]
enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn tag(out: &mut Vec<u8>, field: u32, wire: WireType) {
    varint(out, u64::from(field << 3 | wire as u32));
}

/// Writes a number as 8 bytes, which is shorter than a varint for most large numbers.
pub(crate) fn fixed64(out: &mut Vec<u8>, field: u32, number: u64) {
    tag(out, field, WireType::Fixed64);
    out.extend_from_slice(&number.to_le_bytes());
}

/// Writes a number as a varint. A negative one is written in two's complement.
pub(crate) fn int(out: &mut Vec<u8>, field: u32, number: i64) {
    tag(out, field, WireType::Varint);
    varint(out, number as u64);
}

/// Writes text, bytes or an encoded message.
pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, content: &[u8]) {
    head(out, field, content.len());
    out.extend_from_slice(content);
}

/// Writes the tag and the length of a field with a content of `length` bytes.
pub(crate) fn head(out: &mut Vec<u8>, field: u32, length: usize) {
    tag(out, field, WireType::Bytes);
    varint(out, length as u64);
}

/// Writes a message or a text. `write` appends its content.
pub(crate) fn message<T>(
    out: &mut Vec<u8>,
    field: u32,
    write: impl FnOnce(&mut Vec<u8>) -> T,
) -> T {
    tag(out, field, WireType::Bytes);
    // The length is before the content, but known only after it. Most messages are short, so one
    // byte is reserved, and the content of a long message is moved.
    let place = out.len();
    out.push(0);
    let result = write(out);
    let length = out.len() - place - 1;
    if length < 0x80 {
        out[place] = length as u8;
    } else {
        let extra = (usize::BITS - length.leading_zeros()).div_ceil(7) as usize - 1;
        out.resize(out.len() + extra, 0);
        out.copy_within(place + 1..place + 1 + length, place + 1 + extra);
        let mut rest = length;
        for byte in &mut out[place..place + extra] {
            *byte = rest as u8 | 0x80;
            rest >>= 7;
        }
        out[place + extra] = rest as u8;
    }
    result
}

/// Returns the number of bytes that [`bytes()`] writes for a field number below 16.
pub(crate) fn bytes_len(content: usize) -> usize {
    let bits = usize::BITS - (content | 1).leading_zeros();
    1 + bits.div_ceil(7) as usize + content
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Inner {
        #[prost(bytes = "vec", tag = "1")]
        content: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Outer {
        #[prost(int64, tag = "1")]
        number: i64,
        #[prost(fixed64, tag = "2")]
        fixed: u64,
        #[prost(message, repeated, tag = "6")]
        inner: Vec<Inner>,
    }

    proptest! {
        #[test]
        fn encoding_equals_that_of_prost(
            number: i64, fixed in 1u64.., lengths in prop::collection::vec(0usize..40_000, 0..4)
        ) {
            prop_assume!(number != 0);
            let content = |length: &usize| vec![b'x'; *length];
            let mut out = Vec::new();
            int(&mut out, 1, number);
            fixed64(&mut out, 2, fixed);
            for length in lengths.iter().filter(|length| **length > 0) {
                let start = out.len();
                message(&mut out, 6, |out| bytes(out, 1, &content(length)));
                prop_assert_eq!(out.len() - start, bytes_len(bytes_len(*length)));
            }
            let inner = lengths.iter().filter(|length| **length > 0);
            let inner = inner.map(|length| Inner { content: content(length) }).collect();
            prop_assert_eq!(out, Outer { number, fixed, inner }.encode_to_vec());
        }
    }
}
