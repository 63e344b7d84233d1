//! From an address to a stream: names, TCP, proxy, TLS. Whom to trust is decided for each registry.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use base64::Engine as _;
use http::HeaderValue;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{HttpError, Url};

/// Addresses tried for one name.
const ADDRESSES_MAX: usize = 4;
/// Answer of a proxy, in bytes.
const PROXY_ANSWER_MAX: usize = 8192;

/// How this node reaches others.
#[derive(Debug)]
pub(crate) struct Network {
    /// Authorities every host may use.
    pub(crate) ca_bundle: PathBuf,
    proxy: Option<Proxy>,
    no_proxy: Vec<String>,
}

#[derive(Debug)]
struct Proxy {
    url: Url,
    authorization: Option<HeaderValue>,
}

/// Whom to believe that they are a registry.
pub(crate) struct Trust {
    /// More authorities (PEM).
    pub(crate) ca_pem: String,
    /// Anybody, for the registry itself; not for hosts it redirects to.
    pub(crate) skip_verify: bool,
    configs: [OnceLock<Arc<ClientConfig>>; 2],
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("skip_verify", &self.skip_verify).finish_non_exhaustive()
    }
}

impl Trust {
    pub(crate) fn new(ca_pem: String, skip_verify: bool) -> Self {
        Self { ca_pem, skip_verify, configs: Default::default() }
    }

    /// Configuration for the registry itself (`own`), or for where it sends us.
    fn config(
        &self,
        network: &Network,
        own: bool,
        host: &str,
    ) -> Result<Arc<ClientConfig>, HttpError> {
        let cell = &self.configs[usize::from(own)];
        if let Some(config) = cell.get() {
            return Ok(config.clone());
        }
        let config = self
            .build(network, own)
            .map_err(|source| HttpError::Certificates { host: host.to_owned(), source })?;
        Ok(cell.get_or_init(|| Arc::new(config)).clone())
    }

    fn build(
        &self,
        network: &Network,
        own: bool,
    ) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        if own && self.skip_verify {
            let verifier = Arc::new(Anybody(provider));
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            return Ok(builder.with_no_client_auth());
        }
        let mut roots = RootCertStore::empty();
        match std::fs::read(&network.ca_bundle) {
            // A bundle of the world may hold one that we cannot read; the others still count.
            Ok(pem) => {
                let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
                roots.add_parsable_certificates(certificates);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

impl Network {
    /// `proxy` may be empty; it may hold a user name and a password.
    pub(crate) fn new(
        ca_bundle: PathBuf,
        proxy: &str,
        no_proxy: Vec<String>,
    ) -> Result<Self, HttpError> {
        let proxy = if proxy.is_empty() { None } else { Some(Proxy::parse(proxy)?) };
        Ok(Self { ca_bundle, proxy, no_proxy })
    }

    pub(crate) fn proxy_authorization(&self) -> Option<&HeaderValue> {
        self.proxy.as_ref()?.authorization.as_ref()
    }

    /// A stream to a host, and whether requests go to it directly, not by way of a proxy that reads them.
    pub(crate) async fn connect(
        &self,
        url: &Url,
        trust: &Trust,
        own: bool,
    ) -> Result<(TokioIo<Stream>, bool), HttpError> {
        let proxy = self.proxy.as_ref().filter(|_| !self.avoids_proxy(&url.host));
        let stream = match proxy {
            None => tcp(url).await?,
            Some(proxy) => {
                let mut stream = tcp(&proxy.url).await?;
                if url.https {
                    tunnel(&mut stream, url, proxy).await?;
                }
                stream
            }
        };
        if !url.https {
            return Ok((TokioIo::new(Stream::Plain(stream)), proxy.is_none()));
        }
        let tls = |source| HttpError::Tls { host: url.host.clone(), source };
        let name = ServerName::try_from(url.host.clone()).map_err(|e| tls(io::Error::other(e)))?;
        let connector = TlsConnector::from(trust.config(self, own, &url.host)?);
        let stream = connector.connect(name, stream).await.map_err(tls)?;
        Ok((TokioIo::new(Stream::Tls(Box::new(stream))), true))
    }

    fn avoids_proxy(&self, host: &str) -> bool {
        self.no_proxy.iter().map(|rule| rule.trim_start_matches(['*', '.'])).any(|rule| {
            rule.is_empty()
                || host.eq_ignore_ascii_case(rule)
                || host
                    .len()
                    .checked_sub(rule.len() + 1)
                    .and_then(|at| host.get(at..))
                    .is_some_and(|end| end.starts_with('.') && end[1..].eq_ignore_ascii_case(rule))
        })
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, HttpError> {
        let bad = |problem| HttpError::Url { url: "the proxy".into(), problem };
        let rest = text.strip_prefix("http://").ok_or(bad("it does not begin with http://"))?;
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        };
        let authorization = credentials.map(basic).transpose()?;
        let url = Url::parse(&format!("http://{place}")).map_err(|_| bad("it cannot be read"))?;
        Ok(Self { url, authorization })
    }
}

/// Value of a header for `user:password`.
pub(crate) fn basic(credentials: &str) -> Result<HeaderValue, HttpError> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).map_err(|_| {
        HttpError::Url { url: String::new(), problem: "its credentials cannot be sent" }
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A TCP connection to the first address that answers.
async fn tcp(url: &Url) -> Result<TcpStream, HttpError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses(url).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Requests are one small write each.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(HttpError::Connect { host: url.authority(), source: last })
}

async fn addresses(url: &Url) -> Result<Vec<SocketAddr>, HttpError> {
    if let Ok(ip) = url.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, url.port)]);
    }
    let found = ingot_names::addresses(&url.host).await.map_err(|source| HttpError::Resolve {
        host: url.host.clone(),
        source: Box::new(source),
    })?;
    let all = found.into_iter().map(|ip| SocketAddr::new(ip, url.port));
    Ok(all.take(ADDRESSES_MAX).collect())
}

/// Asks a proxy to connect us to a host.
async fn tunnel(stream: &mut TcpStream, url: &Url, proxy: &Proxy) -> Result<(), HttpError> {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let target = format!("{host}:{}", url.port);
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(value) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let failed = |source| HttpError::Connect { host: proxy.url.authority(), source };
    stream.write_all(&request).await.map_err(failed)?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the answer belongs to TLS.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == PROXY_ANSWER_MAX {
            break;
        }
        answer.push(stream.read_u8().await.map_err(failed)?);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    if line.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
        return Ok(());
    }
    let answer = line.chars().filter(|c| !c.is_control()).take(128).collect();
    Err(HttpError::Proxy { host: url.host.clone(), answer })
}

/// A connection with or without TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Believes any certificate, for registries that an operator marked so.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
