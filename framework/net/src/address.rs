//! Addresses of servers.

use http::Uri;
use whalewatch_core::Problem;

/// Parses the address in the option `key`: `http://` or `https://`, a host, and an optional port,
/// path and query.
///
/// # Errors
/// If it is invalid, or contains a user and password, which every error message would print.
pub fn address(key: &str, text: &str) -> Result<Uri, Problem> {
    let problem = |message: String, hint: &str| Problem::new(key, message).hint(hint);
    let whole = "write for example \"http://localhost:4318\" or \"https://example.com/path\"";
    let uri: Uri = text
        .parse()
        .map_err(|error| problem(format!("{text:?} is not an address: {error}"), whole))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => {
            return Err(problem(format!("unsupported scheme `{other}`"), whole));
        }
        None => return Err(problem(format!("{text:?} has no scheme"), whole)),
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        let hint = "set a header instead: \
                    headers.authorization = { env = \"TOKEN\", prefix = \"Bearer \" }";
        return Err(problem("an address cannot contain a user or a password".to_owned(), hint));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(problem(format!("{text:?} has no host"), whole));
    }
    Ok(uri)
}

/// Returns the address without its path and query, in which some services have a secret: for
/// printing.
pub fn server(address: &Uri) -> String {
    let scheme = address.scheme_str().unwrap_or_default();
    format!("{scheme}://{}", address.authority().map_or("", |authority| authority.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_address_has_no_secret() {
        let uri = address("url", "https://x:1/hooks/s3cret?key=s3cret").expect("an address");
        assert_eq!(server(&uri), "https://x:1");
    }

    #[test]
    fn address_has_a_scheme_a_host_and_no_secret() {
        for good in ["http://localhost:4317", "https://[::1]/x?y=z", "http://10.0.0.1"] {
            assert!(address("url", good).is_ok(), "{good}");
        }
        for (bad, word) in [
            ("localhost:4317", "no scheme"),
            ("/v1/logs", "no scheme"),
            ("ftp://x", "`ftp`"),
            ("http://a:b@x/", "password"),
            ("http://a b", "not an address"),
            ("", "not an address"),
        ] {
            let problem = address("url", bad).expect_err(bad);
            assert!(problem.message.contains(word), "{bad}: {problem:?}");
            assert!(problem.hint.is_some());
            assert!(!problem.message.contains("a:b"), "secrets are not printed: {problem:?}");
        }
    }
}
