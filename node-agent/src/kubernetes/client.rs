//! HTTPS with a certificate of one's own, for the API server and for etcd: one connection for each call, every wait bounded, every
//! answer of bounded length. What the bytes mean is not said here.

use anyhow::Context as _;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use ingot_pki::{Ca, Identity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For a connection. It is to the same machine.
const CONNECT: Duration = Duration::from_secs(10);
/// For an answer to begin, and for each piece of it. In emulation the API server takes tens of seconds for its first ones.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest answer that is kept in memory.
const ANSWER_MAX: usize = 4 << 20;

/// Speaks with servers of one authority as one client. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    servers: Arc<Vec<SocketAddr>>,
    tls: TlsConnector,
}

/// A call.
pub(crate) struct Call<'a> {
    /// Method.
    pub(crate) method: Method,
    /// Path with what is asked for.
    pub(crate) path: &'a str,
    /// What `body` is.
    pub(crate) content_type: &'static str,
    /// What is sent.
    pub(crate) body: Vec<u8>,
}

impl<'a> Call<'a> {
    /// Asks for something.
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, content_type: "application/json", body: Vec::new() }
    }

    /// Sends something.
    pub(crate) fn post(path: &'a str, body: Vec<u8>) -> Self {
        Self { method: Method::POST, path, content_type: "application/json", body }
    }
}

/// An answer, whole.
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// Body.
    pub(crate) body: Vec<u8>,
}

/// An answer that is read piece by piece. Dropping it ends the connection.
pub(crate) struct Pieces {
    /// Status.
    pub(crate) status: StatusCode,
    incoming: Incoming,
    connection: tokio::task::AbortHandle,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Pieces {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            let frame = timeout(ANSWER, self.incoming.frame()).await;
            match frame.context("waited too long for the rest of the answer")? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.context("read the answer")?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

impl Client {
    /// `servers` are equal; they are tried in order.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub(crate) fn new(
        servers: Vec<SocketAddr>,
        ca: &Ca,
        identity: &Identity,
    ) -> anyhow::Result<Self> {
        let authority = CertificateDer::from(ca.certificate().der().to_vec());
        let key = PrivatePkcs8KeyDer::from(identity.key.pkcs8_der().to_vec());
        let own = vec![CertificateDer::from(identity.certificate.der().to_vec())];
        Self::with(servers, authority, own, PrivateKeyDer::Pkcs8(key))
    }

    /// The same with an authority and an own certificate and key as others write them: in PEM, with a key of any form.
    ///
    /// # Errors
    /// When one of them cannot be read. No error shows what is in them.
    pub(crate) fn from_pem(
        servers: Vec<SocketAddr>,
        authority: &str,
        own: &str,
    ) -> anyhow::Result<Self> {
        let wrong = |what: &'static str| move |_| anyhow::anyhow!("there is no {what} in the file");
        let authority = CertificateDer::from_pem_slice(authority.as_bytes());
        let authority = authority.map_err(wrong("authority"))?;
        let key = PrivateKeyDer::from_pem_slice(own.as_bytes()).map_err(wrong("key"))?;
        let own: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(own.as_bytes()).collect();
        Self::with(servers, authority, own.map_err(wrong("certificate"))?, key)
    }

    fn with(
        servers: Vec<SocketAddr>,
        authority: CertificateDer<'static>,
        own: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(own, key)?;
        Ok(Self { servers: Arc::new(servers), tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Makes a call and reads the whole answer.
    ///
    /// # Errors
    /// When no server answers in time, or the answer is too long.
    pub(crate) async fn call(&self, call: Call<'_>) -> anyhow::Result<Answer> {
        let mut pieces = self.open(call).await?;
        let mut body = Vec::new();
        while let Some(piece) = pieces.next().await? {
            anyhow::ensure!(
                body.len() + piece.len() <= ANSWER_MAX,
                "the answer is longer than {ANSWER_MAX} bytes"
            );
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status: pieces.status, body })
    }

    /// Makes a call and leaves the answer to be read.
    ///
    /// # Errors
    /// When no server answers in time.
    pub(crate) async fn open(&self, call: Call<'_>) -> anyhow::Result<Pieces> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.context("begin to talk")?;
        let connection = tokio::spawn(async move {
            // Its error is also the one of the request.
            let _ = connection.await;
        })
        .abort_handle();
        let request = http::Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(http::header::HOST, "127.0.0.1")
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, call.content_type)
            .body(Full::new(Bytes::from(call.body)))
            .context("make the request")?;
        let answer = timeout(ANSWER, sender.send_request(request)).await;
        let answer = answer.map_err(anyhow::Error::from).and_then(|answer| Ok(answer?));
        match answer {
            Ok(answer) => {
                let (parts, incoming) = answer.into_parts();
                Ok(Pieces { status: parts.status, incoming, connection })
            }
            Err(error) => {
                connection.abort();
                Err(error.context("waited for an answer"))
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
        let mut last = anyhow::anyhow!("there is no server to ask");
        for server in self.servers.iter() {
            let name = ServerName::IpAddress(server.ip().into());
            let connecting = async {
                let stream = TcpStream::connect(server).await?;
                self.tls.connect(name, stream).await
            };
            match timeout(CONNECT, connecting).await {
                Ok(Ok(stream)) => return Ok(TokioIo::new(stream)),
                Ok(Err(error)) => {
                    last = anyhow::Error::from(error).context(format!("connect to {server}"))
                }
                Err(_) => {
                    last = anyhow::anyhow!("{server} did not answer within {} s", CONNECT.as_secs())
                }
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingot_pki::kubernetes::{Subject, Usage};
    use ingot_pki::{SubjectName, Validity};
    use rustls::server::WebPkiClientVerifier;
    use std::time::SystemTime;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn identity(ca: &Ca, usage: Usage) -> Identity {
        let names = vec![SubjectName::Ip([127, 0, 0, 1].into())];
        let subject = Subject { common_name: "x".into(), group: None, usage, names };
        ca.issue_kubernetes(&subject, validity()).unwrap()
    }

    fn validity() -> Validity {
        Validity::starting(SystemTime::now(), Validity::days(1))
    }

    /// A server that wants a certificate of `ca`, and answers every call with what it was asked.
    async fn echo(ca: &Ca) -> SocketAddr {
        let own = identity(ca, Usage::Server);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca.certificate().der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from(own.certificate.der().to_vec())],
                PrivatePkcs8KeyDer::from(own.key.pkcs8_der().to_vec()).into(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = vec![0; 4096];
                let Ok(count) = stream.read(&mut request).await else { continue };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&request[..count]).await;
                let _ = stream.flush().await;
            }
        });
        address
    }

    #[tokio::test]
    async fn it_proves_who_it_is_and_takes_the_next_server_when_one_is_gone() {
        let ca = Ca::generate("ca", validity()).unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let servers = vec![gone, echo(&ca).await];
        let client = Client::new(servers, &ca, &identity(&ca, Usage::Client)).unwrap();
        let answer = client.call(Call::post("/a?b=c", b"{}".to_vec())).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let asked = String::from_utf8(answer.body).unwrap();
        assert!(asked.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("content-type: application/json"), "{asked}");
    }

    #[tokio::test]
    async fn a_certificate_that_a_program_wrote_will_do() {
        let ca = Ca::generate("ca", validity()).unwrap();
        let own = identity(&ca, Usage::Client);
        let text = format!("{}{}", own.certificate.to_pem(), own.key.to_pem().as_str());
        let authority = ca.certificate().to_pem();
        let client = Client::from_pem(vec![echo(&ca).await], &authority, &text).unwrap();
        assert_eq!(client.call(Call::get("/")).await.unwrap().status, StatusCode::OK);
        let half = own.certificate.to_pem();
        let error = Client::from_pem(Vec::new(), &authority, &half).err().unwrap();
        assert_eq!(error.to_string(), "there is no key in the file");
    }

    #[tokio::test]
    async fn a_stranger_is_not_let_in_and_lets_no_stranger_in() {
        let (ca, other) =
            (Ca::generate("ca", validity()).unwrap(), Ca::generate("ca", validity()).unwrap());
        let server = vec![echo(&ca).await];
        let stranger = Client::new(server.clone(), &ca, &identity(&other, Usage::Client)).unwrap();
        assert!(stranger.call(Call::get("/")).await.is_err());
        let fooled = Client::new(server, &other, &identity(&ca, Usage::Client)).unwrap();
        assert!(fooled.call(Call::get("/")).await.is_err());
    }
}
