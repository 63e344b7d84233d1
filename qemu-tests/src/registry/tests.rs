//! The registry, asked as a container runtime asks.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::Registry;

const DIGEST: &str = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

fn registry() -> (tempfile::TempDir, Registry) {
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
