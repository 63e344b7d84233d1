//! One request to the API server as curl would make it: TLS, a token, and nothing of Kubernetes' own clients.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// One answer of a server that emulation makes slow.
const LIMIT: Duration = Duration::from_secs(60);
/// More than the tests ask for.
const ANSWER_MAX: u64 = 4 << 20;

/// A request; the server is at a port of this machine.
#[derive(Debug, Clone)]
pub struct Request {
    /// The port.
    pub port: u16,
    /// Who signs the server's certificate, PEM.
    pub ca: String,
    /// Who asks.
    pub token: String,
    /// E.g. `POST`.
    pub method: &'static str,
    /// E.g. `/api/v1/nodes`.
    pub path: String,
    /// JSON; empty when there is none.
    pub body: String,
}

impl Request {
    /// The status code and the body of the answer.
    pub async fn send(self) -> anyhow::Result<(u16, String)> {
        let asked = tokio::task::spawn_blocking(move || self.ask());
        asked.await.context("a request was given up")?
    }

    fn ask(&self) -> anyhow::Result<(u16, String)> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let connection = ClientConnection::new(Arc::new(config), name)?;
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        let mut stream = StreamOwned::new(connection, socket);
        let Self { token, method, path, body, .. } = self;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("the answer begins with {head:?}"))?;
        ensure!((100..600).contains(&status), "the status is {status}");
        Ok((status, body.to_owned()))
    }
}
