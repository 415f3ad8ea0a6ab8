//! Addresses of servers.

use http::Uri;
use whalewatch_core::Problem;

/// Reads the address in the option `key`: `http://` or `https://`, a host, and what else belongs to
/// it.
///
/// # Errors
/// If it is none, or has a user and password in it, which would be printed with every error.
pub fn address(key: &str, text: &str) -> Result<Uri, Problem> {
    let problem = |message: String, hint: &str| Problem::new(key, message).hint(hint);
    let whole = "write for example \"http://localhost:4318\" or \"https://example.com/path\"";
    let uri: Uri =
        text.parse().map_err(|error| problem(format!("{text:?} is no address: {error}"), whole))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => {
            return Err(problem(format!("`{other}` is no scheme that can be used here"), whole));
        }
        None => return Err(problem(format!("{text:?} has no scheme"), whole)),
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        let hint = "set a header instead: headers.authorization = { env = \"TOKEN\", prefix = \"Bearer \" }";
        return Err(problem("a user or a password cannot stand in the address".to_owned(), hint));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(problem(format!("{text:?} has no host"), whole));
    }
    Ok(uri)
}

/// An address as it may be printed: without its path and query, where some services want a secret.
pub fn server(address: &Uri) -> String {
    let scheme = address.scheme_str().unwrap_or_default();
    format!("{scheme}://{}", address.authority().map_or("", |authority| authority.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_an_address_has_no_secret() {
        let uri = address("url", "https://x:1/hooks/s3cret?key=s3cret").expect("an address");
        assert_eq!(server(&uri), "https://x:1");
    }

    #[test]
    fn an_address_has_a_scheme_and_a_host_and_no_secret() {
        for good in ["http://localhost:4317", "https://[::1]/x?y=z", "http://10.0.0.1"] {
            assert!(address("url", good).is_ok(), "{good}");
        }
        for (bad, word) in [
            ("localhost:4317", "no scheme"),
            ("/v1/logs", "no scheme"),
            ("ftp://x", "`ftp`"),
            ("http://a:b@x/", "password"),
            ("http://a b", "no address"),
            ("", "no address"),
        ] {
            let problem = address("url", bad).expect_err(bad);
            assert!(problem.message.contains(word), "{bad}: {problem:?}");
            assert!(problem.hint.is_some());
            assert!(!problem.message.contains("a:b"), "a secret is not printed: {problem:?}");
        }
    }
}
