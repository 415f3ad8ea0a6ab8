//! Compiler: turns a condition into a [`Test`] for events of one type. Resolves the fields and
//! checks the types.

use whalewatch_core::{Accessor, Problem, Schema, Type};

use super::program::{Flag, Number, Test, Text};
use super::syntax::{Expr, Node, Op};
use crate::{Extra, fields, subject};

mod methods;

/// The most copies of conditions that `exists` and `all` make for the items of literal lists.
/// Nested lists multiply.
const MOST_REPEATS: usize = 10_000;

/// Compiles a condition for events of the type `schema`, which have the `extra` fields, too. A
/// field that only other `known` types have is null. Without `known`, any field that `schema` lacks
/// is.
///
/// # Errors
/// Every problem found.
pub(crate) fn compile(
    condition: &Node,
    key: &str,
    schema: &Schema,
    known: Option<&[Schema]>,
    extra: &[Extra],
) -> Result<Test, Vec<Problem>> {
    let (bound, problems) = (Vec::new(), Vec::new());
    let mut compiler =
        Compiler { key, schema, known, extra, bound, lists: 0, repeats: 0, problems };
    let test = compiler.test(condition);
    if compiler.problems.is_empty() { Ok(test) } else { Err(compiler.problems) }
}

struct Compiler<'a> {
    /// The option that has the condition.
    key: &'a str,
    schema: &'a Schema,
    known: Option<&'a [Schema]>,
    extra: &'a [Extra],
    /// Names of the elements in the enclosing `exists` and `all`, the innermost last.
    bound: Vec<Bound>,
    /// The number of enclosing `exists` and `all` over a field.
    lists: usize,
    repeats: usize,
    problems: Vec<Problem>,
}

/// The name that `exists` or `all` gives to the current element.
struct Bound {
    name: String,
    element: Element,
}

enum Element {
    /// An item of a literal list.
    Item(Operand),
    /// An element of a list in a field; the number is how deep the list is nested, from 1.
    Of(usize),
}

/// The value of a part of a condition.
#[derive(Clone)]
enum Operand {
    Null,
    Flag(Flag),
    Number(Number),
    Text(Text),
    Texts(Accessor),
    Time(Accessor),
    List(Vec<Node>),
    /// A group of fields: `container`.
    Object(Vec<Accessor>),
    /// A field that these events never have.
    Absent,
    /// An error that is already reported.
    Wrong,
}

impl Operand {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Null | Self::Absent | Self::Wrong => "null",
            Self::Flag(_) => "a bool",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Texts(_) | Self::List(_) => "a list",
            Self::Time(_) => "a timestamp",
            Self::Object(_) => "a group of fields",
        }
    }

    /// Returns a test for null.
    fn is_null(&self) -> Test {
        match self {
            Self::Null | Self::Absent => Test::Const(true),
            Self::Flag(Flag::Field(field))
            | Self::Number(Number::Field(field))
            | Self::Text(Text::Field(field))
            | Self::Texts(field)
            | Self::Time(field) => Test::IsNull(*field),
            Self::Object(fields) => Test::All(fields.iter().map(|f| Test::IsNull(*f)).collect()),
            Self::Number(Number::TextSize(Text::Field(field)) | Number::ListSize(field)) => {
                Test::IsNull(*field)
            }
            Self::Flag(_) | Self::Number(_) | Self::Text(_) | Self::List(_) | Self::Wrong => {
                Test::Const(false)
            }
        }
    }
}

impl Compiler<'_> {
    /// Adds a problem, and returns it so that a hint can be set.
    fn problem(&mut self, at: usize, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem::new(self.key, message).at(at));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    /// Compiles a part that must be true or false.
    fn test(&mut self, node: &Node) -> Test {
        match self.operand(node) {
            Operand::Flag(Flag::Test(test)) => *test,
            Operand::Flag(Flag::Field(field)) => Test::Flag(field),
            Operand::Absent | Operand::Wrong => Test::Const(false),
            other => {
                let message = format!("{} is not a condition", describe(node, &other));
                let hint = match other {
                    Operand::Object(_) => "compare it: `… != null`",
                    Operand::List(_) | Operand::Texts(_) => "look for an element: `… in …`",
                    _ => "compare it: `… == …`",
                };
                self.problem(node.at, message).hint = Some(hint.to_owned());
                Test::Const(false)
            }
        }
    }

    fn tests(&mut self, nodes: &[Node]) -> Box<[Test]> {
        nodes.iter().map(|node| self.test(node)).collect()
    }

    fn operand(&mut self, node: &Node) -> Operand {
        let test = match &node.expr {
            Expr::Null => return Operand::Null,
            Expr::Number(number) => return Operand::Number(Number::Const(*number)),
            Expr::Text(text) => return Operand::Text(Text::Const(text.as_bytes().into())),
            Expr::List(items) => return Operand::List(items.clone()),
            Expr::Path(path) => return self.field(path, node.at),
            Expr::Bool(value) => Test::Const(*value),
            Expr::Not(of) => Test::Not(Box::new(self.test(of))),
            Expr::All(parts) => Test::All(self.tests(parts)),
            Expr::Any(parts) => Test::Any(self.tests(parts)),
            Expr::Compare(op, left, right) => {
                let operands = (self.operand(left), self.operand(right));
                self.compare(*op, (left, operands.0), (right, operands.1))
            }
            Expr::In(item, list) => self.contained(item, list),
            Expr::Method(method) => return self.method(method),
            Expr::Has(path) => Test::Not(Box::new(self.operand(path).is_null())),
        };
        Operand::Flag(Flag::Test(Box::new(test)))
    }

    fn field(&mut self, path: &str, at: usize) -> Operand {
        if let Some(element) = self.element(path, at) {
            return element;
        }
        let own = || self.schema.find(path).map(|(info, accessor)| (info.ty, accessor));
        if let Some((ty, accessor)) = subject::find(self.extra, path).or_else(own) {
            return match ty {
                Type::Bool => Operand::Flag(Flag::Field(accessor)),
                Type::Int | Type::Uint => Operand::Number(Number::Field(accessor)),
                Type::Text => Operand::Text(Text::Field(accessor)),
                Type::Texts => Operand::Texts(accessor),
                Type::Time => Operand::Time(accessor),
            };
        }
        let inner = |(name, _): &(&str, _)| fields::is_within(name, path);
        let fields = self.schema.fields.iter().map(|(info, accessor)| (info.name, *accessor));
        let extra = self.extra.iter().map(|field| &*field.name).filter_map(|name| {
            subject::find(self.extra, name).map(|(_, accessor)| (name, accessor))
        });
        let within: Vec<_> =
            fields.chain(extra).filter(inner).map(|(_, accessor)| accessor).collect();
        if !within.is_empty() {
            return Operand::Object(within);
        }
        let Some(known) = self.known else { return Operand::Absent };
        if fields::all(known).any(|name| name == path || fields::is_within(name, path)) {
            return Operand::Absent;
        }
        let hint = fields::hint_in_condition(path, known, self.extra);
        self.problem(at, format!("no incoming event has a field `{path}`")).hint = hint;
        Operand::Wrong
    }

    /// Returns the element that `exists` or `all` gave this name, if one did.
    fn element(&mut self, path: &str, at: usize) -> Option<Operand> {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let bound = self.bound.iter().rev().find(|bound| bound.name == first)?;
        if !rest.is_empty() {
            let message = format!("`{first}` is an element of a list and has no fields");
            self.problem(at, message);
            return Some(Operand::Wrong);
        }
        Some(match &bound.element {
            Element::Item(item) => item.clone(),
            Element::Of(level) => Operand::Text(Text::Element(self.lists - level)),
        })
    }

    fn compare(
        &mut self,
        op: Op,
        (left_node, left): (&Node, Operand),
        (right_node, right): (&Node, Operand),
    ) -> Test {
        match (left, right) {
            (Operand::Wrong, _) | (_, Operand::Wrong) => Test::Const(false),
            (Operand::Null, of) | (of, Operand::Null) if op.is_equality() => match op {
                Op::Eq => of.is_null(),
                _ => Test::Not(Box::new(of.is_null())),
            },
            (Operand::Absent, other) | (other, Operand::Absent)
                if !matches!(other, Operand::Null) =>
            {
                Test::Const(op == Op::Ne)
            }
            (Operand::Number(left), Operand::Number(right)) => Test::Number(op, left, right),
            (Operand::Text(left), Operand::Text(right)) => Test::Text(op, left, right),
            (Operand::Time(left), Operand::Time(right)) => Test::Time(op, left, right),
            (Operand::Flag(left), Operand::Flag(right)) if op.is_equality() => {
                Test::Same(op == Op::Eq, left, right)
            }
            (left, right) => {
                let message = format!(
                    "`{}` cannot compare {} with {}",
                    op.as_str(),
                    describe(left_node, &left),
                    describe(right_node, &right)
                );
                let hint = mismatch_hint(&left, &right, right_node)
                    .or_else(|| mismatch_hint(&right, &left, left_node));
                self.problem(left_node.at, message).hint = hint;
                Test::Const(false)
            }
        }
    }

    /// `item in list`
    fn contained(&mut self, item: &Node, list: &Node) -> Test {
        match (self.operand(item), self.operand(list)) {
            (operand, Operand::List(items)) => self.one_of(item, &operand, &items),
            (Operand::Text(text), Operand::Texts(list)) => Test::Element(text, list),
            (Operand::Wrong, _)
            | (_, Operand::Wrong | Operand::Absent)
            | (Operand::Absent, Operand::Texts(_)) => Test::Const(false),
            (of, Operand::Texts(_)) => {
                let of = describe(item, &of);
                let list = describe_as(list, "a list of strings");
                self.problem(item.at, format!("{list} cannot contain {of}"));
                Test::Const(false)
            }
            (_, other) => {
                let message =
                    format!("`in` needs a list on its right, not {}", describe(list, &other));
                let text = matches!(other, Operand::Text(_));
                self.problem(list.at, message).hint =
                    text.then(|| "to search in a string, write `string.contains(part)`".to_owned());
                Test::Const(false)
            }
        }
    }

    /// `item in [a, b, …]`: a search in a sorted list if all items are constants, else one
    /// comparison for each item.
    fn one_of(&mut self, node: &Node, item: &Operand, items: &[Node]) -> Test {
        if let Operand::Number(Number::Field(field)) = item
            && let Some(mut numbers) = constants(items, |expr| match expr {
                Expr::Number(number) => Some(*number),
                _ => None,
            })
        {
            numbers.sort_unstable();
            return Test::NumberIn(*field, numbers.into());
        }
        if let Operand::Text(text @ (Text::Field(_) | Text::Element(_))) = item
            && let Some(mut texts) = constants(items, |expr| match expr {
                Expr::Text(text) => Some(Box::<[u8]>::from(text.as_bytes())),
                _ => None,
            })
        {
            texts.sort_unstable();
            return Test::TextIn(text.clone(), texts.into());
        }
        let equal = |of: &Node| {
            let right = self.operand(of);
            self.compare(Op::Eq, (node, item.clone()), (of, right))
        };
        Test::Any(items.iter().map(equal).collect())
    }
}

/// Returns the value of each item, or `None` if one has none.
fn constants<T>(items: &[Node], value: impl Fn(&Expr) -> Option<T>) -> Option<Vec<T>> {
    items.iter().map(|item| value(&item.expr)).collect()
}

/// Returns "`process.pid` (a number)" for a field, or "a number" for anything else.
fn describe(node: &Node, operand: &Operand) -> String {
    describe_as(node, operand.type_name())
}

fn describe_as(node: &Node, type_name: &str) -> String {
    match &node.expr {
        Expr::Path(path) => format!("`{path}` ({type_name})"),
        _ => type_name.to_owned(),
    }
}

/// Suggests what to write instead of `right` so that it can be compared with `left`.
fn mismatch_hint(left: &Operand, right: &Operand, right_node: &Node) -> Option<String> {
    match (left, right, &right_node.expr) {
        (Operand::Number(_), Operand::Text(_), Expr::Text(text)) => {
            text.parse::<i64>().ok().map(|number| format!("write {number} without quotes"))
        }
        (Operand::Text(_), _, Expr::Number(number)) => Some(format!("write '{number}' in quotes")),
        (Operand::Flag(_), _, Expr::Number(_) | Expr::Text(_)) => {
            Some("write true or false".to_owned())
        }
        (Operand::Object(_), ..) => {
            Some("a group of fields can only be compared with null".to_owned())
        }
        (Operand::Texts(_), Operand::Text(_), _) => {
            Some("to look for an element, write `element in list`".to_owned())
        }
        (_, Operand::List(_), _) => {
            Some("to compare with several values, write `… in [a, b]`".to_owned())
        }
        _ => None,
    }
}
