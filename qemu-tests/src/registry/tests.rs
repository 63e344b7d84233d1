//! The registry, asked as a container runtime asks.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use ingot_pki::{Ca, Validity};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{Guard, Registry};

const DIGEST: &str = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

fn layout() -> tempfile::TempDir {
    let layout = tempfile::tempdir().expect("a folder");
    let blobs = layout.path().join("blobs/sha256");
    fs_err::create_dir_all(&blobs).expect("a folder");
    fs_err::write(blobs.join(&DIGEST[7..]), "hello\n").expect("a blob");
    let index = serde_json::json!({"manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": DIGEST,
        "annotations": {"org.opencontainers.image.ref.name": "a/b:1"},
    }]});
    fs_err::write(layout.path().join("index.json"), index.to_string()).expect("an index");
    layout
}

fn registry() -> (tempfile::TempDir, Registry) {
    let layout = layout();
    let registry = Registry::start(layout.path()).expect("a registry");
    (layout, registry)
}

fn ask(registry: &Registry, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", registry.port())).expect("a connection");
    write!(stream, "{request}\r\nHost: x\r\n\r\n").expect("a request");
    stream.shutdown(std::net::Shutdown::Write).expect("the end of the request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn a_manifest_is_found_by_tag_and_by_digest_whatever_host_it_was_asked_for() {
    let (_layout, registry) = registry();
    for reference in ["1?ns=registry.example", DIGEST] {
        let answer = ask(&registry, &format!("GET /v2/a/b/manifests/{reference} HTTP/1.1"));
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains(&format!("Docker-Content-Digest: {DIGEST}")), "{answer}");
        assert!(answer.ends_with("hello\n"), "{answer}");
    }
    assert!(ask(&registry, "GET /v2/a/b/manifests/2 HTTP/1.1").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_part_of_a_blob_is_sent_when_only_a_part_is_wanted() {
    let (_layout, registry) = registry();
    let request = format!("GET /v2/a/b/blobs/{DIGEST} HTTP/1.1\r\nRange: bytes=1-3");
    let answer = ask(&registry, &request);
    assert!(answer.starts_with("HTTP/1.1 206"), "{answer}");
    assert!(answer.contains("Content-Range: bytes 1-3/6") && answer.ends_with("ell"), "{answer}");
}

#[test]
fn no_path_leaves_the_layout() {
    let (_layout, registry) = registry();
    for digest in ["sha256:../../index.json", "sha256:", "../index.json"] {
        let answer = ask(&registry, &format!("GET /v2/a/blobs/{digest} HTTP/1.1"));
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
}

#[test]
fn the_head_of_an_answer_tells_the_length_and_has_no_body() {
    let (_layout, registry) = registry();
    let answer = ask(&registry, &format!("HEAD /v2/a/b/blobs/{DIGEST} HTTP/1.1"));
    assert!(answer.contains("Content-Length: 6") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(registry.log().len(), 1);
}

/// Asks over TLS, believing `ca`.
fn ask_guarded(registry: &Registry, ca: &Ca, path: &str, authorization: &str) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.certificate().der().to_vec())).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("r.example").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let stream = TcpStream::connect(("127.0.0.1", registry.port())).expect("a connection");
    let mut stream = StreamOwned::new(connection, stream);
    let request = format!("GET {path} HTTP/1.1\r\nAuthorization: {authorization}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    stream.conn.send_close_notify();
    stream.flush().expect("the end of the request");
    let mut text = Vec::new();
    // The registry does not say goodbye in TLS's way.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn behind_a_guard_only_a_token_opens_and_only_the_password_buys_one() {
    let layout = layout();
    let validity = Validity::starting(SystemTime::now(), Duration::from_secs(3600));
    let ca = Ca::generate("a test", validity).expect("an authority");
    let guard = |port| Guard::new(&ca, "r.example", port, "u", "p");
    let registry = Registry::start_guarded(layout.path(), guard).expect("a registry");
    let manifest = "/v2/a/b/manifests/1";
    let refused = ask_guarded(&registry, &ca, manifest, "Bearer guessed");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let realm = format!("realm=\"https://r.example:{}/token\"", registry.port());
    assert!(refused.contains(&realm), "{refused}");
    let basic =
        |pair: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    assert!(ask_guarded(&registry, &ca, "/token", &basic("u:q")).starts_with("HTTP/1.1 401"));
    let sold = ask_guarded(&registry, &ca, "/token?service=tests", &basic("u:p"));
    let token = sold.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let token = token.unwrap_or_else(|| panic!("no token: {sold}"));
    let opened = ask_guarded(&registry, &ca, manifest, &format!("Bearer {token}"));
    assert!(opened.starts_with("HTTP/1.1 200") && opened.ends_with("hello\n"), "{opened}");
}
