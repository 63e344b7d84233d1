//! The client against a node with real TLS: who gets in, who does not, and in which words.

use crate::fake::answers::CHATTER;
use crate::fake::{Fake, a_year, expired};
use ingot_api::machine::v1::{GetConfigRequest, PodLogsRequest};
use ingot_ctl::client::{Credentials, Distrust, Error, Kind, Node, Refusal, Target, Unpaired};
use ingot_pki::pairing::PairingCode;
use ingot_pki::{Ca, Role};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Long enough for all that is sent ahead to arrive.
const PAUSE: Duration = Duration::from_secs(3);

async fn refused(target: &Target) -> Error {
    Node::connect(target).await.unwrap_err()
}

#[tokio::test]
async fn a_client_of_the_installation_gets_an_answer() {
    let fake = Fake::configured().await;
    let node = Node::connect(&fake.target_as(Role::Reader)).await.unwrap();
    assert_eq!(node.status().await.unwrap().node_name, "web-1");
    assert_eq!(node.fingerprint(), Some(fake.fingerprint));
}

#[tokio::test]
async fn a_client_without_certificate_is_told_so() {
    let fake = Fake::configured().await;
    let error = refused(&fake.target(None)).await;
    assert!(
        matches!(error, Error::ClientRefused { reason: Refusal::NoCertificate, .. }),
        "{error:?}"
    );
    assert_eq!(error.kind(), Kind::Denied);
}

#[tokio::test]
async fn an_expired_client_certificate_is_told_so() {
    let fake = Fake::configured().await;
    let late = fake.ca.issue_client("anna", Role::Admin, expired()).unwrap();
    let error = refused(&fake.target(Some(late))).await;
    assert!(matches!(error, Error::ClientRefused { reason: Refusal::Expired, .. }), "{error:?}");
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_told_so() {
    let fake = Fake::configured().await;
    let other = Ca::generate("other", a_year()).unwrap();
    let stranger = other.issue_client("anna", Role::Admin, a_year()).unwrap();
    let error = refused(&fake.target(Some(stranger))).await;
    assert!(matches!(error, Error::ClientRefused { reason: Refusal::UnknownCa, .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_certificate_cannot_be_used_by_a_client() {
    let fake = Fake::configured().await;
    let node = fake.ca.issue_server("node-2", &[], a_year()).unwrap();
    let error = refused(&fake.target(Some(node))).await;
    assert!(matches!(error, Error::ClientRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_of_another_installation_is_not_trusted() {
    let fake = Fake::configured().await;
    let other = Ca::generate("other", a_year()).unwrap();
    let credentials =
        Credentials { authorities: vec![other.certificate().clone()], identity: None };
    let error = refused(&Target::new(fake.endpoint(), credentials)).await;
    let Error::NodeUntrusted { reason: Distrust::UnknownCa { issuer, fingerprint }, .. } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        (issuer.as_str(), fingerprint),
        ("test installation", &fake.fingerprint.to_string())
    );
}

#[tokio::test]
async fn a_node_with_an_expired_certificate_is_not_trusted() {
    let ca = Ca::generate("test installation", a_year()).unwrap();
    let identity = ca.issue_server("node-1", &[], expired()).unwrap();
    let fake = Fake::with_certificate(ca, identity).await;
    let error = refused(&fake.target_as(Role::Admin)).await;
    assert!(matches!(error, Error::NodeUntrusted { reason: Distrust::Expired, .. }), "{error:?}");
}

#[tokio::test]
async fn a_client_posing_as_a_node_is_not_trusted() {
    let ca = Ca::generate("test installation", a_year()).unwrap();
    let identity = ca.issue_client("anna", Role::Admin, a_year()).unwrap();
    let fake = Fake::with_certificate(ca, identity).await;
    let error = refused(&fake.target_as(Role::Admin)).await;
    assert!(matches!(error, Error::NodeUntrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn too_small_a_role_is_refused_with_the_hint_of_the_node() {
    let fake = Fake::configured().await;
    let node = Node::connect(&fake.target_as(Role::Reader)).await.unwrap();
    let error = node
        .call("GetConfig", GetConfigRequest {}, async |mut api, request| {
            api.get_config(request).await
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    let hint = error.hint().unwrap();
    assert!(hint.contains("role operator –"), "a hint may hold any character: {hint}");
}

#[tokio::test]
async fn a_node_without_config_is_recognised_and_takes_one_for_its_code() {
    let code = PairingCode::generate().unwrap();
    let fake = Fake::maintenance(&code).await;
    let error = refused(&fake.target_as(Role::Admin)).await;
    assert!(matches!(error, Error::Maintenance { .. }), "{error:?}");

    let node = Unpaired::connect(&fake.endpoint(), TIMEOUT).await.unwrap();
    assert_eq!(node.fingerprint(), fake.fingerprint);
    assert!(node.version().await.unwrap().maintenance);
    let answer = node.apply(&code, "kind: Machine", false).await.unwrap();
    assert_eq!(answer.generation, 7);
}

#[tokio::test]
async fn a_wrong_code_is_noticed_before_anything_is_sent() {
    let code = PairingCode::generate().unwrap();
    let fake = Fake::maintenance(&code).await;
    let node = Unpaired::connect(&fake.endpoint(), TIMEOUT).await.unwrap();
    let wrong = PairingCode::generate().unwrap();
    let error = node.apply(&wrong, "kind: Machine", false).await.unwrap_err();
    assert!(matches!(error, Error::PairingCode { .. }), "{error:?}");
}

#[tokio::test]
async fn a_configured_node_takes_no_code() {
    let fake = Fake::configured().await;
    let error = Unpaired::connect(&fake.endpoint(), TIMEOUT).await.unwrap_err();
    assert!(matches!(error, Error::Configured { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_listening_is_an_error_of_connecting() {
    let fake = Fake::configured().await;
    let mut target = fake.target_as(Role::Reader);
    // Port 1 of localhost: reserved, and nothing here listens on it.
    target.endpoint = "127.0.0.1:1".parse().unwrap();
    let error = refused(&target).await;
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_silent_peer_runs_into_the_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fake = Fake::configured().await;
    let mut target = fake.target_as(Role::Reader);
    target.endpoint = silent.local_addr().unwrap().into();
    target.timeout = Duration::from_millis(50);
    let error = refused(&target).await;
    assert_eq!(error.kind(), Kind::Deadline);
    assert!(error.to_string().starts_with("connecting to 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn what_is_no_node_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-OpenSSH\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let fake = Fake::configured().await;
    let mut target = fake.target_as(Role::Reader);
    target.endpoint = address.into();
    let error = refused(&target).await;
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_is_reached_by_name_whatever_the_name() {
    let fake = Fake::configured().await;
    let mut target = fake.target_as(Role::Reader);
    target.endpoint.host = "localhost".into();
    Node::connect(&target).await.unwrap().status().await.unwrap();
}

#[test]
fn the_connection_is_made_again_when_the_node_was_away() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (client, first_life) = (runtime(), runtime());
    let fake = first_life.block_on(Fake::configured());
    let node = client.block_on(Node::connect(&fake.target_as(Role::Reader))).unwrap();
    client.block_on(node.status()).unwrap();

    first_life.shutdown_background();
    let error = client.block_on(node.status()).unwrap_err();
    assert_eq!(error.kind(), Kind::Connect, "{error:?}");

    let second_life = runtime();
    let again = second_life.block_on(fake.again());
    let end = std::time::Instant::now() + TIMEOUT;
    let status = loop {
        match client.block_on(node.status()) {
            Err(error) if std::time::Instant::now() >= end => panic!("{error:?}"),
            Err(_) => {}
            Ok(status) => break status,
        }
    };
    assert_eq!(status.node_name, "web-1");
    assert_eq!(again.address, fake.address);
}

/// `ingotctl logs --follow pod | less`: nobody reads for as long as the pager shows its first page.
#[tokio::test(flavor = "multi_thread")]
async fn who_pauses_in_a_stream_of_short_lines_hears_all_of_it() {
    let fake = Fake::configured().await;
    let node = Node::connect(&fake.target_as(Role::Reader)).await.unwrap();
    let request =
        PodLogsRequest { pod: "chatter".to_owned(), follow: true, ..PodLogsRequest::default() };
    let mut lines = node.machine().pod_logs(request).await.unwrap().into_inner();
    lines.message().await.unwrap().expect("a first line");
    tokio::time::sleep(PAUSE).await;
    for number in 1..CHATTER {
        let line = lines.message().await.unwrap().expect("a further line").line;
        assert_eq!(line, format!("line {number}").into_bytes());
    }
    assert!(lines.message().await.unwrap().is_none());
}
