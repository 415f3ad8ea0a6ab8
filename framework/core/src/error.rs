//! Errors as text. An error's own words often say only that a call failed; the reason is in its
//! [sources](Error::source).

use std::error::Error;
use std::iter::successors;

/// Iterates over `error` and its causes, the outermost first.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| (*error).source())
}

/// Returns the error and its causes on one line: `cannot connect: connection refused`.
///
/// A cause that the text already quotes is left out, since many errors print their source
/// themselves.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    append_causes(error.to_string(), error.source())
}

/// Appends `cause` and its own causes to a description of the error, as [`with_causes`] does.
pub fn append_causes(mut text: String, cause: Option<&(dyn Error + 'static)>) -> String {
    for cause in cause.into_iter().flat_map(causes) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failed {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    /// An error with these texts, the outermost first.
    fn failed(texts: &[&'static str]) -> Failed {
        let inner =
            texts.iter().rev().fold(None, |source, text| Some(Box::new(Failed { text, source })));
        *inner.expect("at least one text")
    }

    #[test]
    fn causes_follow_the_error_on_one_line() {
        assert_eq!(with_causes(&failed(&["cannot connect"])), "cannot connect");
        let error = failed(&["cannot ask", "cannot connect", "connection refused"]);
        assert_eq!(with_causes(&error), "cannot ask: cannot connect: connection refused");
        assert_eq!(causes(&error).count(), 3);
    }

    #[test]
    fn causes_that_the_text_quotes_are_left_out() {
        let error = failed(&["cannot read x: no such file", "no such file", "", "errno 2"]);
        assert_eq!(with_causes(&error), "cannot read x: no such file: errno 2");
    }

    #[test]
    fn causes_are_appended_to_any_description() {
        let error = failed(&["transport error", "connection refused"]);
        let text = append_causes("Unavailable: transport error".to_owned(), Some(&error));
        assert_eq!(text, "Unavailable: transport error: connection refused");
        assert_eq!(append_causes("Internal: x".to_owned(), None), "Internal: x");
    }
}
