//! Makes certificates: the authority of an installation, its nodes and its people, and the self-signed one of a node
//! that knows no authority yet.

use crate::certificate::parse;
use crate::{
    Certificate, Error, MAINTENANCE_ORGANIZATION, NODE_SERVER_NAME, PrivateKey, Role, Validity,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use std::net::IpAddr;

/// A name a server is reached by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectName {
    /// DNS name.
    Dns(String),
    /// IPv4 or IPv6 address.
    Ip(IpAddr),
}

/// A certificate with its private key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Goes to the peer.
    pub certificate: Certificate,
    /// Stays here.
    pub key: PrivateKey,
}

impl Identity {
    /// Reads both from PEM and checks that they belong together.
    ///
    /// # Errors
    /// When one cannot be read, or [`Error::KeyMismatch`].
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let identity = Self {
            certificate: Certificate::from_pem(certificate)?,
            key: PrivateKey::from_pem(key)?,
        };
        let public = identity.key.public_key()?;
        let parsed = parse(identity.certificate.der())?;
        if parsed.public_key().subject_public_key.data.as_ref() == public.as_slice() {
            Ok(identity)
        } else {
            Err(Error::KeyMismatch)
        }
    }
}

/// The authority that every node and every client of an installation trusts.
#[derive(Clone, Debug)]
pub struct Ca {
    identity: Identity,
}

impl Ca {
    /// A new authority, which may sign end certificates but no further authorities.
    ///
    /// # Errors
    /// When there are no random bytes, or the validity is no span of time.
    pub fn generate(name: &str, validity: Validity) -> Result<Self, Error> {
        let mut params = params(name, None, validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { identity: sign_self(name, &params)? })
    }

    /// Reads an authority from PEM.
    ///
    /// # Errors
    /// When one cannot be read, they do not belong together, or the certificate is no authority.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let identity = Identity::from_pem(certificate, key)?;
        let info = identity.certificate.info()?;
        if info.is_ca {
            Ok(Self { identity })
        } else {
            Err(Error::NotCa { subject: info.common_name })
        }
    }

    /// The certificate that others are to trust.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.identity.certificate
    }

    /// The key; who has it is an administrator of every node.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.identity.key
    }

    /// Issues the certificate of a node's API. [`NODE_SERVER_NAME`] is always among its names.
    ///
    /// # Errors
    /// For a DNS name that cannot stand in a certificate, no random bytes, or a wrong validity.
    pub fn issue_server(
        &self,
        name: &str,
        names: &[SubjectName],
        validity: Validity,
    ) -> Result<Identity, Error> {
        let mut params = params(name, None, validity)?;
        params.subject_alt_names = node_names(names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(name, &params)
    }

    /// Issues the certificate of a person or program that calls nodes.
    ///
    /// # Errors
    /// When there are no random bytes, or for a wrong validity.
    pub fn issue_client(
        &self,
        name: &str,
        role: Role,
        validity: Validity,
    ) -> Result<Identity, Error> {
        let mut params = params(name, Some(&role.organization()), validity)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(name, &params)
    }

    pub(crate) fn sign(
        &self,
        subject: &str,
        params: &CertificateParams,
    ) -> Result<Identity, Error> {
        let key = PrivateKey::generate()?;
        let failed = |source| Error::Sign { subject: subject.to_owned(), source };
        let der = key.with_pair(|subject_pair| {
            self.identity.key.with_pair(|ca_pair| {
                let ca_der = self.identity.certificate.der().into();
                let issuer = Issuer::from_ca_cert_der(&ca_der, ca_pair).map_err(failed)?;
                let signed = params.signed_by(subject_pair, &issuer).map_err(failed)?;
                Ok(signed.der().to_vec())
            })
        })?;
        Ok(Identity { certificate: Certificate::from_der(der)?, key })
    }
}

/// The certificate of a node in maintenance mode. Nothing vouches for it but the pairing code, whose proofs are bound to
/// its fingerprint.
///
/// # Errors
/// For a DNS name that cannot stand in a certificate, no random bytes, or a wrong validity.
pub fn self_signed(
    name: &str,
    names: &[SubjectName],
    validity: Validity,
) -> Result<Identity, Error> {
    let mut params = params(name, Some(MAINTENANCE_ORGANIZATION), validity)?;
    params.subject_alt_names = node_names(names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign_self(name, &params)
}

fn sign_self(subject: &str, params: &CertificateParams) -> Result<Identity, Error> {
    let key = PrivateKey::generate()?;
    let der = key.with_pair(|pair| {
        let signed = params
            .self_signed(pair)
            .map_err(|source| Error::Sign { subject: subject.to_owned(), source })?;
        Ok(signed.der().to_vec())
    })?;
    Ok(Identity { certificate: Certificate::from_der(der)?, key })
}

pub(crate) fn params(
    common_name: &str,
    organization: Option<&str>,
    validity: Validity,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    validity.write(&mut params)?;
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params.serial_number = Some(serial()?);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 127 random bits: positive, and never the same twice.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Random)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Names of a node's own API: those given, after the one that every node has.
fn node_names(names: &[SubjectName]) -> Result<Vec<SanType>, Error> {
    let node = SubjectName::Dns(NODE_SERVER_NAME.to_owned());
    alt_names(std::iter::once(&node).chain(names))
}

/// Names as they stand in a certificate, each once.
pub(crate) fn alt_names<'a>(
    names: impl IntoIterator<Item = &'a SubjectName>,
) -> Result<Vec<SanType>, Error> {
    let mut alt_names: Vec<SanType> = Vec::new();
    for name in names {
        let alt_name = match name {
            SubjectName::Ip(address) => SanType::IpAddress(*address),
            SubjectName::Dns(dns) => SanType::DnsName(
                dns.as_str()
                    .try_into()
                    .map_err(|source| Error::Name { name: dns.clone(), source })?,
            ),
        };
        if !alt_names.contains(&alt_name) {
            alt_names.push(alt_name);
        }
    }
    Ok(alt_names)
}
