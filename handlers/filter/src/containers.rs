//! Matches containers against patterns, with a cache of one result.

use std::sync::Arc;

use whalewatch_core::{Attribution, Container, ContainerPatterns, Problem};

/// Patterns for containers, with the last result: neighbours in a batch mostly have the same
/// container.
#[derive(Debug)]
pub(crate) struct Containers {
    patterns: ContainerPatterns,
    last: Option<(Arc<Container>, bool)>,
}

impl Containers {
    /// Parses the patterns of the option `containers`.
    ///
    /// # Errors
    /// One for each invalid pattern.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, Vec<Problem>> {
        let patterns = ContainerPatterns::new("containers", patterns)?;
        Ok(Self { patterns, last: None })
    }

    /// Returns whether the patterns match an event's container: false for events of the host or of
    /// an unknown container.
    pub(crate) fn matches(&mut self, attribution: &Attribution) -> bool {
        let Some(container) = &attribution.container else { return false };
        if let Some((last, matches)) = &self.last
            && Arc::ptr_eq(last, container)
        {
            return *matches;
        }
        let matches = self.patterns.matches(container);
        self.last = Some((Arc::clone(container), matches));
        matches
    }
}

#[cfg(test)]
mod tests {
    use whalewatch_core::{Evidence, Runtime};

    use super::*;

    fn matches(patterns: &[&str], name: Option<&str>) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let bare = Container::bare("ab12cd", Runtime::Docker);
        let container = Container { name: name.map(Into::into), ..bare };
        let attribution = Attribution::container(Arc::new(container), Evidence::Cgroup);
        let mut containers = Containers::new(&patterns).unwrap();
        let first = containers.matches(&attribution);
        assert_eq!(containers.matches(&attribution), first, "the cached result is the same");
        first
    }

    #[test]
    fn names_and_ids_are_matched() {
        assert!(matches(&["web*"], Some("web-1")));
        assert!(!matches(&["web*"], Some("my-web")));
        assert!(matches(&["web", "db"], Some("db")));
        assert!(matches(&["ab12*"], None));
        assert!(matches(&["we?", "[dx]b"], Some("xb")));
    }

    #[test]
    fn events_without_a_known_container_never_match() {
        let mut containers = Containers::new(&[String::from("!web")]).unwrap();
        assert!(!containers.matches(&Attribution::host(Evidence::Cgroup)));
        assert!(!containers.matches(&Attribution::unknown()));
    }
}
