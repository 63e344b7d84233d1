//! Certificates as bytes, their fingerprints, and what they say. Trusting them is the TLS library's work, not ours.

use crate::{Error, MAINTENANCE_ORGANIZATION, Role, Validity, key};
use std::fmt;
use std::time::{Duration, SystemTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{ASN1Time, FromDer};

const LABEL: &str = "CERTIFICATE";

/// An X.509 certificate in DER; it parses, nothing more is promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
}

impl Certificate {
    /// Takes DER bytes.
    ///
    /// # Errors
    /// [`Error::Certificate`] when they are no certificate.
    pub fn from_der(der: Vec<u8>) -> Result<Self, Error> {
        parse(&der)?;
        Ok(Self { der })
    }

    /// Reads the first `CERTIFICATE` PEM block.
    ///
    /// # Errors
    /// When there is none or it is no certificate.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let block =
            pem::parse(text).map_err(|source| Error::Pem { what: "certificate", source })?;
        Self::from_block(block)
    }

    /// Reads every `CERTIFICATE` PEM block of a text, at least one: authorities while one replaces another, or a chain.
    ///
    /// # Errors
    /// When a block is no certificate, or there is none.
    pub fn many_from_pem(text: &str) -> Result<Vec<Self>, Error> {
        let wrong = |source| Error::Pem { what: "certificate", source };
        let blocks = pem::parse_many(text).map_err(wrong)?;
        if blocks.is_empty() {
            return Err(wrong(pem::PemError::MalformedFraming));
        }
        blocks.into_iter().map(Self::from_block).collect()
    }

    fn from_block(block: pem::Pem) -> Result<Self, Error> {
        if block.tag() == LABEL {
            return Self::from_der(block.into_contents());
        }
        let found = block.tag().to_owned();
        Err(Error::PemLabel { what: "certificate", found, wanted: LABEL })
    }

    /// DER bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// A PEM block.
    #[must_use]
    pub fn to_pem(&self) -> String {
        key::encode(&pem::Pem::new(LABEL, self.der.clone()))
    }

    /// SHA-256 of the DER bytes.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// What the certificate says.
    ///
    /// # Errors
    /// Never for a value of this type: its bytes were parsed when it was made.
    pub fn info(&self) -> Result<CertificateInfo, Error> {
        CertificateInfo::parse(&self.der)
    }
}

/// SHA-256 of a certificate's DER bytes. Shown as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate given as DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// What a certificate says of itself. Believe it only after the TLS handshake has verified the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// First common name of the subject; empty when there is none.
    pub common_name: String,
    /// First common name of the issuer; empty when there is none.
    pub issuer: String,
    /// The role, when exactly one Organization is one. A certificate with two roles has none: nobody meant that.
    pub role: Option<Role>,
    /// True for the self-signed certificate of a node in maintenance mode.
    pub maintenance: bool,
    /// First and last moment.
    pub validity: Validity,
    /// Whether it may sign other certificates.
    pub is_ca: bool,
    /// SHA-256 of the DER bytes.
    pub fingerprint: Fingerprint,
}

impl CertificateInfo {
    /// Reads a certificate given as DER, as the TLS library hands it over.
    ///
    /// # Errors
    /// [`Error::Certificate`] when the bytes are no certificate, [`Error::Validity`] for dates before 1970.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let certificate = parse(der)?;
        let subject = certificate.subject();
        let organizations: Vec<&str> =
            subject.iter_organization().filter_map(|value| value.as_str().ok()).collect();
        let mut roles = organizations.iter().filter_map(|name| Role::from_organization(name));
        let role = match (roles.next(), roles.next()) {
            (Some(role), None) => Some(role),
            _ => None,
        };
        Ok(Self {
            common_name: common_name(subject),
            issuer: common_name(certificate.issuer()),
            role,
            maintenance: organizations.contains(&MAINTENANCE_ORGANIZATION),
            validity: Validity {
                not_before: time(certificate.validity().not_before)?,
                not_after: time(certificate.validity().not_after)?,
            },
            is_ca: certificate.is_ca(),
            fingerprint: Fingerprint::of(der),
        })
    }
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Error::Certificate(x509_parser::error::X509Error::InvalidCertificate)),
        Err(error) => Err(Error::Certificate(match error {
            x509_parser::nom::Err::Incomplete(_) => {
                x509_parser::error::X509Error::InvalidCertificate
            }
            x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
        })),
    }
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    name.iter_common_name().find_map(|value| value.as_str().ok()).unwrap_or_default().to_owned()
}

fn time(time: ASN1Time) -> Result<SystemTime, Error> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_| Error::Validity)?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}
