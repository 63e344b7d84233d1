//! TLS of the API: version 1.3 only, a client certificate from the config's CA unless the node waits for its first
//! config, and what a failed handshake is called in an event.

use crate::grpc::auth::{Client, Peer};
use crate::state::ServerIdentity;
use ingot_pki::{CertificateInfo, Fingerprint};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore, ServerConfig, ServerConnection};
use std::net::SocketAddr;
use std::sync::Arc;

/// What could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The key or certificate is not accepted by the TLS library.
    #[error("use the node's certificate")]
    Certificate(#[source] rustls::Error),
    /// One of the authorities is not accepted.
    #[error("use the certificate authority of the config")]
    Authority(#[source] rustls::Error),
    /// No verifier can be built from the authorities.
    #[error("verify clients by the certificate authority of the config")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// The TLS settings for an identity.
///
/// # Errors
/// When the TLS library refuses a certificate or the key.
pub(crate) fn server_config(identity: &ServerIdentity) -> Result<ServerConfig, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Certificate)?;
    let builder = if identity.maintenance {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for authority in &identity.client_authorities {
            let der = CertificateDer::from(authority.der().to_vec());
            roots.add(der).map_err(TlsError::Authority)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(TlsError::Verifier)?;
        builder.with_client_cert_verifier(verifier)
    };
    let own = std::iter::once(&identity.identity.certificate).chain(&identity.chain);
    let chain = own.map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    let key = PrivatePkcs8KeyDer::from(identity.identity.key.pkcs8_der().to_vec());
    let mut config = builder
        .with_single_cert(chain, PrivateKeyDer::Pkcs8(key))
        .map_err(TlsError::Certificate)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would carry a role past the moment its CA was taken out of the config.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Who is on the other end of a finished handshake.
pub(crate) fn peer(address: SocketAddr, server: Fingerprint, tls: &ServerConnection) -> Peer {
    let certificate = tls.peer_certificates().and_then(|chain| chain.first());
    let client = certificate.map(|certificate| match CertificateInfo::parse(certificate) {
        Ok(info) => Client { name: info.common_name, role: info.role },
        // The TLS library accepted it but we cannot read a role from it: it has none.
        Err(_) => Client { name: "unreadable".into(), role: None },
    });
    Peer { address, client, server }
}

/// Why a handshake failed.
pub(crate) struct Failure {
    /// In words for an operator.
    pub(crate) reason: String,
    /// The client could not prove who it is; otherwise it did not even try.
    pub(crate) authentication: bool,
}

impl Failure {
    /// A failure that says nothing about who the client is.
    pub(crate) fn other(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), authentication: false }
    }
}

/// Why a handshake failed. `None` for what is not worth a word, such as a peer that went away.
pub(crate) fn failure(error: &std::io::Error) -> Option<Failure> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let reason = match tls {
        rustls::Error::NoCertificatesPresented => "the client showed no certificate".into(),
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the client's certificate is from another certificate authority".into()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the client's certificate has expired".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the client's certificate is not valid yet; compare the clocks".into()
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the certificate is not for clients".into()
            }
            other => format!("the client's certificate is refused: {other}"),
        },
        rustls::Error::AlertReceived(alert) => {
            return Some(Failure::other(format!(
                "the client does not accept this node: {alert:?}"
            )));
        }
        rustls::Error::PeerIncompatible(reason) => {
            return Some(Failure::other(format!(
                "client and node have nothing in common: {reason:?}"
            )));
        }
        rustls::Error::InvalidMessage(_) => {
            return Some(Failure::other("what was sent is not TLS"));
        }
        other => return Some(Failure::other(other.to_string())),
    };
    Some(Failure { reason, authentication: true })
}
