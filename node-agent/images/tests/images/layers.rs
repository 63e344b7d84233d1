//! What is in a layer is on the disk afterwards, in the form overlayfs wants.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use ingot_images::Auth;

use crate::build::{Built, Entry, Tar};
use crate::registry::{Node, Registry, told};

async fn unpack(tar: Vec<u8>) -> (Node, PathBuf) {
    let registry = Registry::start().await;
    registry.offer("a", "1", &Built::one(tar));
    let node = Node::new(&registry);
    let store = node.open().await;
    let pulled = store.pull("r.test/a:1", &Auth::default(), None).await;
    let pulled = pulled.unwrap_or_else(|error| panic!("{}", told(&error)));
    (node, pulled.layers[0].clone())
}

fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    Some(value[..length].to_vec())
}

fn is_opaque(path: &Path) -> bool {
    let name = if as_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    xattr(path, name).as_deref() == Some(b"y")
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[tokio::test]
async fn files_keep_owner_mode_time_and_set_id_bits() {
    let entry = Entry {
        path: "bin/su",
        mode: 0o4755,
        uid: 12,
        gid: 100_000,
        mtime: 1_234_567_890,
        content: b"#!",
        ..Entry::default()
    };
    let (_node, layer) = unpack(Tar::default().entry(&entry).end()).await;
    let found = fs::metadata(layer.join("bin/su")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime(), found.len()), (0o4755, 1_234_567_890, 2));
    if as_root() {
        assert_eq!((found.uid(), found.gid()), (12, 100_000));
    }
    assert_eq!(fs::metadata(layer.join("bin")).unwrap().mode() & 0o7777, 0o755);
}

#[tokio::test]
async fn folders_keep_their_time_although_files_come_into_them() {
    let folder = Entry { path: "d/", kind: b'5', mode: 0o1777, mtime: 77, ..Entry::default() };
    let top = Entry { path: "./", kind: b'5', mode: 0o750, mtime: 78, ..Entry::default() };
    let tar = Tar::default().entry(&top).entry(&folder).file("d/a", "").end();
    let (_node, layer) = unpack(tar).await;
    let found = fs::metadata(layer.join("d")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime()), (0o1777, 77));
    let found = fs::metadata(&layer).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime()), (0o750, 78));
}

#[tokio::test]
async fn links_are_kept_as_they_are() {
    let tar = Tar::default()
        .file("a", "x")
        .hard_link("b", "./a")
        .symbolic_link("up", "../../outside")
        .symbolic_link("abs", "/etc/passwd")
        .hard_link("up2", "up")
        .end();
    let (_node, layer) = unpack(tar).await;
    let ino = |name: &str| fs::symlink_metadata(layer.join(name)).unwrap().ino();
    assert_eq!((ino("a"), ino("up")), (ino("b"), ino("up2")));
    assert_eq!(fs::read_link(layer.join("up")).unwrap(), Path::new("../../outside"));
    assert_eq!(fs::read_link(layer.join("abs")).unwrap(), Path::new("/etc/passwd"));
}

#[tokio::test]
async fn a_folder_behind_a_link_of_the_same_layer_is_found() {
    let tar = Tar::default()
        .folder("usr/lib")
        .symbolic_link("lib", "usr/lib")
        .symbolic_link("abs", "/usr")
        .file("lib/x", "1")
        .file("abs/lib/y", "2")
        .file("lib/new/z", "3")
        .end();
    let (_node, layer) = unpack(tar).await;
    for name in ["x", "y", "new/z"] {
        assert!(layer.join("usr/lib").join(name).is_file(), "{name}");
    }
}

#[tokio::test]
async fn whiteouts_become_those_of_overlayfs() {
    let tar = Tar::default()
        .file("etc/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "")
        .file(".wh..wh.plnk", "")
        .end();
    let (_node, layer) = unpack(tar).await;
    assert!(is_whiteout(&layer.join("etc/gone")));
    assert!(is_opaque(&layer.join("opaque")) && layer.join("opaque/new").exists());
    assert!(!layer.join(".wh..wh.plnk").exists());
}

#[tokio::test]
async fn what_was_removed_and_made_again_hides_what_was_there() {
    let first = Tar::default()
        .file(".wh.a", "")
        .folder("a")
        .file(".wh.b", "")
        .file("b/c/d", "")
        .file(".wh.f", "")
        .file("f", "new")
        .end();
    let (_node, layer) = unpack(first).await;
    assert!(is_opaque(&layer.join("a")) && is_opaque(&layer.join("b")));
    assert_eq!(fs::read_to_string(layer.join("f")).unwrap(), "new");
    let second =
        Tar::default().folder("a").file(".wh.a", "").file("f", "x").file(".wh.f", "").end();
    let (_node, layer) = unpack(second).await;
    assert!(is_opaque(&layer.join("a")));
    assert_eq!(fs::read_to_string(layer.join("f")).unwrap(), "x");
}

#[tokio::test]
async fn impossible_whiteouts_are_refused() {
    for path in [".wh.", "a/.wh..", ".wh..."] {
        let registry = Registry::start().await;
        registry.offer("a", "1", &Built::one(Tar::default().file(path, "").end()));
        let node = Node::new(&registry);
        let store = node.open().await;
        store.pull("r.test/a:1", &Auth::default(), None).await.unwrap_err();
        node.assert_empty();
    }
}

#[tokio::test]
async fn later_entries_replace_earlier_ones_of_any_kind() {
    let tar = Tar::default()
        .file("a/b/c", "")
        .file("a", "file now")
        .symbolic_link("s", "a")
        .folder("s")
        .folder("d")
        .symbolic_link("d", "a")
        .end();
    let (_node, layer) = unpack(tar).await;
    assert_eq!(fs::read_to_string(layer.join("a")).unwrap(), "file now");
    assert!(fs::symlink_metadata(layer.join("s")).unwrap().is_dir());
    assert!(fs::symlink_metadata(layer.join("d")).unwrap().is_symlink());
}

#[tokio::test]
async fn attributes_are_kept_where_an_image_may_have_them() {
    // CAP_NET_RAW, as setcap writes it.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::default()
        .pax(&[
            ("SCHILY.xattr.user.note", b"x=\ny"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.security.selinux", b"label"),
        ])
        .file("ping", "")
        .end();
    let (_node, layer) = unpack(tar).await;
    // Not every file system has them.
    if let Some(value) = xattr(&layer.join("ping"), "user.note") {
        assert_eq!(value, b"x=\ny");
    }
    if as_root() {
        assert_eq!(xattr(&layer.join("ping"), "security.capability").unwrap(), capability);
    }
    assert_ne!(xattr(&layer.join("ping"), "security.selinux").as_deref(), Some(&b"label"[..]));
}

/// What the machine's own tar writes, in every format it knows.
#[tokio::test]
async fn archives_of_gnu_tar_are_read_in_all_formats() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    let top = folder.path().join("tree");
    fs::create_dir_all(top.join("d".repeat(90))).unwrap();
    fs::write(top.join(&long), "long name").unwrap();
    std::os::unix::fs::symlink("t".repeat(150), top.join("long-link")).unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (3 << 20) - 3).unwrap();
    let content = fs::read(top.join("sparse")).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=pax"],
        &["--format=ustar", "--exclude=long-link"],
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
    ] {
        let packed =
            Command::new("tar").args(format).arg("-C").arg(&top).args(["-c", "."]).output();
        let packed = packed.unwrap();
        assert!(packed.status.success(), "{format:?}");
        let (_node, layer) = unpack(packed.stdout).await;
        assert_eq!(fs::read_to_string(layer.join(&long)).unwrap(), "long name", "{format:?}");
        assert!(fs::read(layer.join("sparse")).unwrap() == content, "{format:?}");
        if !format.contains(&"--exclude=long-link") {
            let link = fs::read_link(layer.join("long-link")).unwrap();
            assert_eq!(link.to_str().unwrap().len(), 150, "{format:?}");
        }
        if format.contains(&"--sparse") {
            let blocks = fs::metadata(layer.join("sparse")).unwrap().blocks();
            assert!(blocks * 512 < 1 << 20, "{format:?}: {blocks} blocks");
        }
    }
}

#[tokio::test]
async fn a_pipe_is_made() {
    let pipe = Entry { path: "run/pipe", kind: b'6', mode: 0o620, ..Entry::default() };
    let (_node, layer) = unpack(Tar::default().entry(&pipe).end()).await;
    let found = fs::symlink_metadata(layer.join("run/pipe")).unwrap();
    assert!(found.file_type().is_fifo() && found.mode() & 0o777 == 0o620);
}
