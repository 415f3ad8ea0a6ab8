//! Subjects: values of events made into tokens, and templates checked before anything runs.

use whalewatch_core::Problem;

/// Longer tokens are cut: a server takes lines of 4096 bytes, with everything in them.
const LONGEST_TOKEN: usize = 128;
/// Values that a subject may have in it.
const MOST_FIELDS: usize = 16;
/// What may stand in a subject beside values.
const MOST_TEXT: usize = 1024;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Whether a byte stands for itself in a token: what NATS gives a meaning to (`.`, `*`, `>`,
/// blanks, `$` of its own subjects) does not, and nothing outside printable ASCII.
fn stands(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b".*>$%".contains(&byte)
}

/// Writes a value as one token. Different values give different tokens: bytes that cannot stand in
/// one are written `%2E`, nothing at all is `%`, and what is longer than 128 bytes is cut and ends
/// with `%` and a sum over all of it.
pub(crate) fn token(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() {
        return out.push(b'%');
    }
    let start = out.len();
    for &byte in value {
        if stands(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
        if out.len() - start > LONGEST_TOKEN {
            return cut(out, start, value);
        }
    }
}

/// Cuts the token that begins at `start`, and ends it with a sum over the value. No whole token has
/// a `%` that is followed by a small letter, so it cannot be taken for another's.
fn cut(out: &mut Vec<u8>, start: usize, value: &[u8]) {
    const SUM: usize = 18;
    let mut end = start + LONGEST_TOKEN - SUM;
    // Not in the middle of an escape.
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

/// FNV-1a: the same on every host and in every version.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Writes the kind of an event, whose dots part tokens: `process.exec` are two, so that `process.*`
/// can be subscribed to.
pub(crate) fn kind(out: &mut Vec<u8>, kind: &[u8]) {
    for (place, word) in kind.split(|byte| *byte == b'.').enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        token(out, word);
    }
}

/// What is wrong with the text of a template as a subject. Its braces have been found to be in
/// order.
pub(crate) fn check(key: &str, template: &str) -> Option<Problem> {
    let skeleton = skeleton(template);
    let wrong = |message: &str, hint: &str| Some(Problem::new(key, message).hint(hint));
    if skeleton.text.is_empty() {
        return wrong(
            "the subject is empty",
            "write for example \"whalewatch.{host.name}.{kind}\"",
        );
    }
    if skeleton.text.split('.').any(str::is_empty) {
        return wrong(
            "a token of the subject is empty",
            "dots stand between tokens: not first, not last, not twice",
        );
    }
    if let Some(odd) = skeleton.text.chars().find(|c| !c.is_ascii_graphic() || "*>".contains(*c)) {
        return wrong(
            &format!("{odd:?} cannot stand in a subject that is published to"),
            "use letters, digits, - and _",
        );
    }
    if skeleton.text.starts_with('$') {
        return wrong("subjects that begin with $ are the server's own", "begin with a letter");
    }
    if skeleton.fields > MOST_FIELDS || skeleton.text.len() > MOST_TEXT {
        return wrong(
            &format!(
                "the subject is too long for a server: more than {MOST_FIELDS} fields or {MOST_TEXT} bytes of text"
            ),
            "leave to the payload what is not subscribed by",
        );
    }
    None
}

/// The tokens that every subject of the template begins with; empty where the first is a value.
pub(crate) fn common(template: &str) -> String {
    let skeleton = skeleton(template);
    let fixed = &skeleton.text[..skeleton.first.unwrap_or(skeleton.text.len())];
    match (skeleton.first, fixed.rfind('.')) {
        (None, _) => fixed.to_owned(),
        (Some(_), Some(dot)) => fixed[..dot].to_owned(),
        (Some(_), None) => String::new(),
    }
}

/// A template with `x` in the place of each field.
struct Skeleton {
    text: String,
    fields: usize,
    /// Where the first field stands.
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
    fn values_become_one_token_each_and_kinds_keep_their_dots() {
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
    fn long_values_are_cut_and_stay_apart() {
        let (a, b) = ([b'a'; 500], [b'a'; 501]);
        assert_eq!(made(token, &a).len(), LONGEST_TOKEN);
        assert_ne!(made(token, &a), made(token, &b));
        assert_eq!(made(token, &a[..LONGEST_TOKEN]).len(), LONGEST_TOKEN);
        assert!(made(token, &[b' '; 500]).len() <= LONGEST_TOKEN);
    }

    #[test]
    fn templates_that_cannot_be_subjects_are_told() {
        for (template, part) in [
            ("", "empty"),
            ("a..{kind}", "token"),
            (".a", "token"),
            ("a.", "token"),
            ("a b", "' '"),
            ("a.*", "'*'"),
            ("a.>", "'>'"),
            ("$JS.{kind}", "server's own"),
            (&"{kind}".repeat(17), "too long"),
        ] {
            let problem = check("subject", template).expect(template);
            assert!(problem.message.contains(part), "{template}: {}", problem.message);
            assert!(problem.hint.is_some());
        }
        assert_eq!(check("subject", "whalewatch.{host.name}.{container.name|-}.{kind}"), None);
    }

    #[test]
    fn what_all_subjects_begin_with_is_known() {
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
        fn a_token_is_always_one_and_valid(value: Vec<u8>) {
            let token = made(token, &value);
            prop_assert!(!token.is_empty() && token.len() <= LONGEST_TOKEN);
            prop_assert!(token.bytes().all(|b| b.is_ascii_graphic() && !b".*>$".contains(&b)));
        }

        #[test]
        fn different_values_give_different_tokens(a in "[a%.*0-9 é]{0,60}|.{100,200}", b in "[a%.*0-9 é]{0,60}|.{100,200}") {
            prop_assert_eq!(a == b, made(token, a.as_bytes()) == made(token, b.as_bytes()));
        }

        #[test]
        fn a_token_that_was_not_cut_reads_back(value in prop::collection::vec(any::<u8>(), 1..40)) {
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
