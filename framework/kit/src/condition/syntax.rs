//! The syntax tree of a condition.

/// A part of a condition and its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) expr: Expr,
    /// Byte offset of its start.
    pub(crate) at: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    Null,
    Bool(bool),
    /// An `int` or a `uint`. Comparisons treat both alike.
    Number(i128),
    Text(String),
    List(Vec<Node>),
    /// A dotted name.
    Path(String),
    Not(Box<Node>),
    /// `a && b && …`
    All(Vec<Node>),
    /// `a || b || …`
    Any(Vec<Node>),
    Compare(Op, Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    Method(Box<Method>),
    /// `has(a.b)`
    Has(Box<Node>),
}

impl Node {
    /// Appends every dotted name in it to `names`.
    pub(crate) fn names<'a>(&'a self, names: &mut Vec<&'a str>) {
        match &self.expr {
            Expr::Null | Expr::Bool(_) | Expr::Number(_) | Expr::Text(_) => {}
            Expr::Path(path) => names.push(path),
            Expr::Not(of) | Expr::Has(of) => of.names(names),
            Expr::List(nodes) | Expr::All(nodes) | Expr::Any(nodes) => {
                for node in nodes {
                    node.names(names);
                }
            }
            Expr::Compare(_, left, right) | Expr::In(left, right) => {
                left.names(names);
                right.names(names);
            }
            Expr::Method(method) => {
                method.target.names(names);
                for arg in &method.args {
                    arg.names(names);
                }
            }
        }
    }
}

/// `target.name(args)`, or `size(target)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) target: Node,
    pub(crate) name: String,
    pub(crate) name_at: usize,
    pub(crate) args: Vec<Node>,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Op {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "==" => Self::Eq,
            "!=" => Self::Ne,
            "<" => Self::Lt,
            "<=" => Self::Le,
            ">" => Self::Gt,
            ">=" => Self::Ge,
            _ => return None,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }

    /// Whether it is `==` or `!=`.
    pub(crate) fn is_equality(self) -> bool {
        matches!(self, Self::Eq | Self::Ne)
    }

    pub(crate) fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Eq => left == right,
            Self::Ne => left != right,
            Self::Lt => left < right,
            Self::Le => left <= right,
            Self::Gt => left > right,
            Self::Ge => left >= right,
        }
    }
}

/// An error in the text of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Byte offset in the text.
    pub(crate) at: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl SyntaxError {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
