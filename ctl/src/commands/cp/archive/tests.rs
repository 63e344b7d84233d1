//! What a container put into an archive does not leave the folder it is unpacked in.

use super::*;
use std::fs;
use tar::Header;

fn entry(kind: EntryType, name: &str, link: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    let mut archive = Builder::new(Vec::new());
    archive.append(&header, bytes).unwrap();
    let mut bytes = archive.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let outside = tempfile::tempdir().unwrap();
    let inside = outside.path().join("here");
    fs::create_dir(&inside).unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    (outside, inside)
}

#[test]
fn nothing_is_written_outside() {
    for archive in [
        entry(EntryType::Regular, "../secret", "", b"x"),
        entry(EntryType::Regular, "/secret", "", b"x"),
        [
            entry(EntryType::Symlink, "up", "..", b""),
            entry(EntryType::Regular, "up/secret", "", b"x"),
        ]
        .concat(),
        entry(EntryType::Link, "hard", "../secret", b""),
        entry(EntryType::Char, "device", "", b""),
        entry(EntryType::Fifo, "pipe", "", b""),
    ] {
        let (outside, inside) = folder();
        assert!(unpack(&archive[..], &inside).is_err());
        assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    }
}

#[test]
fn a_new_name_is_given_and_only_to_what_is_whole() {
    let (_outside, inside) = folder();
    let archive =
        [entry(EntryType::Directory, "a", "", b""), entry(EntryType::Regular, "a/b", "", b"text")]
            .concat();
    let done = unpack(&archive[..], &inside.join("new")).unwrap();
    assert_eq!((done.entries, done.bytes), (2, 4));
    assert_eq!(fs::read(inside.join("new/b")).unwrap(), b"text");
    let cut = &entry(EntryType::Regular, "a", "", &[7; 5000])[..1024];
    assert!(unpack(cut, &inside.join("cut")).is_err());
    let names: Vec<_> = fs::read_dir(&inside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["new"]);
}
