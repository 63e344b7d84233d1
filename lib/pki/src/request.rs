//! What somebody asks to be certified (PKCS #10): names and groups, as they stand in the request. Whether that is granted is not said
//! here.

use crate::Error;
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension};

const LABEL: &str = "CERTIFICATE REQUEST";

/// A request whose signature is that of the key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// Who asks.
    pub common_name: String,
    /// Its groups.
    pub organizations: Vec<String>,
    /// DNS names.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// There are names of other kinds, which nobody here would grant.
    pub others: bool,
}

impl CertificateRequest {
    /// Reads the first `CERTIFICATE REQUEST` PEM block.
    ///
    /// # Errors
    /// When there is none, it is no request, or its signature is wrong.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let block = pem::parse(text).map_err(|source| Error::Pem { what: "request", source })?;
        if block.tag() != LABEL {
            let found = block.tag().to_owned();
            return Err(Error::PemLabel { what: "request", found, wanted: LABEL });
        }
        let (rest, request) =
            X509CertificationRequest::from_der(block.contents()).map_err(|_| Error::Request)?;
        if !rest.is_empty() || request.verify_signature().is_err() {
            return Err(Error::Request);
        }
        let subject = &request.certification_request_info.subject;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(str::to_owned).map_err(|_| Error::Request)
        };
        let names: Vec<String> = subject.iter_common_name().map(text).collect::<Result<_, _>>()?;
        let [common_name] = names.as_slice() else { return Err(Error::Request) };
        let mut found = Self {
            common_name: common_name.clone(),
            organizations: subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            names: Vec::new(),
            addresses: Vec::new(),
            others: false,
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| found.add(name));
            }
        }
        Ok(found)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        let address = |bytes: &[u8]| {
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
        };
        match name {
            GeneralName::DNSName(name) => self.names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => self.addresses.push(address),
                None => self.others = true,
            },
            _ => self.others = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn request(names: Vec<SanType>) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, "system:node:two");
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn names_and_groups_are_read() {
        let names = vec![
            SanType::DnsName("two".try_into().unwrap()),
            SanType::IpAddress([10, 0, 2, 16].into()),
            SanType::IpAddress("fd00::16".parse().unwrap()),
        ];
        let read = CertificateRequest::from_pem(&request(names)).unwrap();
        assert_eq!(read.common_name, "system:node:two");
        assert_eq!(read.organizations, ["system:nodes"]);
        assert_eq!(read.names, ["two"]);
        assert_eq!(
            read.addresses,
            ["10.0.2.16".parse::<IpAddr>().unwrap(), "fd00::16".parse().unwrap()]
        );
        assert!(!read.others);
    }

    #[test]
    fn names_of_other_kinds_are_noticed() {
        let names = vec![SanType::Rfc822Name("a@example.org".try_into().unwrap())];
        assert!(CertificateRequest::from_pem(&request(names)).unwrap().others);
    }

    #[test]
    fn a_request_that_was_changed_is_none() {
        let block = pem::parse(request(Vec::new())).unwrap();
        for at in 10..100 {
            let mut bytes = block.contents().to_vec();
            bytes[at] ^= 1;
            let text = pem::encode(&pem::Pem::new(LABEL, bytes));
            assert!(CertificateRequest::from_pem(&text).is_err(), "byte {at}");
        }
        assert!(CertificateRequest::from_pem("x").is_err());
    }
}
