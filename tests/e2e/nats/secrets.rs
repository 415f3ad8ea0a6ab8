//! Certificates, keys and credentials of a test's own.

use std::fs;
use std::path::{Path, PathBuf};

use nkeys::KeyPair as Nkey;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Files with certificates: of an authority, of the server, of a client.
pub(crate) struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    pub(crate) fn make(dir: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        fs::write(dir.join("ca.pem"), authority.pem())
            .expect("the scratch folder can be written to");
        for name in ["server", "client"] {
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let params = CertificateParams::new(names).expect("parameters");
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &authority).expect("a certificate");
            fs::write(dir.join(format!("{name}.pem")), certificate.pem()).expect("written");
            fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("written");
        }
        Self { dir: dir.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The server's part: it has a certificate, and wants one of its clients.
    pub(crate) fn server(&self) -> String {
        format!(
            "tls: {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
            self.path("server.pem").display(),
            self.path("server.key").display(),
            self.path("ca.pem").display()
        )
    }

    /// The handler's part.
    pub(crate) fn handler(&self) -> String {
        format!(
            "tls = {{ ca = \"{}\", cert = \"{}\", key = \"{}\" }}\n",
            self.path("ca.pem").display(),
            self.path("client.pem").display(),
            self.path("client.key").display()
        )
    }
}

/// An operator with an account and a user: the server's configuration, and the text of the user's
/// credentials.
pub(crate) fn credentials() -> (String, String) {
    let (operator, account, user) = (Nkey::new_operator(), Nkey::new_account(), Nkey::new_user());
    // Without bounds: -1 is none.
    let limits = serde_json::json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
    });
    // The server wants an account for its own messages, which may not have JetStream.
    let system = Nkey::new_account();
    let none = serde_json::json!({});
    let of_operator = token(&operator, &operator, "operator", &none);
    let of_system = token(&operator, &system, "account", &none);
    let with_limits = serde_json::json!({ "limits": limits });
    let of_account = token(&operator, &account, "account", &with_limits);
    let permissions =
        serde_json::json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
    let of_user = token(&account, &user, "user", &permissions);
    let (account, system) = (account.public_key(), system.public_key());
    let server = format!(
        "operator: {of_operator}\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload: {{ {account}: {of_account}, {system}: {of_system} }}\n"
    );
    let seed = user.seed().expect("a seed");
    let file = format!(
        "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    (server, file)
}

/// What `issuer` says of `subject`, signed.
fn token(issuer: &Nkey, subject: &Nkey, kind: &str, more: &serde_json::Value) -> String {
    let mut nats = serde_json::json!({ "type": kind, "version": 2 });
    if let (Some(nats), Some(more)) = (nats.as_object_mut(), more.as_object()) {
        nats.extend(more.clone());
    }
    let claims = serde_json::json!({
        "jti": subject.public_key(),
        "iat": 1_700_000_000,
        "iss": issuer.public_key(),
        "name": kind,
        "sub": subject.public_key(),
        "nats": nats,
    });
    let head = serde_json::json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let text = format!(
        "{}.{}",
        base64(head.to_string().as_bytes()),
        base64(claims.to_string().as_bytes())
    );
    let signature = issuer.sign(text.as_bytes()).expect("a signature");
    format!("{text}.{}", base64(&signature))
}

/// Base64 as URLs have it, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let number =
            part.iter().chain([&0, &0]).take(3).fold(0_usize, |n, b| n << 8 | usize::from(*b));
        for digit in 0..=part.len() {
            text.push(char::from(DIGITS[number >> (18 - 6 * digit) & 63]));
        }
    }
    text
}
