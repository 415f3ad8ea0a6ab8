//! HTTP requests.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use whalewatch_core::error::with_causes;

use super::retry_after::retry_after;

/// The most bytes of a response body that are read; it only serves for messages.
const MOST_BODY_BYTES: usize = 64 * 1024;
/// How long a connection may be silent before the other end is probed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A client that keeps connections open. It must be created and used within a tokio runtime.
pub type Client<B> = legacy::Client<HttpsConnector<HttpConnector>, B>;

/// Creates a client for bodies of type `B`. With `http2` it speaks only HTTP/2, even without TLS to
/// negotiate it.
pub fn client<B>(tls: &ClientConfig, http2: bool, connect_timeout: Duration) -> Client<B>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
    let connector = if http2 {
        builder.enable_http2().wrap_connector(tcp)
    } else {
        builder.enable_http1().wrap_connector(tcp)
    };
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1)
        .http2_only(http2)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .build(connector)
}

/// Sends requests to one address over HTTP/1.1.
#[derive(Debug)]
pub struct Http {
    client: Client<Full<Bytes>>,
    tls: ClientConfig,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// How long the server asks to wait before the next attempt.
    pub retry_after: Option<Duration>,
    /// Its body; empty if it is too long or breaks off.
    pub body: Bytes,
}

/// A request that got no response, or not in time.
#[derive(Debug)]
pub struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Http {
    /// Creates a sender of requests that have all of this in common; `timeout` covers one request
    /// and its response. Must be called within a tokio runtime.
    pub fn new(
        tls: ClientConfig,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Self {
        let client = client(&tls, false, timeout);
        Self { client, tls, method, uri, headers, timeout }
    }

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// If none arrived in time: why.
    pub async fn send(&mut self, body: Bytes) -> Result<Reply, Fault> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        match tokio::time::timeout(self.timeout, exchange(&self.client, request)).await {
            Ok(result) => result,
            Err(_) => {
                // The next attempt must not wait on the same connection.
                self.client = client(&self.tls, false, self.timeout);
                Err(Fault(format!("no response within {:?}", self.timeout)))
            }
        }
    }
}

async fn exchange(
    client: &Client<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Reply, Fault> {
    let answer = client.request(request).await.map_err(|error| Fault(with_causes(&error)))?;
    let status = answer.status();
    let retry_after = answer.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()).and_then(retry_after_now);
    // The status decides; a body that is too long or breaks off does not matter. Reading it to its
    // end lets the connection be used again.
    let body = Limited::new(answer.into_body(), MOST_BODY_BYTES).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Ok(Reply { status, retry_after, body })
}

fn retry_after_now(value: &str) -> Option<Duration> {
    retry_after(value, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};

    use super::*;
    use crate::TlsOptions;
    use whalewatch_testing::{Answer, Server};

    const LONG: Duration = Duration::from_secs(30);

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    fn send(uri: &str, tls: &TlsOptions, timeout: Duration) -> Result<Reply, Fault> {
        let uri: Uri = uri.parse().unwrap();
        let config = tls.config(uri.scheme_str() == Some("https")).unwrap();
        run(async {
            Http::new(config, Method::POST, uri, HeaderMap::new(), timeout)
                .send(Bytes::from_static(b"body"))
                .await
        })
    }

    #[test]
    fn response_has_its_status_body_and_retry_after() {
        let mut server = Server::start(|_| Answer::Reply {
            status: 429,
            headers: vec![("Retry-After", "7".to_owned())],
            body: b"slow down".to_vec(),
        });
        let reply = send(&server.url("/x?y"), &TlsOptions::default(), LONG).unwrap();
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (429, &b"slow down"[..]));
        assert_eq!(reply.retry_after, Some(Duration::from_secs(7)));
        let got = server.received();
        assert_eq!(
            (&*got[0].method, &*got[0].path, &got[0].body[..]),
            ("POST", "/x?y", &b"body"[..])
        );
    }

    #[test]
    fn server_that_hangs_closes_or_is_gone_is_a_fault() {
        let hangs = Server::start(|_| Answer::Hang);
        let fault = send(&hangs.url("/"), &TlsOptions::default(), Duration::from_millis(50));
        assert!(fault.unwrap_err().to_string().contains("no response within 50ms"));
        let closes = Server::start(|_| Answer::Close);
        assert!(send(&closes.url("/"), &TlsOptions::default(), LONG).is_err());
        let gone = closes.url("/");
        drop(closes);
        let fault = send(&gone, &TlsOptions::default(), LONG).unwrap_err().to_string();
        assert!(fault.contains("refused"), "{fault}");
    }

    struct Pki {
        server: ServerConfig,
        options: TlsOptions,
        _dir: tempfile::TempDir,
    }

    /// Creates certificates for a server on `localhost` that asks clients for theirs.
    fn pki() -> Pki {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
        };
        let (cert, key) = issue("localhost");
        let (client_cert, client_key) = issue("client");
        let options = TlsOptions {
            ca_file: write("ca.pem", ca.pem()),
            cert_file: write("client.pem", client_cert),
            key_file: write("client.key", client_key),
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        Pki { server, options, _dir: dir }
    }

    /// Serves one connection over TLS; returns the address.
    fn serve_once(config: ServerConfig) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let Ok((mut socket, _)) = listener.accept() else { return };
            let mut session = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = Stream::new(&mut session, &mut socket);
            // Some tests expect the client to refuse this server, which ends the connection early.
            if stream.read(&mut [0; 1024]).is_ok() {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok();
            }
        });
        format!("https://localhost:{port}/")
    }

    #[test]
    fn tls_trusts_the_given_authority_and_presents_its_certificate() {
        let Pki { server, options, _dir } = pki();
        let reply = send(&serve_once(server), &options, LONG).unwrap();
        assert_eq!(reply.status, StatusCode::NO_CONTENT);
    }

    #[test]
    fn tls_refuses_a_server_of_another_authority_or_name() {
        let (Pki { server, options, _dir }, other) = (pki(), pki());
        let fault =
            send(&serve_once(server.clone()), &other.options, LONG).unwrap_err().to_string();
        assert!(fault.contains("certificate"), "{fault}");
        let by_number = serve_once(server).replace("localhost", "127.0.0.1");
        let fault = send(&by_number, &options, LONG).unwrap_err().to_string();
        assert!(fault.contains("certificate"), "{fault}");
    }
}
