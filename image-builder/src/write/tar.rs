//! A ustar stream of a root tree: how the tree reaches `mkfs.erofs`.
//!
//! Going through tar means that owners, modes and times come from the tree and never from files on the build machine,
//! so any user can build, and nothing of the machine leaks in.

use std::io::{Read, Write};

/// What kind of entry a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A regular file; its content follows through [`Writer::content`].
    File {
        /// Length of the content in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: &'a str,
    },
}

/// Writes one archive. Entries come in the order of the calls; owner root, time 0.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// A writer into `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Starts an entry. `path` has no leading slash.
    ///
    /// # Errors
    /// Errors of `out`.
    pub fn entry(&mut self, path: &str, mode: u32, kind: Kind<'_>) -> std::io::Result<()> {
        let (flag, size, link) = match kind {
            Kind::File { size } => (b'0', size, ""),
            Kind::Directory => (b'5', 0, ""),
            Kind::Symlink { target } => (b'2', 0, target),
        };
        // GNU long names: a pseudo entry whose content is the name. Few paths need it.
        if path.len() > 100 {
            self.long(b'L', path)?;
        }
        if link.len() > 100 {
            self.long(b'K', link)?;
        }
        self.out.write_all(&header(path, link, mode, size, flag))
    }

    /// Copies a file's content, which must be exactly the announced length, and pads it.
    ///
    /// # Errors
    /// Errors of `from` and of the archive; a content of another length.
    pub fn content(&mut self, mut from: impl Read, size: u64) -> std::io::Result<()> {
        let copied = std::io::copy(&mut from, &mut self.out)?;
        if copied != size {
            return Err(std::io::Error::other("a file changed while it was being read"));
        }
        self.pad(size)
    }

    /// Ends the archive and gives the output back.
    ///
    /// # Errors
    /// Errors of the archive.
    pub fn finish(mut self) -> std::io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn long(&mut self, flag: u8, text: &str) -> std::io::Result<()> {
        let size = text.len() as u64 + 1;
        self.out.write_all(&header("././@LongLink", "", 0, size, flag))?;
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> std::io::Result<()> {
        let zeros = [0_u8; 512];
        let missing = usize::try_from(size.next_multiple_of(512) - size).unwrap_or_default();
        self.out.write_all(zeros.get(..missing).unwrap_or_default())
    }
}

fn header(path: &str, link: &str, mode: u32, size: u64, flag: u8) -> [u8; 512] {
    let mut block = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8], limit: usize| {
        let take = bytes.len().min(limit);
        block[at..at + take].copy_from_slice(&bytes[..take]);
    };
    put(0, path.as_bytes(), 100);
    put(100, format!("{mode:07o}").as_bytes(), 8);
    put(108, b"0000000", 8); // owner
    put(116, b"0000000", 8); // group
    put(124, format!("{size:011o}").as_bytes(), 12);
    put(136, b"00000000000", 12); // time
    put(148, b"        ", 8); // checksum, counted as blanks
    put(156, &[flag], 1);
    put(157, link.as_bytes(), 100);
    put(257, b"ustar  \0", 8); // GNU variant, for long names
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_what_was_written() {
        let mut writer = Writer::new(Vec::new());
        let long = format!("{}/file", "d".repeat(120));
        writer.entry("etc", 0o755, Kind::Directory).expect("directory");
        writer.entry(&long, 0o644, Kind::File { size: 3 }).expect("file");
        writer.content(&b"abc"[..], 3).expect("content");
        writer.entry("link", 0o777, Kind::Symlink { target: "etc" }).expect("link");
        let bytes = writer.finish().expect("end");
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("a.tar");
        std::fs::write(&file, bytes).expect("archive");
        let list = std::process::Command::new("tar")
            .arg("-tvf")
            .arg(&file)
            .env("LC_ALL", "C")
            .output()
            .expect("tar");
        let text = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(
            text.contains("drwxr-xr-x 0/0") && text.contains(&long) && text.contains("link -> etc"),
            "{text}"
        );
    }

    #[test]
    fn a_content_of_another_length_is_refused() {
        let mut writer = Writer::new(Vec::new());
        writer.entry("a", 0o644, Kind::File { size: 9 }).expect("header");
        assert!(writer.content(&b"abc"[..], 9).is_err());
    }
}
