//! The layout of an event type's fields as nested JSON objects, computed once for each type.
//!
//! Field names are dotted paths. A plan flattens them into a list of leaves in output order. Which
//! objects to close and open between two leaves depends only on how many objects both are in, so
//! each leaf has the text that leads to it prepared for every such number. Writing an event is then
//! one pass, without look-ups or allocations.

use std::ops::Range;

use whalewatch_core::{Accessor, Schema};

use crate::text::json_string;

/// The value of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The host name.
    Host,
    /// A field of the event.
    Field(Accessor),
}

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) content: Content,
    /// The number of objects it is in, not counting the outermost.
    pub(crate) depth: usize,
    /// The number of these that the leaf before it is in, too.
    pub(crate) shared: usize,
    /// The text before the value, by the number of its objects that are already open:
    /// `,"process":{"user":{"id":`.
    pub(crate) leads: Box<[Box<[u8]>]>,
    /// Whether it is written as `null` if the event has a container without this value.
    pub(crate) even_null: bool,
}

/// The layout of events of one type.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In output order, without `time` and `kind`, which come first.
    pub(crate) leaves: Vec<Leaf>,
    /// The leaves in the object `container`.
    pub(crate) container: Range<usize>,
    /// Whether everything from the container on depends only on the attribution.
    pub(crate) common_tail: bool,
}

impl Plan {
    pub(crate) fn new(schema: &Schema) -> Self {
        let mut root = Object::default();
        root.insert("host.name", Content::Host);
        for (info, accessor) in &schema.fields {
            if !matches!(accessor, Accessor::Time | Accessor::Kind) {
                root.insert(info.name, Content::Field(*accessor));
            }
        }
        root.sort(TOP);
        for (name, order) in [("process", PROCESS), ("container", CONTAINER)] {
            if let Some((_, Node::Object(object))) = root.0.iter_mut().find(|(key, _)| key == name)
            {
                object.sort(order);
            }
        }
        let mut leaves = Vec::new();
        root.flatten(&mut Vec::new(), &mut leaves);
        let within = |leaf: &&(Vec<&str>, Content)| leaf.0.len() > 1 && leaf.0[0] == "container";
        let start = leaves.iter().position(|l| within(&l)).unwrap_or(leaves.len());
        let container = start..start + leaves.iter().filter(within).count();
        let common = |(_, content): &(_, Content)| {
            matches!(content, Content::Field(Accessor::Attribution(_)))
        };
        let common_tail = leaves[container.start..].iter().all(common);
        Self { leaves: lead(&leaves), container, common_tail }
    }
}

/// Orders of keys; `*` is the place of all others.
const TOP: &[&str] = &["host", "process", "*", "container", "k8s", "attribution"];
const PROCESS: &[&str] = &[
    "pid",
    "tid",
    "vpid",
    "parent_pid",
    "start_time",
    "comm",
    "executable",
    "command_args",
    "*",
    "user",
    "group",
    "namespaces",
    "cgroup_id",
];
const CONTAINER: &[&str] = &["id", "name", "image", "runtime", "status", "*"];

enum Node {
    Leaf(Content),
    Object(Object),
}

#[derive(Default)]
struct Object(Vec<(String, Node)>);

impl Object {
    /// Inserts a leaf at a dotted path. If the path leads through a value or ends at an object (an
    /// event type with the fields `a` and `a.b`), JSON has no place for both, and the leaf goes to
    /// the top level under its whole name. If that name is taken, too, the leaf is left out: the
    /// first one counts, as in [`Schema::find`].
    fn insert(&mut self, path: &str, content: Content) {
        let reserved = ["time", "kind"].contains(&path);
        if !reserved && !self.nest(path, content) && !self.0.iter().any(|(key, _)| key == path) {
            self.0.push((path.to_owned(), Node::Leaf(content)));
        }
    }

    /// Inserts a leaf below this object; returns false if there is no place for it.
    fn nest(&mut self, path: &str, content: Content) -> bool {
        let Some((first, rest)) = path.split_once('.') else {
            let free = !self.0.iter().any(|(key, _)| key == path);
            if free {
                self.0.push((path.to_owned(), Node::Leaf(content)));
            }
            return free;
        };
        let at = self.0.iter().position(|(key, _)| key == first).unwrap_or_else(|| {
            self.0.push((first.to_owned(), Node::Object(Self::default())));
            self.0.len() - 1
        });
        match &mut self.0[at].1 {
            Node::Object(object) => object.nest(rest, content),
            Node::Leaf(_) => false,
        }
    }

    fn sort(&mut self, order: &[&str]) {
        let place = |name: &str| order.iter().position(|&known| known == name);
        let others = place("*");
        self.0.sort_by_key(|(key, _)| place(key).or(others));
    }

    fn flatten<'a>(&'a self, path: &mut Vec<&'a str>, leaves: &mut Vec<(Vec<&'a str>, Content)>) {
        for (key, node) in &self.0 {
            path.push(key);
            match node {
                Node::Leaf(content) => leaves.push((path.clone(), *content)),
                Node::Object(object) => object.flatten(path, leaves),
            }
            path.pop();
        }
    }
}

fn lead(leaves: &[(Vec<&str>, Content)]) -> Vec<Leaf> {
    let mut before: &[&str] = &[];
    leaves
        .iter()
        .map(|(path, content)| {
            let depth = path.len() - 1;
            let same = path.iter().zip(before).take_while(|(a, b)| a == b).count();
            before = path;
            Leaf {
                content: *content,
                depth,
                shared: same.min(depth),
                leads: (0..=depth).map(|open| lead_from(&path[open..])).collect(),
                even_null: path[..] == ["container", "name"],
            }
        })
        .collect()
}

/// `,"a":{"b":` for the path `a.b`.
fn lead_from(path: &[&str]) -> Box<[u8]> {
    let mut lead = Vec::new();
    for (i, key) in path.iter().enumerate() {
        lead.push(if i == 0 { b',' } else { b'{' });
        json_string(&mut lead, key.as_bytes());
        lead.push(b':');
    }
    lead.into()
}

#[cfg(test)]
mod tests {
    use whalewatch_core::Event;

    use super::*;
    use whalewatch_testing::Ran;

    #[test]
    fn leaf_knows_the_objects_it_shares_with_the_one_before() {
        let plan = Plan::new(&Schema::of::<Ran>());
        let lead = |leaf: &Leaf, open: usize| String::from_utf8(leaf.leads[open].to_vec()).unwrap();
        let whole: Vec<_> = plan.leaves.iter().map(|leaf| lead(leaf, 0)).collect();
        assert_eq!(whole[0], r#","host":{"name":"#);
        assert_eq!(whole[1], r#","process":{"pid":"#);
        let user = whole.iter().position(|l| l == r#","process":{"namespaces":{"user":"#).unwrap();
        let (user, pid) = (&plan.leaves[user], &plan.leaves[user + 1]);
        assert_eq!((user.depth, user.shared), (2, 1));
        assert_eq!((pid.depth, pid.shared), (2, 2));
        assert_eq!(lead(pid, 2), r#","pid":"#);
        assert_eq!(lead(pid, 1), r#","namespaces":{"pid":"#);
        assert_eq!(plan.container.len(), 7);
        assert_eq!(plan.leaves.iter().filter(|leaf| leaf.even_null).count(), 1);
        let time_and_kind = 2;
        assert_eq!(plan.leaves.len(), Schema::of::<Ran>().fields.len() - time_and_kind + 1);
        assert!(!Ran::FIELDS.is_empty());
    }

    #[test]
    fn field_that_cannot_be_nested_keeps_its_whole_name() {
        let mut root = Object::default();
        for name in ["a", "a.b", "c.d", "c", "time", "c.time"] {
            root.insert(name, Content::Host);
        }
        let mut leaves = Vec::new();
        root.flatten(&mut Vec::new(), &mut leaves);
        let paths: Vec<_> = leaves.iter().map(|(path, _)| path.join("/")).collect();
        assert_eq!(paths, ["a", "a.b", "c/d", "c/time"], "`c` and `time` are taken already");
    }
}
