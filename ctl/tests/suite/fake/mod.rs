//! A node in this process: the machine API on localhost with real TLS 1.3 and client certificates, and fixed answers.

pub(crate) mod answers;
mod machine;
mod programs;

use ingot_api::machine::v1::machine_server::MachineServer;
use ingot_ctl::client::{Credentials, Endpoint, Target};
use ingot_pki::pairing::PairingCode;
use ingot_pki::{Ca, CertificateInfo, Fingerprint, Identity, Role, Validity, self_signed};
use machine::Machine;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// An installation with one node of it, running until dropped.
pub(crate) struct Fake {
    pub(crate) ca: Ca,
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: Fingerprint,
    identity: Identity,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn a_year() -> Validity {
    Validity::starting(SystemTime::now(), Validity::days(365))
}

pub(crate) fn expired() -> Validity {
    let now = SystemTime::now();
    Validity { not_before: now - Validity::days(2), not_after: now - Validity::days(1) }
}

impl Fake {
    /// A node with a config.
    pub(crate) async fn configured() -> Self {
        let ca = Ca::generate("test installation", a_year()).unwrap();
        let identity = ca.issue_server("node-1", &[], a_year()).unwrap();
        Self::start(ca, identity, None, None).await
    }

    /// A node with a config, presenting a certificate of the test's choice.
    pub(crate) async fn with_certificate(ca: Ca, identity: Identity) -> Self {
        Self::start(ca, identity, None, None).await
    }

    /// A node without config, with this code on its console.
    pub(crate) async fn maintenance(code: &PairingCode) -> Self {
        let ca = Ca::generate("test installation", a_year()).unwrap();
        let identity = self_signed("ingot", &[], a_year()).unwrap();
        Self::start(ca, identity, Some(code.clone()), None).await
    }

    /// The same node at the same address, after its end.
    pub(crate) async fn again(&self) -> Self {
        Self::start(self.ca.clone(), self.identity.clone(), None, Some(self.address)).await
    }

    async fn start(
        ca: Ca,
        identity: Identity,
        code: Option<PairingCode>,
        address: Option<SocketAddr>,
    ) -> Self {
        let fingerprint = identity.certificate.fingerprint();
        let config = server_config(&ca, &identity, code.is_some());
        let listener =
            TcpListener::bind(address.unwrap_or(([127, 0, 0, 1], 0).into())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let incoming = TcpListenerStream::new(listener)
            .then(move |tcp| {
                let acceptor = acceptor.clone();
                async move { acceptor.accept(tcp?).await.map(Accepted) }
            })
            .filter(Result::is_ok);
        let machine = Machine::new(code, fingerprint);
        let serving = tokio::spawn(async move {
            let server = Server::builder().add_service(MachineServer::new(machine));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { ca, address, fingerprint, identity, serving }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.address.into()
    }

    pub(crate) fn target(&self, identity: Option<Identity>) -> Target {
        let authorities = vec![self.ca.certificate().clone()];
        Target::new(self.endpoint(), Credentials { authorities, identity })
    }

    /// A target as someone with this role.
    pub(crate) fn target_as(&self, role: Role) -> Target {
        self.target(Some(self.ca.issue_client("anna", role, a_year()).unwrap()))
    }
}

fn server_config(ca: &Ca, identity: &Identity, maintenance: bool) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = if maintenance {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca.certificate().der().to_vec())).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    };
    let chain = vec![CertificateDer::from(identity.certificate.der().to_vec())];
    let key = PrivatePkcs8KeyDer::from(identity.key.pkcs8_der().to_vec());
    let mut config = builder.with_single_cert(chain, key.into()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Who calls, for the fake's rules.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Option<CertificateInfo>);

struct Accepted(TlsStream<TcpStream>);

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        let chain = self.0.get_ref().1.peer_certificates().unwrap_or_default();
        Caller(chain.first().map(|der| CertificateInfo::parse(der).unwrap()))
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
