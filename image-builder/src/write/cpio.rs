//! The initrd: a `newc` cpio archive, not compressed.
//!
//! Not compressed on purpose: the kernel unpacks plain cpio at 3 virtual ms for each MiB and needs 6 for lz4 and 16 for
//! zstd, and the boot image as a whole is small. Every entry is owned by root and dated 0, so equal input gives equal
//! bytes.

use std::fmt::Write as _;

/// One entry, in the order the kernel is to create it: a directory before what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path without a leading slash.
    pub path: String,
    /// File type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Major and minor number of a device, else zeros.
    pub device: (u32, u32),
    /// Content; empty for directories and devices.
    pub content: Vec<u8>,
}

impl Entry {
    /// A directory with mode 0755.
    #[must_use]
    pub fn directory(path: &str) -> Self {
        Self { path: path.to_owned(), mode: 0o040_755, device: (0, 0), content: Vec::new() }
    }

    /// A regular file.
    #[must_use]
    pub fn file(path: &str, permissions: u32, content: Vec<u8>) -> Self {
        Self { path: path.to_owned(), mode: 0o100_000 | permissions, device: (0, 0), content }
    }

    /// A character device, mode 0600: the initrd needs its console before anything is mounted.
    #[must_use]
    pub fn character_device(path: &str, major: u32, minor: u32) -> Self {
        Self { path: path.to_owned(), mode: 0o020_600, device: (major, minor), content: Vec::new() }
    }
}

/// The archive as bytes.
#[must_use]
pub fn write(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        append(&mut archive, index + 1, entry);
    }
    let trailer =
        Entry { path: "TRAILER!!!".to_owned(), mode: 0, device: (0, 0), content: Vec::new() };
    append(&mut archive, 0, &trailer);
    pad(&mut archive, 512);
    archive
}

fn append(archive: &mut Vec<u8>, inode: usize, entry: &Entry) {
    let links = if entry.mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
    let fields: [usize; 13] = [
        inode,
        entry.mode as usize,
        0, // owner
        0, // group
        links,
        0, // modification time
        entry.content.len(),
        0, // device the file is on
        0,
        entry.device.0 as usize,
        entry.device.1 as usize,
        entry.path.len() + 1,
        0, // checksum, unused in this variant
    ];
    let mut header = String::from("070701");
    for field in fields {
        let _infallible = write!(header, "{field:08x}");
    }
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(entry.path.as_bytes());
    archive.push(0);
    pad(archive, 4);
    archive.extend_from_slice(&entry.content);
    pad(archive, 4);
}

fn pad(archive: &mut Vec<u8>, to: usize) {
    archive.resize(archive.len().next_multiple_of(to), 0);
}

/// Reads an archive back: for tests and for looking into what was built. Gives what it understood before the first
/// damaged entry.
#[must_use]
pub fn read(archive: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some((entry, next)) = read_one(archive, at) {
        if entry.path == "TRAILER!!!" {
            break;
        }
        entries.push(entry);
        at = next;
    }
    entries
}

fn read_one(archive: &[u8], at: usize) -> Option<(Entry, usize)> {
    let header = archive.get(at..at + 110)?;
    let field = |index: usize| -> Option<usize> {
        let text = header.get(6 + index * 8..14 + index * 8)?;
        usize::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
    };
    let number = |index: usize| field(index).and_then(|value| u32::try_from(value).ok());
    let name_at = at + 110;
    let name = archive.get(name_at..name_at + field(11)?.checked_sub(1)?)?;
    let content_at = (name_at + field(11)?).next_multiple_of(4);
    let content = archive.get(content_at..content_at + field(6)?)?;
    let entry = Entry {
        path: String::from_utf8_lossy(name).into_owned(),
        mode: number(1)?,
        device: (number(9)?, number(10)?),
        content: content.to_vec(),
    };
    Some((entry, (content_at + content.len()).next_multiple_of(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Entry> {
        vec![
            Entry::directory("dev"),
            Entry::character_device("dev/console", 5, 1),
            Entry::file("init", 0o755, b"program".to_vec()),
            Entry::file("modules.list", 0o644, Vec::new()),
        ]
    }

    #[test]
    fn an_archive_reads_back_as_it_was_written() {
        assert_eq!(read(&write(&sample())), sample());
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        assert_eq!(write(&sample()), write(&sample()));
    }

    #[test]
    fn every_header_begins_on_a_multiple_of_four() {
        let archive = write(&sample());
        let starts: Vec<usize> = archive
            .windows(6)
            .enumerate()
            .filter(|(_, w)| *w == b"070701")
            .map(|(at, _)| at)
            .collect();
        assert_eq!(starts.len(), 5);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
    }
}
