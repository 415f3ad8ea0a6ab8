//! Subjects: converts values to tokens, and checks templates.

use whalewatch_core::Problem;

/// The longest token in bytes. A server accepts protocol lines of at most 4096 bytes.
const MAX_TOKEN: usize = 128;
/// The most fields in a subject.
const MAX_FIELDS: usize = 16;
/// The most bytes of fixed text in a subject.
const MAX_TEXT: usize = 1024;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Returns whether a byte appears unchanged in a token. Characters with a meaning in NATS (`.`,
/// `*`, `>`, blanks, the `$` of the server's subjects) are escaped, and everything outside
/// printable ASCII.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b".*>$%".contains(&byte)
}

/// Writes a value as one token. Different values give different tokens: other bytes are escaped as
/// `%2E`, an empty value becomes `%`, and a token longer than [`MAX_TOKEN`] is cut and ends with
/// `%h` and a hash of the whole value.
pub(crate) fn token(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() {
        return out.push(b'%');
    }
    let start = out.len();
    for &byte in value {
        if is_literal(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
        if out.len() - start > MAX_TOKEN {
            return cut(out, start, value);
        }
    }
}

/// Cuts the token at `start`, and appends `%h` and a hash of the value. No token that is not cut
/// has a `%` before a lower-case letter, so the two cannot be equal.
fn cut(out: &mut Vec<u8>, start: usize, value: &[u8]) {
    const SUM: usize = 18;
    let mut end = start + MAX_TOKEN - SUM;
    // Do not cut an escape in two.
    while out[end - 1] == b'%' || out[end - 2] == b'%' {
        end -= 1;
    }
    out.truncate(end);
    out.extend_from_slice(b"%h");
    let sum = fnv(value);
    for shift in (0..64).step_by(4).rev() {
        out.push(HEX[(sum >> shift & 15) as usize]);
    }
}

/// Returns the FNV-1a hash, which is the same on every host and in every version.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes the kind of an event. Its dots separate tokens: `process.exec` becomes two, so that
/// readers can subscribe to `process.*`.
pub(crate) fn kind(out: &mut Vec<u8>, kind: &[u8]) {
    for (place, word) in kind.split(|byte| *byte == b'.').enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        token(out, word);
    }
}

/// Checks whether a template makes valid subjects. [`Template::parse`] has accepted it.
///
/// [`Template::parse`]: whalewatch_kit::Template::parse
pub(crate) fn check(key: &str, template: &str) -> Option<Problem> {
    let skeleton = skeleton(template);
    let wrong = |message: &str, hint: &str| Some(Problem::new(key, message).hint(hint));
    if skeleton.text.is_empty() {
        return wrong(
            "the subject is empty",
            "write one such as \"whalewatch.{host.name}.{kind}\"",
        );
    }
    if skeleton.text.split('.').any(str::is_empty) {
        return wrong(
            "a token of the subject is empty",
            "write one dot between two tokens, and none at the start and the end",
        );
    }
    if let Some(odd) = skeleton.text.chars().find(|c| !c.is_ascii_graphic() || "*>".contains(*c)) {
        return wrong(
            &format!("a subject to publish to cannot have {odd:?}"),
            "use letters, digits, - and _",
        );
    }
    if skeleton.text.starts_with('$') {
        return wrong("subjects that begin with $ are reserved", "begin with a letter");
    }
    if skeleton.fields > MAX_FIELDS || skeleton.text.len() > MAX_TEXT {
        return wrong(
            &format!(
                "the subject is too long: more than {MAX_FIELDS} fields or {MAX_TEXT} bytes of text"
            ),
            "use only the fields that readers subscribe by; the payload has all of them",
        );
    }
    None
}

/// Returns the tokens that all subjects of the template begin with. They are empty if the first
/// token has a field.
pub(crate) fn common(template: &str) -> String {
    let skeleton = skeleton(template);
    let fixed = &skeleton.text[..skeleton.first.unwrap_or(skeleton.text.len())];
    match (skeleton.first, fixed.rfind('.')) {
        (None, _) => fixed.to_owned(),
        (Some(_), Some(dot)) => fixed[..dot].to_owned(),
        (Some(_), None) => String::new(),
    }
}

/// A template with `x` instead of each field.
struct Skeleton {
    text: String,
    fields: usize,
    /// Offset of the first field in `text`.
    first: Option<usize>,
}

fn skeleton(template: &str) -> Skeleton {
    let mut found = Skeleton { text: String::new(), fields: 0, first: None };
    let mut rest = template;
    while let Some(brace) = rest.find(['{', '}']) {
        found.text.push_str(&rest[..brace]);
        let tail = &rest[brace..];
        if tail.starts_with("{{") || tail.starts_with("}}") {
            found.text.push_str(&tail[..1]);
            rest = &tail[2..];
            continue;
        }
        found.first.get_or_insert(found.text.len());
        found.text.push('x');
        found.fields += 1;
        rest = tail.find('}').map_or("", |end| &tail[end + 1..]);
    }
    found.text.push_str(rest);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(write: impl Fn(&mut Vec<u8>, &[u8]), value: &[u8]) -> String {
        let mut out = Vec::new();
        write(&mut out, value);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn values_become_one_token_and_kinds_keep_their_dots() {
        for (value, want) in [
            (&b"web-1"[..], "web-1"),
            (b"node-1.example.com", "node-1%2Eexample%2Ecom"),
            (b"a b\t*>", "a%20b%09%2A%3E"),
            (b"$SYS", "%24SYS"),
            (b"%2E", "%252E"),
            (b"\xff\0", "%FF%00"),
            ("é".as_bytes(), "%C3%A9"),
            (b"", "%"),
        ] {
            assert_eq!(made(token, value), want, "{value:?}");
        }
        assert_eq!(made(kind, b"process.exec"), "process.exec");
        assert_eq!(made(kind, b"odd..k*nd"), "odd.%.k%2And");
    }

    #[test]
    fn long_values_are_cut_and_remain_distinct() {
        let (a, b) = ([b'a'; 500], [b'a'; 501]);
        assert_eq!(made(token, &a).len(), MAX_TOKEN);
        assert_ne!(made(token, &a), made(token, &b));
        assert_eq!(made(token, &a[..MAX_TOKEN]).len(), MAX_TOKEN);
        assert!(made(token, &[b' '; 500]).len() <= MAX_TOKEN);
    }

    #[test]
    fn check_refuses_templates_that_cannot_be_subjects() {
        for (template, part) in [
            ("", "empty"),
            ("a..{kind}", "token"),
            (".a", "token"),
            ("a.", "token"),
            ("a b", "' '"),
            ("a.*", "'*'"),
            ("a.>", "'>'"),
            ("$JS.{kind}", "reserved"),
            (&"{kind}".repeat(17), "too long"),
        ] {
            let problem = check("subject", template).expect(template);
            assert!(problem.message.contains(part), "{template}: {}", problem.message);
            assert!(problem.hint.is_some());
        }
        assert_eq!(check("subject", "whalewatch.{host.name}.{container.name|-}.{kind}"), None);
    }

    #[test]
    fn common_returns_the_fixed_tokens_at_the_start() {
        for (template, want) in [
            ("whalewatch.{host.name}.{kind}", "whalewatch"),
            ("a.b-{kind}", "a"),
            ("a.b", "a.b"),
            ("{kind}.a", ""),
        ] {
            assert_eq!(common(template), want, "{template}");
        }
    }

    proptest! {
        #[test]
        fn any_value_becomes_one_valid_token(value: Vec<u8>) {
            let token = made(token, &value);
            prop_assert!(!token.is_empty() && token.len() <= MAX_TOKEN);
            prop_assert!(token.bytes().all(|b| b.is_ascii_graphic() && !b".*>$".contains(&b)));
        }

        #[test]
        fn different_values_give_different_tokens(
            a in "[a%.*0-9 é]{0,60}|.{100,200}",
            b in "[a%.*0-9 é]{0,60}|.{100,200}",
        ) {
            prop_assert_eq!(a == b, made(token, a.as_bytes()) == made(token, b.as_bytes()));
        }

        #[test]
        fn a_short_token_can_be_decoded(value in prop::collection::vec(any::<u8>(), 1..40)) {
            let token = made(token, &value);
            let (mut read, mut rest) = (Vec::new(), token.as_bytes());
            while let Some((&byte, tail)) = rest.split_first() {
                if byte == b'%' {
                    let hex = std::str::from_utf8(&tail[..2]).expect("ASCII");
                    read.push(u8::from_str_radix(hex, 16).expect("two digits"));
                    rest = &tail[2..];
                } else {
                    read.push(byte);
                    rest = tail;
                }
            }
            prop_assert_eq!(read, value);
        }
    }
}
