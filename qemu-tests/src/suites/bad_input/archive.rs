//! Archives and compressed streams as an attacker writes them. Bytes only.

/// Size of everything in an archive.
const BLOCK: usize = 512;

/// Bytes of zeros that a block of a compressed stream stands for.
const RUN: u32 = 128 * 1024;

/// An archive that is being written.
#[derive(Debug, Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    /// A file.
    pub(super) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(b'0', path, "", content)
    }

    /// A file of zeros.
    pub(super) fn zeros(self, path: &str, length: usize) -> Self {
        self.entry(b'0', path, "", &vec![0; length])
    }

    /// A symbolic link.
    pub(super) fn link(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, b"")
    }

    /// A hard link.
    pub(super) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, b"")
    }

    /// A character device.
    pub(super) fn device(self, path: &str) -> Self {
        self.entry(b'3', path, "", b"")
    }

    fn entry(mut self, kind: u8, path: &str, link: &str, content: &[u8]) -> Self {
        let mut header = [0; BLOCK];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, path.as_bytes());
        put(100, b"0000755\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", content.len()).as_bytes());
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// The archive.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

/// A zstd stream (RFC 8878) of so many runs of zeros: 4 bytes stand for 128 KiB.
pub(super) fn bomb(runs: usize) -> Vec<u8> {
    // Magic number; neither size nor checksum; a window of 128 KiB.
    let mut stream = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    for run in 1..=runs {
        let is_last = u32::from(run == runs);
        let header = (RUN << 3) | (1 << 1) | is_last;
        stream.extend_from_slice(&header.to_le_bytes()[..3]);
        stream.push(0);
    }
    stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_a_header_its_content_and_nothing_more() {
        let archive = Tar::default().file("a", b"x").link("b", "/a").end();
        assert_eq!(archive.len(), 5 * BLOCK);
        assert_eq!(&archive[BLOCK..BLOCK + 1], b"x");
        assert_eq!(&archive[2 * BLOCK + 157..2 * BLOCK + 159], b"/a");
    }

    #[test]
    fn a_run_takes_four_bytes() {
        assert_eq!(bomb(10).len(), 6 + 40);
    }
}
