//! Copying stays inside, in both directions, whatever the container or the archive holds.

use super::*;
use std::fs;
use std::io::{self, Cursor};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use tar::{Archive, Builder, EntryType, Header};

/// A folder with a container's root in it, and a secret beside.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("root/tmp")).unwrap();
        fs::create_dir_all(folder.path().join("root/etc")).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        fs::write(folder.path().join("root/etc/hosts"), "hosts").unwrap();
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn unpack(&self, path: &str, archive: Vec<u8>) -> Result<Unpacked, CopyError> {
        let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        unpack(&self.root(), Path::new(path), owner, Cursor::new(archive))
    }

    fn pack(&self, path: &str) -> Result<Vec<String>, CopyError> {
        let mut bytes = Vec::new();
        pack(&self.root(), Path::new(path), &mut bytes)?;
        let mut names = Vec::new();
        for entry in Archive::new(Cursor::new(bytes)).entries().unwrap() {
            names.push(entry.unwrap().path().unwrap().display().to_string());
        }
        Ok(names)
    }

    fn assert_secret(&self) {
        assert_eq!(fs::read(self.folder.path().join("secret")).unwrap(), b"secret");
    }
}

fn entry(kind: EntryType, name: &str, link: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o6755);
    header.set_mtime(1_000_000);
    header.set_size(bytes.len() as u64);
    // Written past the library, which refuses to make bad archives.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    let mut archive = Builder::new(Vec::new());
    archive.append(&header, bytes).unwrap();
    let mut bytes = archive.into_inner().unwrap();
    // Without the two blocks of zeros at the end.
    bytes.truncate(bytes.len() - 1024);
    bytes
}

fn file(name: &str, bytes: &[u8]) -> Vec<u8> {
    entry(EntryType::Regular, name, "", bytes)
}

#[test]
fn an_archive_goes_below_a_folder_or_gets_a_new_name() {
    let world = World::new();
    let archive = || [entry(EntryType::Directory, "a", "", b""), file("a/b", b"text")].concat();
    let done = world.unpack("/tmp", archive()).unwrap();
    assert_eq!(done, Unpacked { entries: 2, bytes: 4 });
    assert_eq!(fs::read(world.root().join("tmp/a/b")).unwrap(), b"text");
    world.unpack("/tmp/c", archive()).unwrap();
    assert_eq!(fs::read(world.root().join("tmp/c/b")).unwrap(), b"text");
    world.unpack("/etc/hosts", file("x", b"new")).unwrap();
    assert_eq!(fs::read(world.root().join("etc/hosts")).unwrap(), b"new");
    let mode = fs::metadata(world.root().join("etc/hosts")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-user-id bits");
    assert!(world.unpack("/nowhere/x", file("x", b"")).is_err());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let world = World::new();
    for name in ["../secret", "/secret", "a/../../secret", "tmp/../../x"] {
        let refused = world.unpack("/", file(name, b"x"));
        assert!(matches!(refused, Err(CopyError::Entry { .. })), "{name}: {refused:?}");
    }
    world.assert_secret();
}

#[test]
fn links_of_the_archive_and_of_the_container_stay_inside() {
    let world = World::new();
    let outside = world.folder.path().to_str().unwrap().to_owned();
    let archive = [
        entry(EntryType::Symlink, "up", "../../..", b""),
        file("up/secret", b"x"),
        entry(EntryType::Symlink, "abs", &outside, b""),
    ]
    .concat();
    world.unpack("/tmp", archive).unwrap();
    // `..` ends at the container's root, as it does for the container.
    assert_eq!(fs::read(world.root().join("secret")).unwrap(), b"x");
    assert!(
        world.unpack("/tmp", file("abs/secret", b"x")).is_err()
            || world.root().join(outside.trim_start_matches('/')).exists()
    );
    symlink(world.folder.path().join("secret"), world.root().join("tmp/trap")).unwrap();
    world.unpack("/tmp", file("trap", b"x")).unwrap();
    assert_eq!(fs::read(world.root().join("tmp/trap")).unwrap(), b"x");
    let hard = entry(EntryType::Link, "hard", "../secret", b"");
    assert!(world.unpack("/tmp", hard).is_err());
    world.assert_secret();
}

#[test]
fn devices_are_refused_and_cut_archives_are_errors() {
    let world = World::new();
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let refused = world.unpack("/tmp", entry(kind, "x", "", b""));
        assert!(matches!(refused, Err(CopyError::Entry { .. })), "{refused:?}");
    }
    let mut cut = file("x", &[7; 5000]);
    cut.truncate(1024);
    assert!(world.unpack("/tmp", cut).is_err());
    let left: Vec<_> = fs::read_dir(world.root().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "half a file was left behind: {left:?}");
}

#[test]
fn hard_links_work_within_the_archive() {
    let world = World::new();
    let archive = [file("d/a", b"same"), entry(EntryType::Link, "d/b", "d/a", b"")].concat();
    world.unpack("/tmp/new", archive).unwrap();
    assert_eq!(fs::read(world.root().join("tmp/new/b")).unwrap(), b"same");
}

#[test]
fn a_folder_is_packed_without_leaving_it() {
    let world = World::new();
    symlink(world.folder.path().join("secret"), world.root().join("etc/link")).unwrap();
    assert_eq!(world.pack("/etc").unwrap(), ["etc", "etc/hosts", "etc/link"]);
    assert_eq!(world.pack("/etc/../../../etc/hosts").unwrap(), ["hosts"]);
    assert!(world.pack("/etc/link").is_err(), "the link leads out of the container");
    assert!(world.pack("/../secret").is_err());
    assert_eq!(world.pack("/").unwrap()[0], "root");
}

#[test]
fn the_kernels_files_are_not_copied() {
    let mut bytes = Vec::new();
    let packed = pack(Path::new("/"), Path::new("/proc/self"), &mut bytes);
    assert!(matches!(packed, Err(CopyError::Kernel { .. })), "{packed:?}");
    let unpacked = unpack(Path::new("/"), Path::new("/proc"), (0, 0), Cursor::new(file("x", b"")));
    assert!(matches!(unpacked, Err(CopyError::Kernel { .. })), "{unpacked:?}");
}

#[tokio::test]
async fn a_caller_who_neither_sends_nor_takes_is_given_up() {
    let (_sender, pieces) = tokio::sync::mpsc::channel(1);
    let read =
        tokio::task::spawn_blocking(move || io::Read::read(&mut Reader::new(pieces), &mut [0; 8]));
    assert_eq!(read.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    let (pieces, _taken) = tokio::sync::mpsc::channel(1);
    let write =
        tokio::task::spawn_blocking(move || io::copy(&mut io::repeat(7), &mut Writer::new(pieces)));
    assert_eq!(write.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn an_archive_that_ends_without_a_word_was_cut() {
    let (sender, pieces) = tokio::sync::mpsc::channel(4);
    sender.send(Some(vec![1, 2])).await.unwrap();
    drop(sender);
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        io::Read::read_to_end(&mut Reader::new(pieces), &mut all)
    });
    assert_eq!(read.await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}
