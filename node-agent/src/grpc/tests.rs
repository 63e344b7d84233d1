//! The API over real TLS connections: maintenance mode, pairing, the switch to client certificates, and who is let in.

use super::*;
use crate::state::desired::{DesiredConfig, Source};
use crate::state::ledger::Ledger;
use crate::state::storage::Volumes;
use crate::state::{ServerIdentity, VolumeState};
use ingot_api::machine::v1 as pb;
use ingot_api::machine::v1::machine_client::MachineClient;
use ingot_pki::pairing::{Exchange, PairingCode};
use ingot_pki::{Ca, Fingerprint, Identity, Role, Validity};
use std::net::SocketAddr;
use std::time::SystemTime;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// A node in a task, with its files in a folder that goes away.
struct Node {
    state: State,
    pairing: Pairing,
    address: SocketAddr,
    authority: Ca,
    _folder: tempfile::TempDir,
}

fn validity() -> Validity {
    Validity::starting(SystemTime::now(), Validity::days(10))
}

async fn node() -> Node {
    let folder = tempfile::tempdir().unwrap();
    let state = State::new();
    let pairing = Pairing::new().unwrap();
    let applier = Applier::new(state.clone(), Ledger::new(folder.path().join("config")));
    let api = Api {
        state: state.clone(),
        applier,
        pairing: pairing.clone(),
        pods: Pods::new(),
        kubernetes: crate::kubernetes::Kubernetes::new(),
    };
    let bound = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = bound.local_addr().unwrap();
    tokio::spawn(serve(api, address.port(), Some(bound)));
    let mounted = Volumes { state: VolumeState::Mounted, var: VolumeState::Mounted };
    state.storage.publish(mounted);
    let authority = Ca::generate("test", validity()).unwrap();
    Node { state, pairing, address, authority, _folder: folder }
}

impl Node {
    fn enter_maintenance(&self) -> Fingerprint {
        let identity =
            ingot_pki::self_signed(ingot_pki::NODE_SERVER_NAME, &[], validity()).unwrap();
        let fingerprint = identity.certificate.fingerprint();
        self.state.desired.publish(Wish::Nothing);
        self.state.identity.publish(ServerIdentity {
            identity,
            chain: vec![],
            client_authorities: vec![],
            maintenance: true,
        });
        fingerprint
    }

    fn enter_configured(&self) {
        let name = ingot_pki::NODE_SERVER_NAME;
        let identity = self.authority.issue_server(name, &[], validity()).unwrap();
        self.state.identity.publish(ServerIdentity {
            identity,
            chain: vec![],
            client_authorities: vec![self.authority.certificate().clone()],
            maintenance: false,
        });
        if self.state.desired.config().is_none() {
            let (source, text) = (Source::Api, String::new());
            let mut config = ingot_machine_config::Config::default();
            config.machine.api.port = self.address.port();
            let config = DesiredConfig { generation: 1, source, text, config };
            self.state.desired.publish(Wish::Config(Arc::new(config)));
        }
    }

    fn config(&self) -> String {
        let indent = |pem: &str| pem.replace('\n', "\n      ");
        format!(
            "apiVersion: ingot/v1\nkind: Machine\napi:\n  port: {}\n  ca:\n    certificate: |\n      {}\n    key: |\n      {}\n",
            self.address.port(),
            indent(&self.authority.certificate().to_pem()),
            indent(&self.authority.key().to_pem()),
        )
    }

    async fn client(&self, identity: Option<&Identity>) -> Result<MachineClient<Channel>, String> {
        let connection =
            connect(self.address, identity).await.map_err(|error| error.to_string())?;
        Ok(MachineClient::new(connection))
    }

    fn events(&self, reason: &str) -> Vec<String> {
        let events = self.state.events.since(0);
        events.iter().filter(|e| e.reason == reason).map(|e| e.message.clone()).collect()
    }
}

/// A channel over a TLS connection that accepts any server: these tests are about the node's side.
async fn connect(
    address: SocketAddr,
    identity: Option<&Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let config = Arc::new(client_tls(identity));
    let connector = tower_service_fn(move || {
        let config = Arc::clone(&config);
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let name = rustls::pki_types::ServerName::try_from(ingot_pki::NODE_SERVER_NAME)
                .map_err(std::io::Error::other)?;
            let tls = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(tls))
        }
    });
    Endpoint::from_static("http://node").connect_with_connector(connector).await
}

fn tower_service_fn<F, R>(make: F) -> Connector<F>
where
    F: FnMut() -> R,
{
    Connector(make)
}

/// What tonic calls to connect.
struct Connector<F>(F);

impl<F, R, T> tower_service::Service<http::Uri> for Connector<F>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, std::io::Error>> + Send + 'static,
{
    type Response = T;
    type Error = std::io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<T, std::io::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), std::io::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        Box::pin((self.0)())
    }
}

#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn client_tls(identity: Option<&Identity>) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![identity.certificate.der().to_vec().into()];
            let key =
                rustls::pki_types::PrivatePkcs8KeyDer::from(identity.key.pkcs8_der().to_vec());
            builder.with_client_auth_cert(chain, key.into()).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[tokio::test]
async fn in_maintenance_the_pairing_code_lets_the_first_config_in_and_then_certificates_count() {
    let node = node().await;
    let certificate = node.enter_maintenance();
    let mut anybody = node.client(None).await.unwrap();
    assert!(anybody.version(pb::VersionRequest {}).await.unwrap().into_inner().maintenance);
    let refused = anybody.status(pb::StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let config = node.config();
    let unproven = pb::ApplyConfigRequest { config: config.clone(), ..Default::default() };
    let refused = anybody.apply_config(unproven).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");

    let code = PairingCode::parse(&node.pairing.shown_code()).unwrap();
    let client_nonce = [5; 32];
    let request = pb::PairRequest { client_nonce: client_nonce.to_vec() };
    let pair = anybody.pair(request).await.unwrap().into_inner();
    let server_nonce = pair.server_nonce.clone().try_into().unwrap();
    let exchange = Exchange { certificate, client_nonce, server_nonce };
    assert!(exchange.verify_server_proof(&code, &pair.server_proof));
    let proven = pb::ApplyConfigRequest {
        pairing_proof: exchange.client_proof(&code, &config).to_vec(),
        config,
        client_nonce: client_nonce.to_vec(),
        server_nonce: pair.server_nonce,
        dry_run: false,
    };
    let applied = anybody.apply_config(proven).await.unwrap().into_inner();
    assert_eq!((applied.generation, applied.problems), (1, vec![]));

    node.enter_configured();
    let refused = anybody.version(pb::VersionRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "an old connection has no rights any more");
    let admin = node.authority.issue_client("ada", Role::Admin, validity()).unwrap();
    let mut admin = node.client(Some(&admin)).await.unwrap();
    let status = admin.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.generation, 1);
    let stored = admin.get_config(pb::GetConfigRequest {}).await.unwrap().into_inner();
    assert!(!stored.config.contains("PRIVATE KEY"), "{}", stored.config);
}

#[tokio::test]
async fn a_role_that_is_too_small_is_refused_and_recorded() {
    let node = node().await;
    node.enter_configured();
    let reader = node.authority.issue_client("rita", Role::Reader, validity()).unwrap();
    let mut reader = node.client(Some(&reader)).await.unwrap();
    reader.status(pb::StatusRequest {}).await.unwrap();
    let refused = reader.reboot(pb::RebootRequest { grace: None }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("\"rita\" has the role reader"), "{refused}");
    assert!(refused.metadata().get_bin(ingot_api::HINT_METADATA).is_some());
    assert_eq!(node.events("PermissionDenied").len(), 1);
}

#[tokio::test]
async fn strangers_are_refused_and_recorded_with_the_reason() {
    let node = node().await;
    node.enter_configured();
    let other = Ca::generate("other", validity()).unwrap();
    let past = Validity {
        not_before: SystemTime::UNIX_EPOCH,
        not_after: SystemTime::UNIX_EPOCH + Validity::days(1),
    };
    let strangers = [
        (None, "no certificate"),
        (
            Some(other.issue_client("eve", Role::Admin, validity()).unwrap()),
            "another certificate authority",
        ),
        (Some(node.authority.issue_client("old", Role::Admin, past).unwrap()), "expired"),
        (Some(node.authority.issue_server("node", &[], validity()).unwrap()), "not for clients"),
    ];
    for (identity, reason) in &strangers {
        // In TLS 1.3 the client learns of the refusal with its first read.
        if let Ok(mut client) = node.client(identity.as_ref()).await {
            assert!(client.version(pb::VersionRequest {}).await.is_err(), "{reason}");
        }
        let events = node.events("AuthenticationFailed");
        assert!(events.iter().any(|event| event.contains(reason)), "{reason}: {events:?}");
    }
    assert_eq!(node.events("AuthenticationFailed").len(), strangers.len());
}

#[tokio::test]
async fn a_wrong_config_changes_nothing_and_every_problem_is_told() {
    let node = node().await;
    node.enter_configured();
    let admin = node.authority.issue_client("ada", Role::Admin, validity()).unwrap();
    let mut admin = node.client(Some(&admin)).await.unwrap();
    let good = pb::ApplyConfigRequest { config: node.config(), ..Default::default() };
    let first = admin.apply_config(good.clone()).await.unwrap().into_inner();
    assert!(first.problems.is_empty(), "{:?}", first.problems);
    let wrong = format!("{}nonsense: 1\nmore: 2\n", node.config());
    let wrong = pb::ApplyConfigRequest { config: wrong, ..Default::default() };
    let refused = admin.apply_config(wrong).await.unwrap().into_inner();
    assert!(refused.problems.len() >= 2, "{:?}", refused.problems);
    assert_eq!(node.state.desired.generation(), first.generation);
    let again = admin.apply_config(good).await.unwrap().into_inner();
    assert!(again.unchanged);
}

#[tokio::test]
async fn a_config_is_refused_while_there_is_nowhere_to_keep_it() {
    let node = node().await;
    node.enter_configured();
    let failed = VolumeState::Failed("the disk is too small".into());
    node.state.storage.publish(Volumes { state: failed, var: VolumeState::Unknown });
    let admin = node.authority.issue_client("ada", Role::Admin, validity()).unwrap();
    let mut admin = node.client(Some(&admin)).await.unwrap();
    let request = pb::ApplyConfigRequest { config: node.config(), ..Default::default() };
    let refused = admin.apply_config(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("the disk is too small"), "{refused}");
}

#[tokio::test]
async fn events_are_followed() {
    use tokio_stream::StreamExt as _;
    let node = node().await;
    node.enter_configured();
    let reader = node.authority.issue_client("rita", Role::Reader, validity()).unwrap();
    let mut reader = node.client(Some(&reader)).await.unwrap();
    let request = pb::EventsRequest { follow: true, tail: 1 };
    let mut events = reader.events(request).await.unwrap().into_inner();
    for number in 0..3 {
        let message = number.to_string();
        node.state.events.record(crate::state::Severity::Info, "Test", "node", message);
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let event = events.next().await.unwrap().unwrap();
        if event.reason == "Test" {
            seen.push(event.message);
        }
    }
    assert_eq!(seen, ["0", "1", "2"]);
}

/// It is made by its first request: a broken description must not wait for that.
#[test]
fn the_api_can_be_described() {
    assert!(reflection().is_ok());
}
