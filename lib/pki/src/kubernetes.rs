//! Certificates of a Kubernetes cluster: names and groups are what RBAC reads from them. Which ones there are is not said here.

use crate::authority::{Identity, SubjectName, alt_names, params};
use crate::{Ca, Error, PrivateKey, Validity};
use rcgen::{DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose};

/// Everything before the point in the public key of a P-256 key (RFC 5480).
const PUBLIC_KEY_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What the holder of a certificate may do with it in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Call others.
    Client,
    /// Be called.
    Server,
    /// Both: members of etcd.
    Peer,
}

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The user's name to Kubernetes.
    pub common_name: String,
    /// The user's group to Kubernetes.
    pub group: Option<String>,
    /// What it is good for.
    pub usage: Usage,
    /// Names and addresses a server is reached by.
    pub names: Vec<SubjectName>,
}

impl Ca {
    /// Issues a certificate of a cluster.
    ///
    /// # Errors
    /// For a DNS name that cannot stand in a certificate, no random bytes, or a wrong validity.
    pub fn issue_kubernetes(
        &self,
        subject: &Subject,
        validity: Validity,
    ) -> Result<Identity, Error> {
        let mut params = params(&subject.common_name, subject.group.as_deref(), validity)?;
        params.subject_alt_names = alt_names(&subject.names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match subject.usage {
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Peer => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
        };
        debug_assert!(params.distinguished_name.get(&DnType::CommonName).is_some());
        self.sign(&subject.common_name, &params)
    }
}

impl PrivateKey {
    /// The public half as a `PUBLIC KEY` PEM block, with which signatures of service account tokens are checked.
    ///
    /// # Errors
    /// Never for a key made by this type.
    pub fn public_key_pem(&self) -> Result<String, Error> {
        let mut der = PUBLIC_KEY_HEAD.to_vec();
        der.extend(self.public_key()?);
        Ok(crate::key::encode(&pem::Pem::new("PUBLIC KEY", der)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};
    use x509_parser::prelude::{FromDer as _, ParsedExtension, SubjectPublicKeyInfo};

    fn validity() -> Validity {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Validity::starting(now, Validity::days(365))
    }

    #[test]
    fn name_group_usage_and_names_stand_in_the_certificate() {
        let ca = Ca::generate("kubernetes", validity()).unwrap();
        let subject = Subject {
            common_name: "system:node:one".into(),
            group: Some("system:nodes".into()),
            usage: Usage::Peer,
            names: vec![
                SubjectName::Dns("one".into()),
                SubjectName::Ip([10, 0, 2, 15].into()),
                SubjectName::Dns("one".into()),
            ],
        };
        let identity = ca.issue_kubernetes(&subject, validity()).unwrap();
        let parsed = crate::certificate::parse(identity.certificate.der()).unwrap();
        let groups: Vec<_> =
            parsed.subject().iter_organization().map(|o| o.as_str().unwrap()).collect();
        assert_eq!(identity.certificate.info().unwrap().common_name, "system:node:one");
        assert_eq!(groups, ["system:nodes"]);
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && usage.server_auth);
        let names = parsed.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 2, "each name once");
        assert!(!parsed.is_ca());
        let constrained = ca.certificate().info().unwrap();
        assert!(constrained.is_ca);
        assert!(
            !parsed.extensions().iter().any(
                |e| matches!(e.parsed_extension(), ParsedExtension::BasicConstraints(b) if b.ca)
            )
        );
    }

    #[test]
    fn a_client_is_no_server() {
        let ca = Ca::generate("kubernetes", validity()).unwrap();
        let subject = Subject {
            common_name: "x".into(),
            group: None,
            usage: Usage::Client,
            names: Vec::new(),
        };
        let identity = ca.issue_kubernetes(&subject, validity()).unwrap();
        let parsed = crate::certificate::parse(identity.certificate.der()).unwrap();
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert!(parsed.subject_alternative_name().unwrap().is_none());
    }

    #[test]
    fn the_public_key_is_one_that_others_read() {
        let key = PrivateKey::generate().unwrap();
        let block = pem::parse(key.public_key_pem().unwrap()).unwrap();
        assert_eq!(block.tag(), "PUBLIC KEY");
        let (rest, info) = SubjectPublicKeyInfo::from_der(block.contents()).unwrap();
        assert!(rest.is_empty());
        assert_eq!(info.subject_public_key.data.as_ref(), key.public_key().unwrap());
    }
}
