//! Methods of strings and lists.

use std::sync::Arc;

use whalewatch_core::Accessor;

use super::{Bound, Compiler, Element, MOST_REPEATS, Operand, describe};
use crate::condition::program::{Flag, Number, Part, Pattern, Test, Text};
use crate::condition::syntax::{Expr, Method, Node};
use crate::fields;

/// The methods besides [`Part::METHODS`].
const OTHERS: [&str; 4] = ["matches", "size", "exists", "all"];

/// The most bytes that a compiled regular expression may take, and the cache it runs with.
const REGEX_BYTES: usize = 1 << 20;

impl Compiler<'_> {
    pub(super) fn method(&mut self, method: &Method) -> Operand {
        let part = Part::METHODS.iter().find(|(name, _)| *name == method.name);
        let test = match (part, &*method.name) {
            (Some((_, part)), _) => self.part(*part, method),
            (None, "matches") => self.matches(method),
            (None, "size") => return self.size(method),
            (None, "exists") => self.elements(method, true),
            (None, "all") => self.elements(method, false),
            (None, name) => {
                let known: Vec<_> =
                    Part::METHODS.map(|(name, _)| name).into_iter().chain(OTHERS).collect();
                let hint = fields::nearest(name, known.iter().copied()).map_or_else(
                    || format!("available are {}", known.join(", ")),
                    fields::did_you_mean,
                );
                let message = format!("there is no method `{name}`");
                self.problem(method.name_at, message).hint = Some(hint);
                return Operand::Wrong;
            }
        };
        Operand::Flag(Flag::Test(Box::new(test)))
    }

    /// `startsWith`, `endsWith`, `contains`
    fn part(&mut self, part: Part, method: &Method) -> Test {
        let [arg_node] = &method.args[..] else {
            self.problem(method.name_at, format!("`{}` takes one string", method.name));
            return Test::Const(false);
        };
        let Some(whole) = self.text(method) else { return Test::Const(false) };
        match self.operand(arg_node) {
            Operand::Text(text) => match (&whole, &text) {
                // Both are constants, such as items of a literal list.
                (Text::Const(whole), Text::Const(text)) => Test::Const(part.holds(whole, text)),
                _ => Test::Part(part, whole, text),
            },
            Operand::Absent | Operand::Wrong => Test::Const(false),
            arg => {
                let arg = describe(arg_node, &arg);
                let message = format!("`{}` takes one string, not {arg}", method.name);
                self.problem(arg_node.at, message);
                Test::Const(false)
            }
        }
    }

    /// Returns the string that a method is called on; `None` if these events lack it, or after a
    /// problem.
    fn text(&mut self, method: &Method) -> Option<Text> {
        match self.operand(&method.target) {
            Operand::Text(text) => Some(text),
            Operand::Absent | Operand::Wrong => None,
            target => {
                let list = matches!(target, Operand::Texts(_) | Operand::List(_));
                let target = describe(&method.target, &target);
                let name = &method.name;
                let message = format!("`{name}` is a method of strings, not of {target}");
                let hint = format!(
                    "to look for an element, write `element in list` or \
                     `list.exists(e, e.{name}(…))`"
                );
                self.problem(method.name_at, message).hint = list.then_some(hint);
                None
            }
        }
    }

    fn matches(&mut self, method: &Method) -> Test {
        let text = self.text(method);
        let pattern = match &method.args[..] {
            [Node { expr: Expr::Text(pattern), at }] => Some((pattern, *at)),
            // An item of an enclosing literal list.
            [Node { expr: Expr::Path(path), at }] => {
                let item = self.element(path, *at);
                return match item {
                    Some(Operand::Text(Text::Const(pattern))) => {
                        let pattern = String::from_utf8_lossy(&pattern).into_owned();
                        self.matching(text, &pattern, *at)
                    }
                    _ => self.no_pattern(method),
                };
            }
            _ => None,
        };
        match pattern {
            Some((pattern, at)) => self.matching(text, pattern, at),
            None => self.no_pattern(method),
        }
    }

    fn no_pattern(&mut self, method: &Method) -> Test {
        let message = "`matches` takes one regular expression, as a literal string";
        let hint = "write for example `file.path.matches('^/etc/.*[.]conf$')`";
        self.problem(method.name_at, message).hint = Some(hint.to_owned());
        Test::Const(false)
    }

    fn matching(&mut self, text: Option<Text>, pattern: &str, at: usize) -> Test {
        let regex = regex::bytes::RegexBuilder::new(pattern)
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_BYTES)
            .build();
        match (regex, text) {
            (Ok(regex), Some(text)) => Test::Matches(text, Pattern(Arc::new(regex))),
            (Ok(_), None) => Test::Const(false),
            (Err(error), _) => {
                let error = match error {
                    regex::Error::CompiledTooBig(_) => {
                        format!("it takes more than {} KiB once compiled", REGEX_BYTES >> 10)
                    }
                    other => last_line(&other.to_string()),
                };
                let message = format!("invalid regular expression `{pattern}`: {error}");
                let hint = "write r'…' to keep backslashes as they are; to match a special \
                            character itself, write it in [ ]";
                self.problem(at, message).hint = Some(hint.to_owned());
                Test::Const(false)
            }
        }
    }

    fn size(&mut self, method: &Method) -> Operand {
        if !method.args.is_empty() {
            self.problem(method.name_at, "`size` takes no arguments here: write `list.size()`");
            return Operand::Wrong;
        }
        match self.operand(&method.target) {
            Operand::Text(text) => Operand::Number(Number::TextSize(text)),
            Operand::Texts(list) => Operand::Number(Number::ListSize(list)),
            Operand::List(items) => Operand::Number(Number::Const(items.len() as i128)),
            Operand::Absent => Operand::Absent,
            Operand::Wrong => Operand::Wrong,
            other => {
                let other = describe(&method.target, &other);
                let message = format!("`size` is a method of strings and lists, not of {other}");
                self.problem(method.name_at, message);
                Operand::Wrong
            }
        }
    }

    /// `list.exists(name, condition)` (some) or `list.all(name, condition)`
    fn elements(&mut self, method: &Method, some: bool) -> Test {
        let (name, condition) = match &method.args[..] {
            [Node { expr: Expr::Path(name), .. }, condition] if !name.contains('.') => {
                (name, condition)
            }
            _ => {
                let called = &method.name;
                let message = format!("`{called}` takes a name and a condition");
                let hint = format!(
                    "write for example `process.command_args.{called}(a, a.startsWith('-'))`"
                );
                self.problem(method.name_at, message).hint = Some(hint);
                return Test::Const(false);
            }
        };
        match self.operand(&method.target) {
            Operand::Texts(list) => self.each_element(some, list, name, condition),
            Operand::List(items) => self.each_item(some, &items, name, condition, method.name_at),
            Operand::Absent => {
                // Compiled only for the problems in it.
                self.bound
                    .push(Bound { name: name.clone(), element: Element::Item(Operand::Absent) });
                self.test(condition);
                self.bound.pop();
                Test::Const(false)
            }
            Operand::Wrong => Test::Const(false),
            other => {
                let other = describe(&method.target, &other);
                let message = format!("`{}` is a method of lists, not of {other}", method.name);
                self.problem(method.name_at, message);
                Test::Const(false)
            }
        }
    }

    fn each_element(&mut self, some: bool, list: Accessor, name: &str, condition: &Node) -> Test {
        self.lists += 1;
        let element = Element::Of(self.lists);
        self.bound.push(Bound { name: name.to_owned(), element });
        let test = self.test(condition);
        self.bound.pop();
        self.lists -= 1;
        Test::Elements(some, list, Box::new(test))
    }

    /// Compiles the condition once for each item of a literal list.
    fn each_item(
        &mut self,
        some: bool,
        items: &[Node],
        name: &str,
        condition: &Node,
        at: usize,
    ) -> Test {
        self.repeats += items.len();
        if self.repeats > MOST_REPEATS {
            let message = format!("nested lists need more than {MOST_REPEATS} conditions");
            self.problem(at, message);
            return Test::Const(false);
        }
        let tests: Box<[Test]> = items
            .iter()
            .map(|item| {
                let element = Element::Item(self.operand(item));
                self.bound.push(Bound { name: name.to_owned(), element });
                let before = self.problems.len();
                let test = self.test(condition);
                self.bound.pop();
                // A mistake shows for each item; one report is enough.
                if self.problems.len() > before {
                    self.problems.truncate(before + 1);
                }
                test
            })
            .collect();
        self.problems.dedup();
        if some { Test::Any(tests) } else { Test::All(tests) }
    }
}

/// Returns the last line of an error of the `regex` crate. It says what is wrong; the lines before
/// it draw the place.
fn last_line(message: &str) -> String {
    let last = message.lines().last().unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}
