//! Which containers are meant, by patterns over their names, ids, images and labels.

use globset::{GlobBuilder, GlobMatcher};

use crate::attribution::Container;
use crate::options::Problem;

/// Patterns over containers: `web*` for a name or an id, `image:nginx*` for an image, `label:tier`
/// and `label:tier=front*` for a label; those that begin with `!` leave out. A container is meant
/// if any of the others fits, or there are none, and none of those that leave out does.
#[derive(Clone, Debug, Default)]
pub struct ContainerPatterns {
    wanted: Vec<Pattern>,
    unwanted: Vec<Pattern>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Name(GlobMatcher),
    Image(GlobMatcher),
    /// Key, and what its value must be.
    Label(String, Option<GlobMatcher>),
}

impl ContainerPatterns {
    /// Reads patterns; problems are said to be of the option `key`.
    ///
    /// # Errors
    /// For each pattern that is none.
    pub fn new(key: &str, patterns: &[String]) -> Result<Self, Vec<Problem>> {
        let (mut read, mut problems) = (Self::default(), Vec::new());
        for text in patterns {
            let (list, bare) = match text.strip_prefix('!') {
                Some(rest) => (&mut read.unwanted, rest),
                None => (&mut read.wanted, text.as_str()),
            };
            match Pattern::new(bare) {
                Ok(pattern) => list.push(pattern),
                Err(None) => problems.push(
                    Problem::new(key, "a pattern is empty")
                        .hint("write a name or an id, with * for what may differ: \"web*\""),
                ),
                Err(Some(error)) => problems
                    .push(Problem::new(key, format!("\"{text}\": {error}")).hint(
                    "close what is open, or put a \\ before a character that is meant as itself",
                )),
            }
        }
        if problems.is_empty() { Ok(read) } else { Err(problems) }
    }

    /// Whether a container is meant.
    pub fn mean(&self, container: &Container) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.fits(container));
        (self.wanted.is_empty() || any(&self.wanted)) && !any(&self.unwanted)
    }

    /// Whether one of which nothing but the id is known is meant until more is.
    pub fn mean_unknown(&self) -> bool {
        self.wanted.is_empty()
    }
}

impl Pattern {
    /// Reads one; the error is `None` for an empty one.
    fn new(text: &str) -> Result<Self, Option<String>> {
        if let Some(image) = text.strip_prefix("image:") {
            return glob(image).map(Self::Image);
        }
        let Some(label) = text.strip_prefix("label:") else { return glob(text).map(Self::Name) };
        let (key, value) = match label.split_once('=') {
            Some((key, value)) => (key, Some(glob(value)?)),
            None => (label, None),
        };
        if key.is_empty() { Err(None) } else { Ok(Self::Label(key.to_owned(), value)) }
    }

    fn fits(&self, container: &Container) -> bool {
        match self {
            Self::Name(glob) => {
                glob.is_match(&*container.id)
                    || container.name.as_deref().is_some_and(|name| glob.is_match(name))
            }
            Self::Image(glob) => container.image.as_deref().is_some_and(|i| glob.is_match(i)),
            Self::Label(key, value) => container.labels.get(key).is_some_and(|found| {
                value.as_ref().is_none_or(|value| value.is_match(found.as_str()))
            }),
        }
    }
}

fn glob(text: &str) -> Result<GlobMatcher, Option<String>> {
    if text.is_empty() {
        return Err(None);
    }
    let glob = GlobBuilder::new(text).build().map_err(|error| Some(error.kind().to_string()))?;
    Ok(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::Runtime;

    fn mean(patterns: &[&str], name: Option<&str>) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let container = Container {
            name: name.map(Into::into),
            image: Some("nginx:1".into()),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            ..Container::bare("ab12cd", Runtime::Docker)
        };
        ContainerPatterns::new("containers", &patterns).unwrap().mean(&container)
    }

    #[test]
    fn names_and_ids_are_matched() {
        assert!(mean(&["web*"], Some("web-1")));
        assert!(!mean(&["web*"], Some("my-web")));
        assert!(mean(&["web", "db"], Some("db")));
        assert!(mean(&["ab12*"], None));
        assert!(mean(&["we?", "[dx]b"], Some("xb")));
    }

    #[test]
    fn images_and_labels_are_matched() {
        assert!(mean(&["image:nginx*"], None));
        assert!(!mean(&["image:redis*"], Some("nginx")));
        assert!(mean(&["label:tier"], None));
        assert!(mean(&["label:tier=fr*"], None));
        assert!(!mean(&["label:tier=back"], None));
        assert!(!mean(&["!label:tier"], Some("web")));
    }

    #[test]
    fn an_exclamation_mark_leaves_out() {
        assert!(!mean(&["web*", "!web-test"], Some("web-test")));
        assert!(mean(&["web*", "!web-test"], Some("web-1")));
        assert!(mean(&["!web-test"], Some("db")));
    }

    #[test]
    fn bad_patterns_are_all_told() {
        let patterns = ["[a", "", "!", "ok", "image:", "label:=x"].map(String::from);
        let problems = ContainerPatterns::new("containers", &patterns).unwrap_err();
        let messages: Vec<&str> = problems.iter().map(|p| &*p.message).collect();
        let empty = "a pattern is empty";
        let open = "\"[a\": unclosed character class; missing ']'";
        assert_eq!(messages, [open, empty, empty, empty, empty]);
    }
}
