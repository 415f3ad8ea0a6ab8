//! Headers of requests whose values may be secrets.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use whalewatch_core::Problem;

use super::Secret;

/// Returns the problems with the headers in the option `key`, without reading secrets from
/// elsewhere. Headers in `own` are set by the handler itself.
pub fn check(key: &str, headers: &BTreeMap<String, Secret>, own: &[&str]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, secret) in headers {
        let key = format!("{key}.{name}");
        let set = own.iter().any(|own| own.eq_ignore_ascii_case(name));
        if HeaderName::try_from(name.as_str()).is_err() {
            let message = format!("{name:?} is not a valid header name");
            problems.push(Problem::new(&key, message).hint("use letters, digits and `-`"));
        } else if set {
            let message = format!("the header `{name}` is set by the handler itself");
            problems.push(Problem::new(&key, message).hint("leave it out"));
        }
        if let Secret::Plain(text) = secret
            && HeaderValue::try_from(text).is_err()
        {
            let message = "a header value cannot contain these characters";
            problems.push(Problem::new(&key, message).hint("use printable ASCII on one line"));
        }
        problems.extend(secret.check(&key));
    }
    problems
}

/// Reads the headers' values and marks them as sensitive, so that `Debug` does not print them.
///
/// # Errors
/// If a value cannot be read or is not a valid header value: which header, and why.
pub fn read(headers: &BTreeMap<String, Secret>) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, secret) in headers {
        let failed = |why: String| format!("cannot set the header `{name}`: {why}");
        let value = secret.read().map_err(failed)?;
        let mut value = HeaderValue::try_from(value).map_err(|_| {
            failed("its value contains characters that a header cannot have".to_owned())
        })?;
        value.set_sensitive(true);
        let name =
            HeaderName::try_from(name.as_str()).map_err(|error| failed(error.to_string()))?;
        map.insert(name, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        let pair = |(name, value): &(&str, &str)| ((*name).into(), Secret::Plain((*value).into()));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn invalid_names_and_values_are_reported_with_their_key() {
        let wrong = headers(&[("a b", "x"), ("Content-Length", "1"), ("ok", "é\n"), ("fine", "x")]);
        let problems = check("headers", &wrong, &["content-length"]);
        let keys: Vec<_> = problems.iter().map(|problem| &*problem.key).collect();
        assert_eq!(keys, ["headers.Content-Length", "headers.a b", "headers.ok"]);
    }

    #[test]
    fn values_are_read_and_not_printed() {
        let map = read(&headers(&[("Authorization", "Bearer x")])).unwrap();
        assert_eq!(map["authorization"], "Bearer x");
        assert!(!format!("{map:?}").contains("Bearer"), "{map:?}");
        let env = Secret::Elsewhere(crate::secret::Elsewhere {
            env: Some("WHALEWATCH_NO_SUCH_VARIABLE".into()),
            ..Default::default()
        });
        let error = read(&BTreeMap::from([("x".to_owned(), env)])).unwrap_err();
        assert!(error.contains("`x`") && error.contains("NO_SUCH_VARIABLE"), "{error}");
    }
}
