//! Escapes text of traced programs: nothing in an argument or a file name can end a line, control a
//! terminal, or make a line look different from what it is.

/// Whether a character outside ASCII could deceive a terminal or a reader: C1 controls, line
/// separators, marks that change the writing direction, and invisible characters.
fn deceives(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Writes `\uXXXX`.
fn push_u16(out: &mut Vec<u8>, unit: u16) {
    let digit = |shift: u16| HEX[usize::from(unit >> shift & 0xf)];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

/// Writes `\uXXXX`, or `\UXXXXXXXX` if four digits are not enough, as in a shell's `$'…'`.
fn push_code_point(out: &mut Vec<u8>, c: char) {
    if let Ok(unit) = u16::try_from(u32::from(c)) {
        return push_u16(out, unit);
    }
    out.extend_from_slice(b"\\U");
    for shift in (0..32).step_by(4).rev() {
        out.push(HEX[(u32::from(c) >> shift & 0xf) as usize]);
    }
}

/// Writes `\xXX`.
fn push_hex(out: &mut Vec<u8>, byte: u8) {
    let digit = |shift: u8| HEX[usize::from(byte >> shift & 0xf)];
    out.extend_from_slice(&[b'\\', b'x', digit(4), digit(0)]);
}

/// The bytes that need no escape in a JSON string: printable ASCII except `"` and `\`.
const PLAIN_IN_JSON: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte as u8 != b'"' && byte as u8 != b'\\';
        byte += 1;
    }
    plain
};

/// Writes a JSON string, with its quotes. Bytes that are not UTF-8 become U+FFFD.
pub fn json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    // Almost all text is plain, so this path must be fast.
    let plain = text.iter().position(|&b| !PLAIN_IN_JSON[usize::from(b)]).unwrap_or(text.len());
    out.extend_from_slice(&text[..plain]);
    if plain < text.len() {
        json_escaped(out, &text[plain..]);
    }
    out.push(b'"');
}

fn json_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        chunk.valid().chars().for_each(|c| json_char(out, c));
        if !chunk.invalid().is_empty() {
            push_char(out, char::REPLACEMENT_CHARACTER);
        }
    }
}

fn json_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..='\x1f' | '\x7f' => push_u16(out, c as u16),
        c if deceives(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|&u| push_u16(out, u)),
        c => push_char(out, c),
    }
}

/// Writes text for a terminal. Characters that could deceive, and `\` itself, become escapes that a
/// shell's `$'…'` understands; bytes that are not UTF-8 become `\xff`. Different texts always look
/// different.
pub fn visible(out: &mut Vec<u8>, text: &[u8]) {
    escaped(out, text, false);
}

fn escaped(out: &mut Vec<u8>, text: &[u8], quoted: bool) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.extend_from_slice(b"\\\\"),
                '\'' if quoted => out.extend_from_slice(b"\\'"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                '\0'..='\x1f' | '\x7f' => push_hex(out, c as u8),
                c if deceives(c) => push_code_point(out, c),
                c => push_char(out, c),
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_hex(out, byte));
    }
}

/// Writes one word of a command line as it would be typed into a shell: as it is, in `'…'`, or, if
/// something in it must be escaped, in `$'…'`.
pub fn shell_word(out: &mut Vec<u8>, word: &[u8]) {
    let bare = |b: &u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(b);
    if !word.is_empty() && word.iter().all(bare) {
        out.extend_from_slice(word);
        return;
    }
    let shown = |text: &str| !text.chars().any(|c| c.is_ascii_control() || deceives(c));
    match std::str::from_utf8(word) {
        Ok(text) if shown(text) && !text.contains('\'') => {
            out.push(b'\'');
            out.extend_from_slice(word);
            out.push(b'\'');
        }
        _ => {
            out.extend_from_slice(b"$'");
            escaped(out, word, true);
            out.push(b'\'');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>, &[u8]), text: &[u8]) -> String {
        let mut out = Vec::new();
        write(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_strings_escape_what_could_deceive() {
        for (text, want) in [
            (&b""[..], r#""""#),
            (b"plain /bin/true --x=1", r#""plain /bin/true --x=1""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"\n\r\t\x1b[2J\0\x7f", r#""\n\r\t\u001b[2J\u0000\u007f""#),
            ("caf\u{e9} \u{1f40b}".as_bytes(), "\"caf\u{e9} \u{1f40b}\""),
            ("\u{9b}\u{85}".as_bytes(), r#""\u009b\u0085""#),
            (
                "\u{202e}\u{2066}\u{2028}\u{2029}\u{200f}".as_bytes(),
                r#""\u202e\u2066\u2028\u2029\u200f""#,
            ),
            ("\u{e0041}".as_bytes(), r#""\udb40\udc41""#),
            (b"a\xff\xfeb", "\"a\u{fffd}\u{fffd}b\""),
        ] {
            assert_eq!(written(json_string, text), want, "{text:?}");
        }
    }

    #[test]
    fn different_texts_look_different() {
        for (text, want) in [
            (&b"web-1"[..], "web-1"),
            (b"\x1b[31m\n", r"\x1b[31m\n"),
            (b"a\\n", r"a\\n"),
            ("\u{202e}x\u{9b}".as_bytes(), r"\u202ex\u009b"),
            ("\u{e0041}".as_bytes(), r"\U000e0041"),
            (b"\xff", r"\xff"),
        ] {
            assert_eq!(written(visible, text), want, "{text:?}");
        }
    }

    #[test]
    fn shell_words_can_be_typed_into_a_shell() {
        for (word, want) in [
            (&b"--name=x"[..], "--name=x"),
            (b"", "''"),
            (b"echo hi; ls", "'echo hi; ls'"),
            (b"it's", r"$'it\'s'"),
            (b"a\nb", r"$'a\nb'"),
            (b"a\\b", r"'a\b'"),
            (b"\xff", r"$'\xff'"),
            ("\u{202e}".as_bytes(), r"$'\u202e'"),
        ] {
            assert_eq!(written(shell_word, word), want, "{word:?}");
        }
    }

    proptest! {
        #[test]
        fn json_string_reads_back_unchanged(text: String) {
            let json = written(json_string, text.as_bytes());
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn no_bytes_break_a_line_or_control_the_terminal(bytes: Vec<u8>) {
            for write in [json_string, visible, shell_word] {
                let shown = written(write, &bytes);
                prop_assert!(!shown.chars().any(|c| c.is_control() || deceives(c)), "{:?}", shown);
            }
        }
    }
}
