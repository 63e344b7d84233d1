//! TLS 1.3 as both modes need it: against an authority with a client certificate, or against whatever a node without
//! config presents, which the pairing proofs then vouch for. Translates what TLS says into words.

use super::{Distrust, Endpoint, Error, Refusal};
use ingot_pki::{Certificate, CertificateInfo, Identity};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use std::sync::{Arc, OnceLock};

/// Whom the client trusts and who it is.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Authorities of the installation; several while one replaces another.
    pub authorities: Vec<Certificate>,
    /// The client's own certificate. Without one a node answers nobody, but says so.
    pub identity: Option<Identity>,
}

/// A TLS set-up for one connection, with the certificate the node presented on it.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) config: Arc<ClientConfig>,
    seen: Arc<OnceLock<CertificateDer<'static>>>,
}

impl Setup {
    /// Trusts the authorities of the credentials and nothing else.
    pub(super) fn verified(credentials: &Credentials) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in &credentials.authorities {
            roots
                .add(CertificateDer::from(authority.der().to_vec()))
                .map_err(|error| Error::Credentials(Box::new(error)))?;
        }
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| Error::Credentials(Box::new(error)))?;
        let seen = Arc::new(OnceLock::new());
        let verifier = Arc::new(Authority { inner, seen: Arc::clone(&seen) });
        let builder = builder(provider)?.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &credentials.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivatePkcs8KeyDer::from(identity.key.pkcs8_der().to_vec());
                let chain = vec![CertificateDer::from(identity.certificate.der().to_vec())];
                builder
                    .with_client_auth_cert(chain, key.into())
                    .map_err(|error| Error::Credentials(Box::new(error)))?
            }
        };
        Ok(Self::new(config, seen))
    }

    /// Trusts nobody yet: takes any certificate whose key the peer holds and remembers it for the pairing proofs.
    pub(super) fn unverified() -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let seen = Arc::new(OnceLock::new());
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Arc::new(Remember { algorithms, seen: Arc::clone(&seen) });
        let config = builder(provider)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self::new(config, seen))
    }

    fn new(mut config: ClientConfig, seen: Arc<OnceLock<CertificateDer<'static>>>) -> Self {
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would skip the certificate that errors and pairing speak of.
        config.resumption = rustls::client::Resumption::disabled();
        Self { config: Arc::new(config), seen }
    }

    /// What the node's certificate says of itself, once it was presented.
    pub(super) fn presented(&self) -> Option<CertificateInfo> {
        self.seen.get().and_then(|der| CertificateInfo::parse(der).ok())
    }

    /// What a failed handshake, or an alert after it, means.
    pub(super) fn explain(&self, endpoint: &Endpoint, error: std::io::Error) -> Error {
        let presented = self.presented();
        let endpoint = endpoint.clone();
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(_))
                if presented.as_ref().is_some_and(|info| info.maintenance) =>
            {
                Error::Maintenance { endpoint }
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                Error::NodeUntrusted { endpoint, reason: distrust(why, presented) }
            }
            Some(rustls::Error::AlertReceived(alert)) => match refusal(*alert) {
                Some(reason) => Error::ClientRefused { endpoint, reason },
                None => Error::Protocol { endpoint, source: Box::new(error) },
            },
            _ => Error::Protocol { endpoint, source: Box::new(error) },
        }
    }
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder(provider: Arc<CryptoProvider>) -> Result<Builder, Error> {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Error::Credentials(Box::new(error)))
}

fn distrust(why: &CertificateError, presented: Option<CertificateInfo>) -> Distrust {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            let (issuer, fingerprint) = presented
                .map(|info| (info.issuer, info.fingerprint.to_string()))
                .unwrap_or_default();
            Distrust::UnknownCa { issuer, fingerprint }
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Distrust::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Distrust::NotYetValid
        }
        CertificateError::NotValidForName
        | CertificateError::NotValidForNameContext { .. }
        | CertificateError::InvalidPurpose
        | CertificateError::InvalidPurposeContext { .. } => Distrust::NotANode,
        other => Distrust::Other(other.to_string()),
    }
}

fn refusal(alert: AlertDescription) -> Option<Refusal> {
    match alert {
        AlertDescription::CertificateRequired => Some(Refusal::NoCertificate),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => Some(Refusal::UnknownCa),
        AlertDescription::CertificateExpired => Some(Refusal::Expired),
        AlertDescription::CertificateRevoked => Some(Refusal::Revoked),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => Some(Refusal::Unsuitable),
        _ => None,
    }
}

/// The library's own verifier, with a memory for the certificate.
#[derive(Debug)]
struct Authority {
    inner: Arc<WebPkiServerVerifier>,
    seen: Arc<OnceLock<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Authority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.seen.get_or_init(|| end_entity.clone().into_owned());
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Takes any certificate, but still makes the peer prove that it holds the key: the fingerprint is what pairing binds to.
#[derive(Debug)]
struct Remember {
    algorithms: WebPkiSupportedAlgorithms,
    seen: Arc<OnceLock<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Remember {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.seen.get_or_init(|| end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
