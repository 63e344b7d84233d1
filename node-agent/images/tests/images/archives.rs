//! Images from archives and into archives.

use std::fs;

use ingot_images::{Digest, ErrorKind};
use serde_json::{Value, json};

use crate::build::{Built, Entry, Tar, gzip, plain};
use crate::registry::{Node, Registry, told};

fn image() -> Built {
    let lower = Tar::default().folder("etc").file("etc/a", "lower").end();
    let upper = Tar::default().file("etc/.wh.a", "").file("b", "upper").end();
    Built::new(&[(lower, gzip), (upper, plain)])
}

fn bytes(tar: Tar, path: &str, content: &[u8]) -> Tar {
    tar.entry(&Entry { path, content, ..Entry::default() })
}

/// An OCI layout with this image under these names, the list at its end as some tools write it.
fn layout(image: &Built, names: &[&str]) -> Vec<u8> {
    let mut tar = bytes(Tar::default(), "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    for blob in image.blobs().chain([&image.manifest]) {
        let digest = Digest::of(blob).to_string().replace("sha256:", "blobs/sha256/");
        tar = bytes(tar, &digest, blob);
    }
    let entry = |name: &&str| {
        json!({
            "digest": image.digest(), "size": image.manifest.len(),
            "annotations": {"org.opencontainers.image.ref.name": name},
        })
    };
    let manifests: Vec<Value> = names.iter().map(entry).collect();
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    bytes(tar, "./index.json", index.as_bytes()).end()
}

#[tokio::test]
async fn an_oci_layout_is_imported_with_all_its_names() {
    let registry = Registry::start().await;
    let node = Node::new(&registry);
    let store = node.open().await;
    let image = image();
    let archive = layout(&image, &["r.test/a:1", "r.test/b:2", "just-a-tag"]);
    let imported = store.import(std::io::Cursor::new(archive)).await;
    let imported = imported.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(imported.len(), 1);
    assert_eq!((&imported[0].id, imported[0].repo_tags.len()), (&image.id(), 2));
    let found = store.find("r.test/b:2").unwrap();
    assert_eq!(fs::read_to_string(found.layers[0].join("b")).unwrap(), "upper");
    assert!(registry.requests().is_empty() && node.list("ingest").is_empty());
    assert_eq!(node.open().await.find("r.test/a:1"), Some(found));
}

#[tokio::test]
async fn what_docker_saved_before_it_knew_of_layouts_is_imported() {
    let registry = Registry::start().await;
    let node = Node::new(&registry);
    let store = node.open().await;
    let tar = Tar::default().file("a", "b").end();
    let image = Built::new(&[(tar.clone(), plain)]);
    let list = json!([{"Config": "c.json", "RepoTags": ["busybox:1"], "Layers": ["1/layer.tar"]}]);
    let archive = bytes(Tar::default(), "1/layer.tar", &tar);
    let archive = bytes(archive, "c.json", &image.config);
    let archive = bytes(archive, "manifest.json", list.to_string().as_bytes()).end();
    store.import(std::io::Cursor::new(archive)).await.unwrap();
    assert_eq!(store.find("busybox:1").unwrap().id, image.id());
}

#[tokio::test]
async fn archives_that_lie_or_break_are_refused_cve_2023_25153() {
    let registry = Registry::start().await;
    let node = Node::new(&registry);
    let store = node.open().await;
    let image = image();
    let mut wrong = image.clone();
    wrong.layers[0][5] ^= 1;
    let manifest = Digest::of(&image.manifest).to_string().replace("sha256:", "blobs/sha256/");
    let endless = vec![b' '; 5 << 20];
    let whole = layout(&image, &["r.test/a:1"]);
    // The manifest names a layer that is there under another digest only.
    let archives = [
        layout(&wrong, &["r.test/a:1"]),
        layout(&image, &["not a name/x:1"]),
        bytes(Tar::default(), "index.json", &endless).end(),
        bytes(Tar::default(), "x", b"").end(),
        bytes(bytes(Tar::default(), &manifest, b"{}"), "index.json", {
            let index = json!({"manifests": [{"digest": image.digest(), "size": 2}]});
            Box::leak(index.to_string().into_boxed_str()).as_bytes()
        })
        .end(),
        whole[..whole.len() / 2].to_vec(),
        b"no archive at all".to_vec(),
    ];
    for archive in archives {
        let error = store.import(std::io::Cursor::new(archive)).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::BadImage),
            "{}",
            told(&error)
        );
        node.assert_empty();
    }
    assert!(store.list().is_empty());
}
