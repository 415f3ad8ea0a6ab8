//! Which containers are meant, by patterns over their names and ids.

use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};
use whalewatch_core::{Attribution, Container, Problem};

/// Patterns over names and ids of containers, and the last answer: neighbours in a batch are mostly of one container.
#[derive(Debug)]
pub(crate) struct Containers {
    wanted: Vec<GlobMatcher>,
    unwanted: Vec<GlobMatcher>,
    last: Option<(Arc<Container>, bool)>,
}

impl Containers {
    /// Patterns with `*`, `?`, `[abc]` and `{a,b}`; those that begin with `!` leave out.
    ///
    /// # Errors
    /// For each pattern that is none.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, Vec<Problem>> {
        let (mut wanted, mut unwanted, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for pattern in patterns {
            let (list, bare) = match pattern.strip_prefix('!') {
                Some(rest) => (&mut unwanted, rest),
                None => (&mut wanted, pattern.as_str()),
            };
            match GlobBuilder::new(bare).build() {
                Ok(glob) if !bare.is_empty() => list.push(glob.compile_matcher()),
                Ok(_) => problems.push(
                    Problem::new("containers", "a pattern is empty")
                        .hint("write a name or an id, with * for what may differ: \"web*\""),
                ),
                Err(error) => problems.push(
                    Problem::new("containers", format!("\"{pattern}\": {}", error.kind()))
                        .hint("close what is open, or put a \\ before a character that is meant as itself"),
                ),
            }
        }
        if problems.is_empty() { Ok(Self { wanted, unwanted, last: None }) } else { Err(problems) }
    }

    /// Whether the event's container is meant. What is in no container, or in one unknown, is not.
    pub(crate) fn hold(&mut self, attribution: &Attribution) -> bool {
        let Some(container) = &attribution.container else { return false };
        if let Some((last, holds)) = &self.last
            && Arc::ptr_eq(last, container)
        {
            return *holds;
        }
        let holds = self.meant(container);
        self.last = Some((Arc::clone(container), holds));
        holds
    }

    fn meant(&self, container: &Container) -> bool {
        let any = |globs: &[GlobMatcher]| {
            globs.iter().any(|glob| {
                glob.is_match(&*container.id)
                    || container.name.as_deref().is_some_and(|name| glob.is_match(name))
            })
        };
        (self.wanted.is_empty() || any(&self.wanted)) && !any(&self.unwanted)
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_core::{How, Runtime};

    use super::*;

    fn holds(patterns: &[&str], name: Option<&str>) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let bare = Container::bare("ab12cd", Runtime::Docker);
        let container = Container { name: name.map(Into::into), ..bare };
        let attribution = Attribution::container(Arc::new(container), How::Cgroup);
        let mut containers = Containers::new(&patterns).unwrap();
        let first = containers.hold(&attribution);
        assert_eq!(containers.hold(&attribution), first, "the remembered answer is the same");
        first
    }

    #[test]
    fn names_and_ids_are_matched() {
        assert!(holds(&["web*"], Some("web-1")));
        assert!(!holds(&["web*"], Some("my-web")));
        assert!(holds(&["web", "db"], Some("db")));
        assert!(holds(&["ab12*"], None));
        assert!(holds(&["we?", "[dx]b"], Some("xb")));
    }

    #[test]
    fn an_exclamation_mark_leaves_out() {
        assert!(!holds(&["web*", "!web-test"], Some("web-test")));
        assert!(holds(&["web*", "!web-test"], Some("web-1")));
        assert!(holds(&["!web-test"], Some("db")));
    }

    #[test]
    fn what_is_in_no_container_is_never_meant() {
        let mut containers = Containers::new(&[String::from("!web")]).unwrap();
        assert!(!containers.hold(&Attribution::host(How::Cgroup)));
        assert!(!containers.hold(&Attribution::unknown()));
    }

    #[test]
    fn bad_patterns_are_all_told() {
        let patterns = ["[a", "", "!", "ok"].map(String::from);
        let problems = Containers::new(&patterns).unwrap_err();
        let messages: Vec<&str> = problems.iter().map(|p| &*p.message).collect();
        assert_eq!(
            messages,
            [
                "\"[a\": unclosed character class; missing ']'",
                "a pattern is empty",
                "a pattern is empty"
            ]
        );
    }
}
