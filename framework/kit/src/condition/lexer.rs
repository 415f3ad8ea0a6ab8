//! Lexer: splits a condition into the tokens of CEL.

use std::str::Chars;

use super::syntax::SyntaxError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier or a reserved word.
    Name(String),
    /// A number without its sign, and whether it has the suffix `u`.
    Number(u64, bool),
    Text(String),
    Sign(&'static str),
    End,
}

/// Longer signs come first, so that `<=` is not read as `<`.
const SIGNS: &[&str] =
    &["==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ",", ".", "-"];

/// Returns every token with its byte offset. The last one is [`Token::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = skip_space(rest);
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            tokens.push((Token::End, at));
            return Ok(tokens);
        };
        let (token, after) = if let Some((raw, body)) = string_start(rest) {
            quoted(body, raw).map_err(|message| SyntaxError::new(at, message))?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            (Token::Name(name.to_owned()), after)
        } else if first.is_ascii_digit() {
            number(rest).map_err(|message| SyntaxError::new(at, message))?
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Token::Sign(sign), &rest[sign.len()..])
        } else {
            return Err(unexpected(at, first));
        };
        tokens.push((token, at));
        rest = after;
    }
}

/// Skips white space and comments.
fn skip_space(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        match text.strip_prefix("//") {
            Some(comment) => text = comment.find('\n').map_or("", |end| &comment[end..]),
            None => return text,
        }
    }
}

fn unexpected(at: usize, c: char) -> SyntaxError {
    let hint = match c {
        '=' => "to compare, write `==`",
        '&' => "for \"and\", write `&&`",
        '|' => "for \"or\", write `||`",
        '“' | '”' | '‘' | '’' | '`' => "quote strings with ' or \"",
        '+' | '*' | '/' | '%' | '?' | ':' | '{' | '}' => {
            let message = format!("`{c}` is not supported in a condition");
            return SyntaxError::new(at, message);
        }
        _ => return SyntaxError::new(at, format!("unexpected character {c:?}")),
    };
    SyntaxError::new(at, format!("unexpected `{c}`")).hint(hint)
}

fn number(text: &str) -> Result<(Token, &str), String> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((text, 10), |digits| (digits, 16));
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (digits, after) = digits.split_at(end);
    if after.starts_with('.') && after[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return Err("numbers with a fraction are not supported in a condition".to_owned());
    }
    let unsigned = after.strip_prefix(['u', 'U']);
    let after = unsigned.unwrap_or(after);
    if digits.is_empty() || after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return Err("invalid number: write for example 42, 42u or 0x2a".to_owned());
    }
    let value = u64::from_str_radix(digits, radix)
        .map_err(|_| format!("{digits} is too large: numbers have 64 bits"))?;
    Ok((Token::Number(value, unsigned.is_some()), after))
}

/// If a string starts here, returns whether it is raw, and the text from its opening quote on.
fn string_start(text: &str) -> Option<(bool, &str)> {
    let body = text.strip_prefix(['r', 'R']);
    let (raw, body) = body.map_or((false, text), |body| (true, body));
    body.starts_with(['\'', '"']).then_some((raw, body))
}

/// Reads a string, starting at its opening quote.
fn quoted(text: &str, raw: bool) -> Result<(Token, &str), String> {
    let long = ["'''", "\"\"\""].into_iter().find(|quote| text.starts_with(quote));
    let quote = long.unwrap_or(&text[..1]);
    let mut chars = text[quote.len()..].chars();
    let mut value = String::new();
    loop {
        if let Some(after) = chars.as_str().strip_prefix(quote) {
            return Ok((Token::Text(value), after));
        }
        match chars.next() {
            None => return Err(format!("this string has no closing {quote}")),
            Some('\n' | '\r') if long.is_none() => {
                return Err(format!("this string has no closing {quote} on its line"));
            }
            Some('\\') if !raw => value.push(escape(&mut chars)?),
            Some(c) => value.push(c),
        }
    }
}

/// Reads an escape sequence, starting after its backslash.
fn escape(chars: &mut Chars<'_>) -> Result<char, String> {
    let letter = chars.next().unwrap_or('\\');
    let (count, radix) = match letter {
        'a' => return Ok('\x07'),
        'b' => return Ok('\x08'),
        'f' => return Ok('\x0c'),
        'n' => return Ok('\n'),
        'r' => return Ok('\r'),
        't' => return Ok('\t'),
        'v' => return Ok('\x0b'),
        '\\' | '?' | '"' | '\'' | '`' => return Ok(letter),
        'x' | 'X' => (2, 16),
        'u' => (4, 16),
        'U' => (8, 16),
        '0'..='3' => (2, 8),
        _ => return Err(format!("unknown escape `\\{letter}`: for a backslash write `\\\\`")),
    };
    let mut code = letter.to_digit(8).unwrap_or(0);
    for _ in 0..count {
        let digit = chars.next().and_then(|c| c.to_digit(radix));
        let next = digit.and_then(|d| code.checked_mul(radix)?.checked_add(d));
        code = next.ok_or_else(|| format!("`\\{letter}` must be followed by {count} digits"))?;
    }
    char::from_u32(code).ok_or_else(|| format!("U+{code:X} is not a character"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Token, String> {
        tokens(text).map(|mut tokens| tokens.remove(0).0).map_err(|e| e.message)
    }

    #[test]
    fn strings_are_read_as_in_cel() {
        for (text, want) in [
            (r"'a'", "a"),
            (r#""it's""#, "it's"),
            (r"'a\n\t\\\'\x41\u00e9\U0001F40B\101'", "a\n\t\\'A\u{e9}\u{1F40B}A"),
            (r"r'\d\n'", r"\d\n"),
            ("'''a'b\n'''", "a'b\n"),
            ("\"\"\"\"\"\"", ""),
            ("''", ""),
        ] {
            assert_eq!(one(text), Ok(Token::Text(want.to_owned())), "{text}");
        }
        for text in
            ["'a", "'a\nb'", r"'\q'", r"'\x4'", r"'\ud800'", r"'\UFFFFFFFF'", "'''a'", r"'\"]
        {
            assert!(one(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_have_64_bits_and_no_fraction() {
        assert_eq!(one("42"), Ok(Token::Number(42, false)));
        assert_eq!(one("0x2Au"), Ok(Token::Number(42, true)));
        assert_eq!(one("18446744073709551615u"), Ok(Token::Number(u64::MAX, true)));
        for text in ["18446744073709551616", "1.5", "0x", "12ab", "0xg"] {
            assert!(one(text).is_err(), "{text}");
        }
    }

    #[test]
    fn comments_and_space_are_skipped() {
        let tokens = tokens(" a // b\n == \t1 // end").unwrap();
        assert_eq!(tokens.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [1, 9, 13, 21]);
    }
}
