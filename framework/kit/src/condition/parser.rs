//! Parser: a recursive descent over the subset of CEL that conditions use.
//!
//! The `cel` crate (0.15) has a parser with positions, too. It depends on the ANTLR runtime, a
//! generated parser of many thousand lines, an interpreter and some twenty other packages, and
//! conditions, which are compiled here, would use almost none of that. Its error messages are those
//! of a grammar; ours say what to write instead. The language read here is a strict subset of CEL,
//! so conditions stay valid if that crate ever replaces this parser.

use super::lexer::{Token, tokens};
use super::syntax::{Expr, Method, Node, Op, SyntaxError};

/// The deepest nesting of parentheses, lists, calls and negations. People write far less; the stack
/// has room for far more, here and wherever a condition is walked recursively.
const MAX_DEPTH: usize = 64;

/// Parses a condition.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    if *parser.peek() == Token::End {
        return Err(SyntaxError::new(0, "the condition is empty")
            .hint("write for example `process.user.id == 0`"));
    }
    let node = parser.any()?;
    if *parser.peek() == Token::End { Ok(node) } else { Err(parser.unexpected("an operator")) }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
}

type Parsed = Result<Node, SyntaxError>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].0
    }

    fn at(&self) -> usize {
        self.tokens[self.next].1
    }

    /// Takes the next token, but never the end.
    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    /// Takes the next token if it is this sign.
    fn accept(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), SyntaxError> {
        if self.accept(sign) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&self, expected: &str) -> SyntaxError {
        let found = match self.peek() {
            Token::Name(name) => format!("`{name}`"),
            Token::Number(number, _) => format!("{number}"),
            Token::Text(_) => "a string".to_owned(),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        };
        let error = SyntaxError::new(self.at(), format!("expected {expected}, found {found}"));
        match self.peek() {
            Token::Name(name) if name == "and" => error.hint("write `&&`"),
            Token::Name(name) if name == "or" => error.hint("write `||`"),
            Token::Name(name) if name == "not" => error.hint("write `!`"),
            _ => error,
        }
    }

    /// Reads something one level deeper, unless that is too deep.
    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        if self.depth == MAX_DEPTH {
            let message = format!("nested too deeply: at most {MAX_DEPTH} levels are allowed");
            return Err(SyntaxError::new(self.at(), message));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn any(&mut self) -> Parsed {
        self.chain("||", Self::all, Expr::Any)
    }

    fn all(&mut self) -> Parsed {
        self.chain("&&", Self::relation, Expr::All)
    }

    /// Reads one part, or several joined by `sign`.
    fn chain(
        &mut self,
        sign: &str,
        part: fn(&mut Self) -> Parsed,
        join: fn(Vec<Node>) -> Expr,
    ) -> Parsed {
        let first = part(self)?;
        if !self.accept(sign) {
            return Ok(first);
        }
        let at = first.at;
        let mut parts = vec![first, part(self)?];
        while self.accept(sign) {
            parts.push(part(self)?);
        }
        Ok(Node { expr: join(parts), at })
    }

    fn relation(&mut self) -> Parsed {
        let left = self.unary()?;
        let at = left.at;
        let relation = match self.peek() {
            Token::Name(name) if name == "in" => None,
            Token::Sign(sign) => match Op::parse(sign) {
                Some(op) => Some(op),
                None => return Ok(left),
            },
            _ => return Ok(left),
        };
        self.take();
        let right = self.unary()?;
        let (left, right) = (Box::new(left), Box::new(right));
        let expr = match relation {
            Some(op) => Expr::Compare(op, left, right),
            None => Expr::In(left, right),
        };
        // CEL reads `a < b < c` as `(a < b) < c`, which is never what the author meant.
        if let Token::Sign(sign) = self.peek()
            && Op::parse(sign).is_some()
        {
            let message = "comparisons cannot be chained";
            return Err(SyntaxError::new(self.at(), message)
                .hint("join them with `&&`, or put one in parentheses"));
        }
        Ok(Node { expr, at })
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        if self.accept("!") {
            let of = self.nested(Self::unary)?;
            return Ok(Node { expr: Expr::Not(Box::new(of)), at });
        }
        self.member()
    }

    /// Reads a value and the methods called on it.
    fn member(&mut self) -> Parsed {
        let mut node = self.primary()?;
        while self.accept(".") {
            let name_at = self.at();
            let Token::Name(name) = self.take() else {
                return Err(SyntaxError::new(name_at, "expected a name after `.`"));
            };
            if !self.accept("(") {
                match &mut node.expr {
                    Expr::Path(path) => {
                        path.push('.');
                        path.push_str(&name);
                        continue;
                    }
                    _ => return Err(SyntaxError::new(name_at, "only a field can have fields")),
                }
            }
            // Checked here and not with the types, since it would get around the limit on depth.
            if matches!(node.expr, Expr::Method(_)) {
                let message = "methods cannot be called on the result of a method";
                return Err(SyntaxError::new(name_at, message));
            }
            let args = self.nested(|parser| parser.list(")"))?;
            let at = node.at;
            let method = Method { target: node, name, name_at, args };
            node = Node { expr: Expr::Method(Box::new(method)), at };
        }
        Ok(node)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let expr = match self.peek().clone() {
            Token::Sign("(") => {
                self.take();
                let mut inner = self.nested(Self::any)?;
                self.expect(")")?;
                inner.at = at;
                return Ok(inner);
            }
            Token::Sign("[") => {
                self.take();
                Expr::List(self.nested(|parser| parser.list("]"))?)
            }
            Token::Sign("-") => {
                self.take();
                match self.peek() {
                    Token::Number(..) => self.number(true)?,
                    _ => return Err(self.unexpected("a number")),
                }
            }
            Token::Number(..) => self.number(false)?,
            Token::Text(text) => {
                self.take();
                Expr::Text(text)
            }
            Token::Name(name) if name != "in" => {
                self.take();
                return self.named(name, at);
            }
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { expr, at })
    }

    /// Reads what starts with a name: a literal, `has(…)`, `size(…)` or a field.
    fn named(&mut self, name: String, at: usize) -> Parsed {
        let expr = match &*name {
            "true" => Expr::Bool(true),
            "false" => Expr::Bool(false),
            "null" => Expr::Null,
            _ if !self.accept("(") => Expr::Path(name),
            "has" => {
                let mut args = self.nested(|parser| parser.list(")"))?;
                match args.pop() {
                    Some(arg) if args.is_empty() && matches!(arg.expr, Expr::Path(_)) => {
                        Expr::Has(Box::new(arg))
                    }
                    _ => {
                        let hint = "write for example `has(container.name)`";
                        return Err(SyntaxError::new(at, "`has` takes one field").hint(hint));
                    }
                }
            }
            "size" => {
                let mut args = self.nested(|parser| parser.list(")"))?;
                match args.pop() {
                    // As for methods, a call within a call would get around the limit on depth.
                    Some(target) if args.is_empty() && !matches!(target.expr, Expr::Method(_)) => {
                        Expr::Method(Box::new(Method { target, name, name_at: at, args }))
                    }
                    _ => {
                        let hint = "write for example `size(process.command_args) == 1`";
                        let message = "`size` takes one field";
                        return Err(SyntaxError::new(at, message).hint(hint));
                    }
                }
            }
            _ => {
                let message = format!("there is no function `{name}`");
                let hint = "available are `has(field)`, `size(field)` and the methods \
                            `.startsWith(string)`, `.endsWith(string)`, `.contains(string)`, \
                            `.matches(regex)`, `.exists(e, condition)` and `.all(e, condition)`";
                return Err(SyntaxError::new(at, message).hint(hint));
            }
        };
        Ok(Node { expr, at })
    }

    fn number(&mut self, negative: bool) -> Result<Expr, SyntaxError> {
        let at = self.at();
        let Token::Number(digits, unsigned) = self.take() else {
            return Err(self.unexpected("a number"));
        };
        let value = if negative { -i128::from(digits) } else { i128::from(digits) };
        if unsigned && negative {
            return Err(SyntaxError::new(at, "a number with `u` cannot be negative"));
        }
        if !unsigned && i64::try_from(value).is_err() {
            let message = format!("{value} does not fit into a signed 64-bit number");
            let error = SyntaxError::new(at, message);
            return Err(if negative { error } else { error.hint(format!("write {digits}u")) });
        }
        Ok(Expr::Number(value))
    }

    /// Reads values up to the closing sign; the last may have a comma after it.
    fn list(&mut self, close: &str) -> Result<Vec<Node>, SyntaxError> {
        let mut items = Vec::new();
        while !self.accept(close) {
            items.push(self.any()?);
            if !self.accept(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the condition with every part in parentheses.
    fn shown(node: &Node) -> String {
        let list = |nodes: &[Node], by: &str| nodes.iter().map(shown).collect::<Vec<_>>().join(by);
        match &node.expr {
            Expr::Null => "null".to_owned(),
            Expr::Bool(value) => value.to_string(),
            Expr::Number(value) => value.to_string(),
            Expr::Text(text) => format!("{text:?}"),
            Expr::List(items) => format!("[{}]", list(items, ", ")),
            Expr::Path(path) => path.clone(),
            Expr::Not(of) => format!("!{}", shown(of)),
            Expr::All(parts) => format!("({})", list(parts, " && ")),
            Expr::Any(parts) => format!("({})", list(parts, " || ")),
            Expr::Compare(op, a, b) => format!("({} {} {})", shown(a), op.as_str(), shown(b)),
            Expr::In(a, b) => format!("({} in {})", shown(a), shown(b)),
            Expr::Method(m) => format!("{}.{}({})", shown(&m.target), m.name, list(&m.args, ", ")),
            Expr::Has(path) => format!("has({})", shown(path)),
        }
    }

    #[test]
    fn operators_bind_as_in_cel() {
        for (text, want) in [
            ("a == 1 || b && !c", "((a == 1) || (b && !c))"),
            ("(a || b) && c", "((a || b) && c)"),
            ("a.b.c in [1, -2, 3u,]", "(a.b.c in [1, -2, 3])"),
            ("!a.startsWith('x') == true", "(!a.startsWith(\"x\") == true)"),
            ("has(a.b) && a.b != null", "(has(a.b) && (a.b != null))"),
            ("'x' in a // why", "(\"x\" in a)"),
            ("-9223372036854775808 <= a", "(-9223372036854775808 <= a)"),
        ] {
            assert_eq!(parse(text).map(|node| shown(&node)).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        for (text, at, message, hint) in [
            ("", 0, "the condition is empty", "process.user.id == 0"),
            ("a = 1", 2, "unexpected `=`", "write `==`"),
            ("a == ", 5, "expected a value, found the end", ""),
            ("a and b", 2, "expected an operator, found `and`", "write `&&`"),
            ("(a", 2, "expected `)`, found the end", ""),
            ("a < b < c", 6, "comparisons cannot be chained", "`&&`"),
            ("a + 1", 2, "`+` is not supported", ""),
            ("length(a) > 1", 0, "there is no function `length`", "size(field)"),
            ("size(a, b) > 1", 0, "`size` takes one field", "size(process.command_args)"),
            ("has(1)", 0, "`has` takes one field", "has(container.name)"),
            ("a.1", 2, "expected a name after `.`", ""),
            ("'a'.b", 4, "only a field can have fields", ""),
            (
                "9223372036854775808",
                0,
                "does not fit into a signed 64-bit number",
                "write 9223372036854775808u",
            ),
            ("-1u", 1, "cannot be negative", ""),
            ("kind == 'x", 8, "no closing '", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error:?}");
            assert!(error.message.contains(message), "{text}: {error:?}");
            assert!(error.hint.unwrap_or_default().contains(hint), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        for open in ["(", "[", "!", "has(", "a.b(", "!(", "a in ["] {
            let error = parse(&open.repeat(100_000)).unwrap_err();
            assert!(error.message.contains("nested too deeply"), "{open}: {error:?}");
        }
        let calls = format!("a{}", ".b()".repeat(100_000));
        assert!(parse(&calls).unwrap_err().message.contains("methods cannot be called"));
        let wide = vec!["a == 1"; 10_000].join(" || ");
        assert!(parse(&wide).is_ok(), "long is not deep");
        let deep = format!("{}a{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
        assert!(parse(&deep).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text: String) {
            drop(parse(&text));
        }

        #[test]
        fn any_tokens_are_parsed_without_a_panic(
            parts in prop::collection::vec(prop::sample::select(vec![
                "a", ".b", "==", "!=", "<", "in", "&&", "||", "!", "(", ")", "[", "]", ",",
                "has(", "'x'",
                "\"", "'''", "\\", "1", "-", "0x", "u", "null", "true",
                ".startsWith(", "//", "\n", "é", "r'",
            ]), 0..40),
            space in prop::sample::select(vec!["", " "]),
        ) {
            let text = parts.join(space);
            if let Err(error) = parse(&text) {
                prop_assert!(error.at <= text.len() && text.is_char_boundary(error.at));
            }
        }
    }
}
