//! TLS by rustls, with the system's certificate authorities or given ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whalewatch_core::Problem;

/// How servers with `https://` addresses are trusted, and how they trust us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsOptions {
    /// PEM file of the trusted certificate authorities. Default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate, for servers that ask for one; `key_file` goes with it.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's key.
    pub key_file: Option<PathBuf>,
}

impl TlsOptions {
    /// Returns the problems with the table `key`; `https` says whether the address uses TLS.
    pub fn check(&self, key: &str, https: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        let problem = |name: &str, message: &str| Problem::new(format!("{key}.{name}"), message);
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => problems.push(
                problem("cert_file", "cert_file is set without key_file").hint("set key_file, too"),
            ),
            (None, Some(_)) => problems.push(
                problem("key_file", "key_file is set without cert_file").hint("set cert_file, too"),
            ),
            _ => {}
        }
        if !https && *self != Self::default() {
            problems.push(
                Problem::new(key, "TLS options have no effect: the address is not https")
                    .hint("write https:// or leave `tls` out"),
            );
        }
        problems
    }

    /// Reads the files and returns the configuration for rustls. Without `https` no file is read.
    ///
    /// # Errors
    /// If a file cannot be read, or there is no certificate authority to trust.
    pub fn config(&self, https: bool) -> Result<ClientConfig, String> {
        let roots = if https { self.roots()? } else { RootCertStore::empty() };
        // Explicit, since other parts of the program may or may not have set a default provider.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?
            .with_root_certificates(roots);
        match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) if https => {
                let chain = certificates(cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                    format!("cannot read the key in {}: {error}", key.display())
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    format!(
                        "cannot use the certificate in {} with its key: {error}",
                        cert.display()
                    )
                })
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                for certificate in certificates(path)? {
                    store.add(certificate).map_err(|error| {
                        format!("cannot use a certificate in {}: {error}", path.display())
                    })?;
                }
            }
            None => {
                // Some of them may be unusable; one that is usable is enough.
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    return Err("the system has no certificate authorities to trust: install the \
                                package ca-certificates, or set tls.ca_file"
                        .to_owned());
                }
            }
        }
        Ok(store)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |why: String| format!("cannot read certificates in {}: {why}", path.display());
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(error.to_string()));
    match read {
        Ok(none) if none.is_empty() => Err(failed("there are none in it".to_owned())),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_fit_together_are_reported() {
        let path = || Some(PathBuf::from("/x"));
        let keys = |options: TlsOptions, https| {
            let problems = options.check("tls", https);
            problems.into_iter().map(|problem| problem.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(TlsOptions::default(), false), [""; 0]);
        let ca = TlsOptions { ca_file: path(), ..TlsOptions::default() };
        assert_eq!(keys(ca.clone(), true), [""; 0]);
        assert_eq!(keys(ca, false), ["tls"]);
        let cert = TlsOptions { cert_file: path(), ..TlsOptions::default() };
        assert_eq!(keys(cert, true), ["tls.cert_file"]);
        let key = TlsOptions { key_file: path(), ..TlsOptions::default() };
        assert_eq!(keys(key, true), ["tls.key_file"]);
    }

    #[test]
    fn missing_and_empty_files_are_named_in_errors() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("ca.pem");
        std::fs::write(&empty, "no certificate\n").unwrap();
        for path in [PathBuf::from("/no/such/ca.pem"), empty] {
            let options = TlsOptions { ca_file: Some(path.clone()), ..TlsOptions::default() };
            let error = options.config(true).unwrap_err();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(options.config(false).is_ok(), "no file is read without https");
        }
    }
}
