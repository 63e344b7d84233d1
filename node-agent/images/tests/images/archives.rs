//! Images from archives and into archives.

use std::fs;

use ingot_images::{Digest, ErrorKind};
use serde_json::{Value, json};

use ingot_images::Auth;
use std::sync::{Arc, Mutex};

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

/// Keeps what is written to it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything in a folder that an image can say, file by file.
fn listed(folder: &std::path::Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let mut opaque = [0; 1];
            let name = ["trusted.overlay.opaque", "user.overlay.opaque"];
            let opaque = name.map(|n| rustix::fs::lgetxattr(&path, n, &mut opaque[..]).is_ok());
            let link = fs::read_link(&path).unwrap_or_default();
            let content = if found.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            lines.push(format!(
                "{:?} {:o} {} {} {} {} {opaque:?} {link:?} {:?}",
                path.strip_prefix(folder).unwrap(),
                found.mode(),
                found.uid(),
                found.gid(),
                found.mtime(),
                if found.is_dir() { 0 } else { found.nlink() },
                Digest::of(&content),
            ));
            if found.is_dir() {
                folders.push(path);
            }
        }
    }
    lines.sort();
    lines.join("\n")
}

#[tokio::test]
async fn what_is_exported_and_imported_again_has_the_same_files() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let suid = Entry { path: "su", mode: 0o4755, uid: 3, gid: 3_000_000, ..Entry::default() };
    let lower = Tar::default()
        .pax(&[("SCHILY.xattr.user.note", b"x")])
        .file("etc/a", "lower")
        .entry(&suid)
        .hard_link("etc/b", "etc/a")
        .symbolic_link("l", "/etc/a")
        .pax(&[("path", long.as_bytes())])
        .file("x", "long name")
        .end();
    let upper =
        Tar::default().file("etc/.wh.a", "").file("d/.wh..wh..opq", "").file("d/e", "").end();
    let image = Built::new(&[(lower, gzip), (upper, plain)]);
    let registry = Registry::start().await;
    registry.offer("a", "1", &image);
    let (from, to) = (Node::new(&registry), Node::new(&registry));
    let store = from.open().await;
    let pulled = store.pull("r.test/a:1", &Auth::default(), None).await.unwrap();
    let archive = Kept::default();
    store.export("r.test/a:1", archive.clone()).await.unwrap();
    assert!(from.list("ingest").is_empty());
    let bytes = archive.0.lock().unwrap().clone();
    let other = to.open().await;
    let imported = other.import(std::io::Cursor::new(bytes)).await;
    let imported = imported.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(imported[0].repo_tags, ["r.test/a:1"]);
    assert_eq!(imported[0].config, pulled.config);
    for (before, after) in pulled.layers.iter().zip(&imported[0].layers) {
        assert_eq!(listed(before), listed(after));
    }
    assert!(store.export("r.test/none:1", Kept::default()).await.is_err());
}
