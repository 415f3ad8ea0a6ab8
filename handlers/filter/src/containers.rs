//! Which containers are meant, with the last answer kept.

use std::sync::Arc;

use whalewatch_core::{Attribution, Container, ContainerPatterns, Problem};

/// Patterns over containers, and the last answer: neighbours in a batch are mostly of one
/// container.
#[derive(Debug)]
pub(crate) struct Containers {
    patterns: ContainerPatterns,
    last: Option<(Arc<Container>, bool)>,
}

impl Containers {
    /// As [`ContainerPatterns::new`].
    ///
    /// # Errors
    /// For each pattern that is none.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, Vec<Problem>> {
        let patterns = ContainerPatterns::new("containers", patterns)?;
        Ok(Self { patterns, last: None })
    }

    /// Whether the event's container is meant. What is in no container, or in one unknown, is not.
    pub(crate) fn hold(&mut self, attribution: &Attribution) -> bool {
        let Some(container) = &attribution.container else { return false };
        if let Some((last, holds)) = &self.last
            && Arc::ptr_eq(last, container)
        {
            return *holds;
        }
        let holds = self.patterns.matches(container);
        self.last = Some((Arc::clone(container), holds));
        holds
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_core::{Evidence, Runtime};

    use super::*;

    fn holds(patterns: &[&str], name: Option<&str>) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let bare = Container::bare("ab12cd", Runtime::Docker);
        let container = Container { name: name.map(Into::into), ..bare };
        let attribution = Attribution::container(Arc::new(container), Evidence::Cgroup);
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
    fn what_is_in_no_container_is_never_meant() {
        let mut containers = Containers::new(&[String::from("!web")]).unwrap();
        assert!(!containers.hold(&Attribution::host(Evidence::Cgroup)));
        assert!(!containers.hold(&Attribution::unknown()));
    }
}
