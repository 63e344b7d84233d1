//! Images made to do harm: each is refused or rendered harmless, nothing outside of its own folder is touched, and
//! nothing stays.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ingot_images::{Auth, Digest, ErrorKind, Image, Limits};
use serde_json::json;

use crate::build::{Built, Entry, Tar, gzip, zstd};
use crate::registry::{Node, Registry, told};

type Pulled = Result<std::sync::Arc<Image>, (ErrorKind, String)>;

/// Pulls an image on a node with these limits.
async fn pull_with(image: &Built, change: impl Fn(&mut Limits)) -> (Node, Pulled) {
    let registry = Registry::start().await;
    registry.offer("a", "1", image);
    let mut node = Node::new(&registry);
    change(&mut node.config.limits);
    fs::write(node.folder.path().join("victim"), "untouched").unwrap();
    let store = node.open().await;
    let pulled = store.pull("r.test/a:1", &Auth::default(), None).await;
    (node, pulled.map_err(|error| (error.kind(), told(&error))))
}

/// Pulls an image of one layer that must be refused; what the error says.
async fn refused(tar: Vec<u8>) -> String {
    let (node, pulled) = pull_with(&Built::one(tar), |_| ()).await;
    let (kind, text) = pulled.unwrap_err();
    assert_eq!(kind, ErrorKind::BadImage, "{text}");
    node.assert_empty();
    assert_untouched(&node);
    text
}

/// Pulls an image of one layer; its folder.
async fn taken(tar: Vec<u8>) -> (Node, std::path::PathBuf) {
    let (node, pulled) = pull_with(&Built::one(tar), |_| ()).await;
    let layer = pulled.unwrap().layers[0].clone();
    assert_untouched(&node);
    (node, layer)
}

/// Nothing appeared beside the store, and what was there is as it was.
fn assert_untouched(node: &Node) {
    let folder = node.folder.path();
    assert_eq!(fs::read_to_string(folder.join("victim")).unwrap(), "untouched");
    assert_eq!(fs::metadata(folder.join("victim")).unwrap().nlink(), 1);
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

#[tokio::test]
async fn a_path_that_climbs_out_is_refused() {
    for path in ["../victim", "a/../../victim", "..", "a/..", "/../victim"] {
        let text = refused(Tar::default().file(path, "evil").end()).await;
        assert!(text.contains("leads out of its folder"), "{path}: {text}");
    }
}

#[tokio::test]
async fn an_absolute_path_means_one_in_the_image() {
    let (node, layer) = taken(Tar::default().file("/victim", "inside").end()).await;
    assert_eq!(fs::read_to_string(layer.join("victim")).unwrap(), "inside");
    drop(node);
}

#[tokio::test]
async fn writing_through_a_link_stays_in_the_layer_cve_2025_47290_cve_2021_32760() {
    // A link up and out, then a file through it.
    let up = "../".repeat(30);
    let tar = Tar::default().symbolic_link("out", &up).file("out/victim", "evil").end();
    let (_node, layer) = taken(tar).await;
    assert_eq!(fs::read_to_string(layer.join("victim")).unwrap(), "evil");
    // An absolute one.
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().to_str().unwrap();
    let tar = Tar::default().symbolic_link("out", outside).file("out/x", "evil").end();
    let text = refused(tar).await;
    assert!(text.contains("leads nowhere"), "{text}");
    assert!(!exists(&folder.path().join("x")));
    // One that becomes a link after it was a folder.
    let tar =
        Tar::default().file("d/a", "first").symbolic_link("d", outside).file("d/a", "second").end();
    refused(tar).await;
    assert!(!exists(&folder.path().join("a")));
    // The last part of a path is never followed: neither written nor described.
    let target = folder.path().join("t");
    fs::write(&target, "mine").unwrap();
    let mode = fs::metadata(&target).unwrap().mode();
    let tar = Tar::default().symbolic_link("f", target.to_str().unwrap());
    let suid = Entry { path: "f", mode: 0o4777, content: b"evil", ..Entry::default() };
    let (_node, layer) = taken(tar.entry(&suid).end()).await;
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    assert_eq!(fs::metadata(&target).unwrap().mode(), mode);
    assert!(fs::symlink_metadata(layer.join("f")).unwrap().is_file());
}

#[tokio::test]
async fn a_hard_link_out_of_the_layer_is_refused() {
    for link in ["../victim", "../../../../victim", "/etc/passwd", "nowhere", "", "/", ".."] {
        refused(Tar::default().hard_link("a", link).end()).await;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t"), "").unwrap();
    let through = Tar::default()
        .symbolic_link("out", folder.path().to_str().unwrap())
        .hard_link("a", "out/t")
        .end();
    refused(through).await;
    // Of a folder, which would make a circle.
    refused(Tar::default().folder("d").hard_link("d/e", "d").end()).await;
}

#[tokio::test]
async fn writing_to_a_hard_link_does_not_change_what_it_was_linked_to() {
    let tar = Tar::default().file("a", "one").hard_link("b", "a").file("b", "two").end();
    let (_node, layer) = taken(tar).await;
    assert_eq!(fs::read_to_string(layer.join("a")).unwrap(), "one");
}

#[tokio::test]
async fn device_nodes_are_left_out() {
    let device = |kind, path| Entry { path, kind, mode: 0o666, ..Entry::default() };
    let tar = Tar::default().entry(&device(b'3', "char")).entry(&device(b'4', "dev/block"));
    let (_node, layer) = taken(tar.file("a", "").end()).await;
    assert!(!exists(&layer.join("char")) && !exists(&layer.join("dev/block")));
    assert!(exists(&layer.join("a")));
}

#[tokio::test]
async fn a_uid_that_does_not_fit_is_refused_and_not_cut_cve_2024_40635() {
    for uid in [1 << 32, (1 << 32) + 1, u64::from(u32::MAX), u64::MAX] {
        let entry = Entry { path: "a", uid, ..Entry::default() };
        let text = refused(Tar::default().entry(&entry).end()).await;
        assert!(text.contains("owner"), "{uid}: {text}");
    }
    let pax = Tar::default().pax(&[("uid", b"4294967296")]).file("a", "");
    refused(pax.end()).await;
}

#[tokio::test]
async fn too_many_files_are_refused() {
    let many = (0..50).fold(Tar::default(), |tar, n| tar.file(&n.to_string(), "")).end();
    let (node, pulled) = pull_with(&Built::one(many), |limits| limits.entries = 49).await;
    let (kind, text) = pulled.unwrap_err();
    assert_eq!((kind, text.contains("too many files")), (ErrorKind::Exhausted, true), "{text}");
    node.assert_empty();
}

#[tokio::test]
async fn the_bound_is_for_all_layers_of_an_image_together() {
    let layer =
        |name: &str| (Tar::default().file(name, &"x".repeat(5000)).end(), gzip as fn(&[u8]) -> _);
    let image = Built::new(&[layer("a"), layer("b"), layer("c")]);
    let (node, pulled) = pull_with(&image, |limits| limits.unpacked_bytes = 16_000).await;
    let (kind, text) = pulled.unwrap_err();
    assert_eq!((kind, text.contains("too many bytes")), (ErrorKind::Exhausted, true), "{text}");
    node.assert_empty();
}

#[tokio::test]
async fn a_layer_of_nothing_compressed_beyond_reason_is_refused() {
    let zeros = vec![0; 300 << 20];
    for pack in [gzip, zstd] {
        // The digests are not reached.
        let image = Built::from_parts(&[Digest::of(b"")], vec![pack(&zeros)], &json!({}));
        let (node, pulled) = pull_with(&image, |_| ()).await;
        let (_, text) = pulled.unwrap_err();
        assert!(
            text.contains("compressed too well") || text.contains("archive has digest"),
            "{text}"
        );
        node.assert_empty();
    }
}

#[tokio::test]
async fn names_and_nesting_have_bounds() {
    let long = "n".repeat(300);
    let tar = Tar::default().pax(&[("path", long.as_bytes())]).file("a", "").end();
    assert!(refused(tar).await.contains("too long"));
    let long = "n/".repeat(2100);
    let tar = Tar::default().pax(&[("path", long.as_bytes())]).file("a", "").end();
    assert!(refused(tar).await.contains("too long"));
    let deep = format!("{}x", "n/".repeat(300));
    let tar = Tar::default().pax(&[("path", deep.as_bytes())]).file("a", "").end();
    assert!(refused(tar).await.contains("too deep"));
    let tar = Tar::default().pax(&[("path", b"a\0b")]).file("a", "").end();
    assert!(refused(tar).await.contains("NUL"));
}

#[tokio::test]
async fn links_do_not_lead_deeper_than_the_bound() {
    let deep = "n/".repeat(200);
    let deeper = format!("link/{}x", "m/".repeat(200));
    let tar = Tar::default()
        .pax(&[("path", deep.as_bytes())])
        .folder("a")
        .pax(&[("linkpath", deep.as_bytes())])
        .symbolic_link("link", "x")
        .pax(&[("path", deeper.as_bytes())])
        .file("b", "")
        .end();
    let (node, pulled) = pull_with(&Built::one(tar), |_| ()).await;
    pulled.unwrap_err();
    node.assert_empty();
}

#[tokio::test]
async fn an_extension_header_that_never_ends_is_refused() {
    let entry = Entry { path: "x", kind: b'x', size: Some(1 << 40), ..Entry::default() };
    let text = refused(Tar::default().entry(&entry).end()).await;
    assert!(text.contains("1 MiB"), "{text}");
    let chain = (0..20).fold(Tar::default(), |tar, _| tar.pax(&[("comment", b"again")]));
    assert!(refused(chain.file("a", "").end()).await.contains("in a row"));
}

#[tokio::test]
async fn a_size_hidden_in_an_extension_header_is_obeyed_rustsec_2026_0068() {
    // Read with the header's size 0, the content would be taken for entries.
    let smuggled = Tar::default().file("smuggled", "").cut();
    let size = smuggled.len().to_string();
    let entry = Entry { path: "a", content: &smuggled, size: Some(0), ..Entry::default() };
    let tar = Tar::default().pax(&[("size", size.as_bytes())]).entry(&entry).file("b", "").end();
    let (_node, layer) = taken(tar).await;
    assert!(!exists(&layer.join("smuggled")) && exists(&layer.join("b")));
    assert_eq!(fs::read(layer.join("a")).unwrap(), smuggled);
}

#[tokio::test]
async fn archives_that_are_cut_off_or_damaged_are_refused() {
    let whole = Tar::default().file("a", &"x".repeat(2000)).cut();
    assert!(refused(whole[..1000].to_vec()).await.contains("cut off"));
    let mut wrong = whole.clone();
    wrong[0] ^= 1;
    assert!(refused(wrong).await.contains("wrong sum"));
    assert!(refused(vec![b'x'; 1024]).await.contains("header"));
    let unknown = Entry { path: "a", kind: b'Z', ..Entry::default() };
    assert!(refused(Tar::default().entry(&unknown).end()).await.contains("unknown type"));
}

#[tokio::test]
async fn a_compressed_stream_that_is_damaged_is_refused() {
    let tar = Tar::default().file("a", &"x".repeat(2000)).end();
    for pack in [gzip, zstd] {
        let mut blob = pack(&tar);
        blob.truncate(blob.len() - 9);
        let image = Built::from_parts(&[Digest::of(&tar)], vec![blob], &json!({}));
        let (node, pulled) = pull_with(&image, |_| ()).await;
        let (kind, text) = pulled.unwrap_err();
        assert_eq!(kind, ErrorKind::BadImage, "{text}");
        node.assert_empty();
    }
}

#[tokio::test]
async fn a_zstd_stream_that_asks_for_much_memory_is_refused() {
    // A frame header with a window of 2 GiB, which is all that is needed to make a decoder allocate it.
    let bomb = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let image = Built::from_parts(&[Digest::of(b"")], vec![bomb.to_vec()], &json!({}));
    let (node, pulled) = pull_with(&image, |_| ()).await;
    let (kind, text) = pulled.unwrap_err();
    assert_eq!(kind, ErrorKind::BadImage, "{text}");
    assert!(text.contains("indow"), "{text}");
    node.assert_empty();
}

#[tokio::test]
async fn an_archive_with_another_digest_than_the_configuration_says_is_refused() {
    let tar = Tar::default().file("a", "").end();
    let image = Built::from_parts(&[Digest::of(b"other")], vec![gzip(&tar)], &json!({}));
    let (node, pulled) = pull_with(&image, |_| ()).await;
    assert!(pulled.unwrap_err().1.contains("archive has digest"));
    node.assert_empty();
}

#[tokio::test]
async fn more_layers_than_the_configuration_has_are_refused() {
    let tar = Tar::default().file("a", "").end();
    let image = Built::from_parts(&[], vec![gzip(&tar)], &json!({}));
    let (node, pulled) = pull_with(&image, |_| ()).await;
    assert!(pulled.unwrap_err().1.contains("has 0 layers, the manifest 1"));
    node.assert_empty();
}

#[tokio::test]
async fn marks_of_overlayfs_are_not_an_images_to_set() {
    let tar = Tar::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.metacopy", b""),
        ])
        .folder("d")
        .end();
    let (_node, layer) = taken(tar).await;
    let mut names = [0; 256];
    let length = rustix::fs::listxattr(layer.join("d"), &mut names[..]).unwrap_or(0);
    let names = String::from_utf8_lossy(&names[..length]).into_owned();
    assert!(!names.contains("overlay"), "{names}");
}

#[tokio::test]
async fn a_full_disk_is_a_clear_error_and_leaves_nothing() {
    let tar = Tar::default().file("a", &"x".repeat(5000)).end();
    let (node, pulled) = pull_with(&Built::one(tar), |limits| limits.reserve_bytes = 1 << 62).await;
    let (kind, text) = pulled.unwrap_err();
    assert_eq!((kind, text.contains("the disk is full")), (ErrorKind::Exhausted, true), "{text}");
    node.assert_empty();
}

#[tokio::test]
async fn a_sparse_file_cannot_claim_more_than_an_image_may_have() {
    let map = b"1\n0\n0\n";
    let mut content = map.to_vec();
    content.resize(512, 0);
    let huge = (1_u64 << 50).to_string();
    let tar = Tar::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"huge"),
            ("GNU.sparse.realsize", huge.as_bytes()),
        ])
        .entry(&Entry { path: "x", content: &content, ..Entry::default() })
        .end();
    let (node, pulled) = pull_with(&Built::one(tar), |_| ()).await;
    assert!(pulled.unwrap_err().1.contains("too long"));
    node.assert_empty();
}

#[tokio::test]
async fn labels_and_volumes_of_an_image_are_only_data_cve_2026_53488_cve_2022_23648() {
    let config = json!({
        "Labels": {"io.containerd.log": "binary:///bin/sh"},
        "Volumes": {"/../../../etc": {}},
        "Env": ["A=b\nc"], "User": "4294967296:x",
    });
    let tar = Tar::default().file("a", "").end();
    let image = Built::from_parts(&[Digest::of(&tar)], vec![gzip(&tar)], &config);
    let (_node, pulled) = pull_with(&image, |_| ()).await;
    let pulled = pulled.unwrap();
    assert_eq!(pulled.config.volumes, ["/../../../etc"]);
    assert_eq!(pulled.config.user, "4294967296:x");
}
