//! Behaviour of the whole crate, on fixed clocks.

use crate::pairing::{CodeError, Exchange, PairingCode, nonce};
use crate::{
    Ca, Error, Fingerprint, Identity, PrivateKey, Role, SubjectName, Validity, self_signed,
};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::GeneralName;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn year() -> Validity {
    Validity::starting(now(), Validity::days(365))
}

fn ca() -> Ca {
    Ca::generate("test", year()).unwrap()
}

#[test]
fn a_client_certificate_carries_its_role_and_is_signed_by_the_authority() {
    let ca = ca();
    for role in Role::ALL {
        let client = ca.issue_client("anna", role, year()).unwrap();
        let info = client.certificate.info().unwrap();
        assert_eq!((info.common_name.as_str(), info.role), ("anna", Some(role)));
        assert_eq!(info.issuer, "test");
        assert!(!info.is_ca && !info.maintenance);
        let parsed = crate::certificate::parse(client.certificate.der()).unwrap();
        let authority = crate::certificate::parse(ca.certificate().der()).unwrap();
        parsed.verify_signature(Some(authority.public_key())).unwrap();
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    }
}

#[test]
fn a_server_certificate_always_has_the_name_clients_verify() {
    let names = [SubjectName::Dns("node-1".into()), SubjectName::Ip("192.0.2.7".parse().unwrap())];
    let server = ca().issue_server("node-1", &names, year()).unwrap();
    let parsed = crate::certificate::parse(server.certificate.der()).unwrap();
    let alt_names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(
        alt_names.as_slice(),
        [
            GeneralName::DNSName("ingot-node"),
            GeneralName::DNSName("node-1"),
            GeneralName::IPAddress(&[192, 0, 2, 7]),
        ]
    );
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
    assert_eq!(server.certificate.info().unwrap().role, None);
}

#[test]
fn a_maintenance_certificate_says_so_and_is_no_authority() {
    let identity = self_signed("node", &[], year()).unwrap();
    let info = identity.certificate.info().unwrap();
    assert!(info.maintenance && !info.is_ca);
    assert_eq!(info.role, None);
    let pem = (identity.certificate.to_pem(), identity.key.to_pem());
    assert!(matches!(Ca::from_pem(&pem.0, &pem.1), Err(Error::NotCa { .. })));
}

#[test]
fn the_validity_asked_for_is_the_one_issued() {
    let expired =
        Validity { not_before: now() - Validity::days(2), not_after: now() - Validity::days(1) };
    let client = ca().issue_client("late", Role::Admin, expired).unwrap();
    let validity = client.certificate.info().unwrap().validity;
    assert_eq!(validity, expired);
    assert!(!validity.contains(now()));
    assert!(year().contains(now() - Duration::from_secs(3599)));
    assert_eq!(
        Validity::starting(SystemTime::UNIX_EPOCH, Duration::ZERO).not_before,
        SystemTime::UNIX_EPOCH
    );
}

#[test]
fn a_validity_that_ends_before_it_begins_is_refused() {
    let backwards = Validity { not_before: now(), not_after: now() - Duration::from_secs(1) };
    assert!(matches!(Ca::generate("x", backwards), Err(Error::Validity)));
}

#[test]
fn an_authority_read_back_from_pem_signs_for_those_who_trusted_the_first() {
    let ca = ca();
    let read = Ca::from_pem(&ca.certificate().to_pem(), &ca.key().to_pem()).unwrap();
    let client = read.issue_client("anna", Role::Reader, year()).unwrap();
    let parsed = crate::certificate::parse(client.certificate.der()).unwrap();
    let authority = crate::certificate::parse(ca.certificate().der()).unwrap();
    parsed.verify_signature(Some(authority.public_key())).unwrap();
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (one, other) = (ca(), ca());
    let result = Identity::from_pem(&one.certificate().to_pem(), &other.key().to_pem());
    assert!(matches!(result, Err(Error::KeyMismatch)));
}

#[test]
fn wrong_pem_is_named() {
    let key = PrivateKey::generate().unwrap().to_pem();
    let error = crate::Certificate::from_pem(&key).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the certificate is a PEM block \"PRIVATE KEY\", not \"CERTIFICATE\""
    );
    assert!(matches!(crate::Certificate::from_pem("nonsense"), Err(Error::Pem { .. })));
    assert!(matches!(PrivateKey::from_pkcs8_der(vec![1, 2, 3].into()), Err(Error::Key)));
}

#[test]
fn several_certificates_are_read_from_one_text() {
    let (one, two) = (ca().certificate().clone(), ca().certificate().clone());
    let text = format!("{}# the next one\n{}", one.to_pem(), two.to_pem());
    assert_eq!(crate::Certificate::many_from_pem(&text).unwrap(), [one, two]);
    assert!(matches!(crate::Certificate::many_from_pem("nonsense"), Err(Error::Pem { .. })));
}

#[test]
fn secrets_do_not_show_in_debug() {
    let ca = ca();
    let code = PairingCode::generate().unwrap();
    let text = format!("{ca:?} {code:?}");
    assert!(text.contains("PrivateKey(..)") && text.contains("PairingCode(..)"));
    assert!(!text.contains(code.shown().as_str()));
    assert!(
        !text.contains(&format!("{:?}", &ca.key().pkcs8_der()[40..50]).replace(['[', ']'], ""))
    );
}

#[test]
fn a_fingerprint_is_the_lower_hex_sha256() {
    assert_eq!(
        Fingerprint::of(b"abc").to_string(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn a_certificate_with_two_roles_has_none() {
    assert_eq!(Role::from_organization("ingot:operator"), Some(Role::Operator));
    assert_eq!(Role::from_organization("ingot:root"), None);
    assert_eq!(Role::from_organization("admin"), None);
    assert!(Role::Reader < Role::Operator && Role::Operator < Role::Admin);

    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "ingot:reader");
    params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 10]), "ingot:admin");
    let pair = rcgen::KeyPair::generate().unwrap();
    let der = params.self_signed(&pair).unwrap().der().to_vec();
    assert_eq!(crate::CertificateInfo::parse(&der).unwrap().role, None);
}

#[test]
fn a_code_is_read_as_people_type_it() {
    let code = PairingCode::parse("0123-4567-89AB-CDEF").unwrap();
    for typed in ["o123 4567 89ab cdef", "OI2345-6789ABCDEF", " 0l23-4567-89ab-cdef\n"] {
        assert_eq!(PairingCode::parse(typed).unwrap().shown(), code.shown(), "{typed}");
    }
    assert_eq!(PairingCode::parse("0123").unwrap_err(), CodeError::Length(4));
    assert_eq!(PairingCode::parse("0123-4567-89AB-CDEF-0").unwrap_err(), CodeError::Length(17));
    assert_eq!(PairingCode::parse("0123-4567-89AB-CDEU").unwrap_err(), CodeError::Symbol('U'));
    let generated = PairingCode::generate().unwrap();
    assert_eq!(generated.shown().len(), 19);
    assert_eq!(PairingCode::parse(&generated.shown()).unwrap().shown(), generated.shown());
}

/// The node and the client are two programs: this pins the bytes they agree on (computed with Python's hmac).
#[test]
fn proofs_are_what_the_contract_says() {
    let code = PairingCode::parse("0123-4567-89AB-CDEF").unwrap();
    let exchange = Exchange {
        certificate: Fingerprint([1; 32]),
        client_nonce: [2; 32],
        server_nonce: [3; 32],
    };
    assert_eq!(
        hex::encode(exchange.server_proof(&code)),
        "873cb95c15760ee9ae4dfa564e5679ba4315e5973f5eddc82287ca30aad7eb44"
    );
    assert_eq!(
        hex::encode(exchange.client_proof(&code, "kind: Machine\n")),
        "3c12ee32f65c8cb9ddbaa4501e70d379da50be61c4597e25e3ada08a87339486"
    );
}

#[test]
fn a_proof_is_good_for_its_code_its_connection_and_its_config_only() {
    let code = PairingCode::generate().unwrap();
    let exchange = Exchange {
        certificate: Fingerprint::of(b"cert"),
        client_nonce: nonce().unwrap(),
        server_nonce: nonce().unwrap(),
    };
    let server = exchange.server_proof(&code);
    let client = exchange.client_proof(&code, "a: 1");
    assert!(exchange.verify_server_proof(&code, &server));
    assert!(exchange.verify_client_proof(&code, "a: 1", &client));
    assert!(!exchange.verify_client_proof(&code, "a: 2", &client));
    assert!(!exchange.verify_client_proof(&code, "a: 1", &server));
    assert!(!exchange.verify_server_proof(&code, &server[..31]));
    assert!(!exchange.verify_server_proof(&PairingCode::generate().unwrap(), &server));
    let elsewhere = Exchange { certificate: Fingerprint::of(b"other"), ..exchange };
    assert!(!elsewhere.verify_server_proof(&code, &server));
    assert!(!elsewhere.verify_client_proof(&code, "a: 1", &client));
}
