//! Whom to trust is said for each host.

use std::sync::Arc;

use ingot_images::{Auth, ErrorKind, Host};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::build::{Built, Tar};
use crate::registry::{Node, Registry, told};

/// A registry with a certificate that only it knows, for this address.
async fn registry(name: &str) -> (Registry, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let registry = Registry::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await;
    registry.offer("a", "1", &Built::one(Tar::default().file("a", "b").end()));
    (registry, made.cert.pem())
}

/// Pulls over TLS with these settings for the host.
async fn pull(name: &str, change: impl Fn(&mut Host, String)) -> Result<(), (ErrorKind, String)> {
    let (registry, pem) = registry(name).await;
    let mut node = Node::new(&registry);
    let place = format!("127.0.0.1:{}", registry.port);
    node.config.sources.mirrors[0].endpoints[0] = format!("https://{place}");
    node.config.ca_bundle = node.folder.path().join("none");
    node.config.timeouts.retries = 0;
    let mut host = Host { host: place, ..Host::default() };
    change(&mut host, pem);
    node.config.sources.hosts = vec![host];
    let pulled = node.open().await.pull("r.test/a:1", &Auth::default(), None).await;
    pulled.map(drop).map_err(|error| (error.kind(), told(&error)))
}

#[tokio::test]
async fn a_registry_with_an_authority_of_its_own_is_trusted_when_that_is_configured() {
    pull("127.0.0.1", |host, pem| host.ca_pem = pem).await.unwrap();
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    let (kind, text) = pull("127.0.0.1", |_, _| ()).await.unwrap_err();
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("speak TLS with 127.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let (_, text) = pull("other.test", |host, pem| host.ca_pem = pem).await.unwrap_err();
    assert!(text.contains("speak TLS with 127.0.0.1"), "{text}");
}

#[tokio::test]
async fn any_certificate_is_taken_only_where_that_is_asked_for() {
    pull("other.test", |host, _| host.skip_verify = true).await.unwrap();
}
