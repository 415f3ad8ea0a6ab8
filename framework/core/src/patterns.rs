//! Selecting containers by patterns over their names, ids, images and labels.

use globset::{GlobBuilder, GlobMatcher};

use crate::attribution::Container;
use crate::options::Problem;

/// Patterns over containers: `web*` for a name or an id, `image:nginx*` for an image, `label:tier`
/// and `label:tier=front*` for a label. A pattern that begins with `!` excludes.
///
/// A container matches if any including pattern does, or there is none, and no excluding one does.
#[derive(Clone, Debug, Default)]
pub struct ContainerPatterns {
    included: Vec<Pattern>,
    excluded: Vec<Pattern>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Name(GlobMatcher),
    Image(GlobMatcher),
    /// The key, and a pattern over the value.
    Label(String, Option<GlobMatcher>),
}

impl ContainerPatterns {
    /// Reads patterns; `key` is the option that they come from.
    ///
    /// # Errors
    /// One problem for each invalid pattern.
    pub fn new(key: &str, patterns: &[String]) -> Result<Self, Vec<Problem>> {
        let (mut read, mut problems) = (Self::default(), Vec::new());
        for text in patterns {
            let (list, bare) = match text.strip_prefix('!') {
                Some(rest) => (&mut read.excluded, rest),
                None => (&mut read.included, text.as_str()),
            };
            match Pattern::new(bare) {
                Ok(pattern) => list.push(pattern),
                Err(None) => problems.push(
                    Problem::new(key, "a pattern is empty")
                        .hint("write a name or an id, with * for any text: \"web*\""),
                ),
                Err(Some(error)) => problems.push(
                    Problem::new(key, format!("\"{text}\": {error}"))
                        .hint("close the bracket or brace, or put a \\ before a literal one"),
                ),
            }
        }
        if problems.is_empty() { Ok(read) } else { Err(problems) }
    }

    /// Whether a container matches.
    pub fn matches(&self, container: &Container) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(container));
        (self.included.is_empty() || any(&self.included)) && !any(&self.excluded)
    }

    /// Whether a container of which nothing is known yet matches, until more is known.
    pub fn matches_unknown(&self) -> bool {
        self.included.is_empty()
    }
}

impl Pattern {
    /// Reads a pattern; the error is `None` for an empty one.
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

    fn matches(&self, container: &Container) -> bool {
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

    fn matches(patterns: &[&str], name: Option<&str>) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let container = Container {
            name: name.map(Into::into),
            image: Some("nginx:1".into()),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            ..Container::bare("ab12cd", Runtime::Docker)
        };
        ContainerPatterns::new("containers", &patterns).unwrap().matches(&container)
    }

    #[test]
    fn names_and_ids_match() {
        assert!(matches(&["web*"], Some("web-1")));
        assert!(!matches(&["web*"], Some("my-web")));
        assert!(matches(&["web", "db"], Some("db")));
        assert!(matches(&["ab12*"], None));
        assert!(matches(&["we?", "[dx]b"], Some("xb")));
    }

    #[test]
    fn images_and_labels_match() {
        assert!(matches(&["image:nginx*"], None));
        assert!(!matches(&["image:redis*"], Some("nginx")));
        assert!(matches(&["label:tier"], None));
        assert!(matches(&["label:tier=fr*"], None));
        assert!(!matches(&["label:tier=back"], None));
        assert!(!matches(&["!label:tier"], Some("web")));
    }

    #[test]
    fn exclamation_mark_excludes() {
        assert!(!matches(&["web*", "!web-test"], Some("web-test")));
        assert!(matches(&["web*", "!web-test"], Some("web-1")));
        assert!(matches(&["!web-test"], Some("db")));
    }

    #[test]
    fn every_invalid_pattern_is_reported() {
        let patterns = ["[a", "", "!", "ok", "image:", "label:=x"].map(String::from);
        let problems = ContainerPatterns::new("containers", &patterns).unwrap_err();
        let messages: Vec<&str> = problems.iter().map(|p| &*p.message).collect();
        let empty = "a pattern is empty";
        let open = "\"[a\": unclosed character class; missing ']'";
        assert_eq!(messages, [open, empty, empty, empty, empty]);
    }
}
