//! Label values: turns any bytes that a traced program may choose into text that every reader of
//! the format accepts.

use whalewatch_core::Value;
use whalewatch_kit::{Clock, fields::write_plain};

/// Ends each value in a combination. UTF-8 text never contains this byte, so different combinations
/// have different bytes.
pub(crate) const SEPARATOR: u8 = 0xff;

/// Longest value, in bytes. A longer one is cut and ends with an ellipsis.
pub(crate) const LONGEST: usize = 256;

const ELLIPSIS: &str = "…";

/// Appends a value and the [`SEPARATOR`]. Bytes that are not UTF-8 become U+FFFD, as in JSON, and
/// so does NUL, which some readers treat as the end. This happens before values are compared, so
/// two values that are written alike are one series.
pub(crate) fn push(out: &mut Vec<u8>, clock: &mut Clock, value: Value<'_>) {
    match value {
        Value::Null => {}
        Value::Text(text) => push_text(out, text),
        Value::Texts(_) => {
            let start = out.len();
            write_plain(out, clock, value);
            if !is_plain(&out[start..]) {
                let text = out.split_off(start);
                push_text(out, &text);
            }
        }
        // Numbers and other values that need no escaping.
        value => write_plain(out, clock, value),
    }
    out.push(SEPARATOR);
}

/// Whether the text can be written unchanged.
fn is_plain(text: &[u8]) -> bool {
    text.len() <= LONGEST && !text.contains(&0) && std::str::from_utf8(text).is_ok()
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        out.extend_from_slice(text);
        return;
    }
    let start = out.len();
    // Where to cut if the text is too long.
    let mut cut = start;
    for chunk in text.utf8_chunks() {
        let invalid = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        for c in chunk.valid().chars().chain(invalid) {
            let c = if c == '\0' { char::REPLACEMENT_CHARACTER } else { c };
            if out.len() + c.len_utf8() > start + LONGEST {
                out.truncate(cut);
                out.extend_from_slice(ELLIPSIS.as_bytes());
                return;
            }
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            if out.len() + ELLIPSIS.len() <= start + LONGEST {
                cut = out.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whalewatch_core::Texts;

    use super::*;

    fn written(value: Value<'_>) -> String {
        let mut out = Vec::new();
        push(&mut out, &mut Clock::new(), value);
        assert_eq!(out.pop(), Some(SEPARATOR));
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn plain_values_are_written_unchanged() {
        for (value, want) in [
            (Value::Null, ""),
            (Value::Bool(true), "true"),
            (Value::Int(-5), "-5"),
            (Value::Uint(7), "7"),
            (Value::Text(b"a\n\"\\ b"), "a\n\"\\ b"),
            (Value::Text("caf\u{e9}".as_bytes()), "caf\u{e9}"),
            (Value::Text(b"a\xff\0b"), "a\u{fffd}\u{fffd}b"),
            (Value::Texts(Texts(b"sh\0-c\0\xff\0")), "sh -c \u{fffd}"),
        ] {
            assert_eq!(written(value), want, "{value:?}");
        }
    }

    #[test]
    fn long_value_is_cut_between_characters_with_an_ellipsis() {
        assert_eq!(written(Value::Text(&[b'a'; LONGEST])), "a".repeat(LONGEST));
        let want = "a".repeat(LONGEST - 3) + "…";
        assert_eq!(written(Value::Text(&[b'a'; LONGEST + 1])), want);
        let wide = "\u{e9}".repeat(LONGEST);
        assert_eq!(written(Value::Text(wide.as_bytes())), "\u{e9}".repeat(126) + "…");
        let bad = [0xff; LONGEST];
        assert_eq!(written(Value::Text(&bad)), "\u{fffd}".repeat(84) + "…");
    }

    proptest! {
        #[test]
        fn any_bytes_become_text_of_bounded_length(
            bytes in prop::collection::vec(any::<u8>(), 0..700),
        ) {
            for value in [Value::Text(&bytes), Value::Texts(Texts(&bytes))] {
                let text = written(value);
                prop_assert!(text.len() <= LONGEST && !text.contains('\0'));
            }
        }
    }
}
