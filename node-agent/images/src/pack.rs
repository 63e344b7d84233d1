//! Writes the folder of a layer as an archive again, whiteouts as images have them. The inverse of `unpack`.
//!
//! Nobody writes to a layer of the store, so names are looked up as they are. The bytes are not those that were pulled:
//! an archive can be written in many ways.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// Everything in an archive is a multiple of this, in bytes.
const BLOCK: usize = 512;
/// Longest list of names of attributes.
const NAMES_MAX: usize = 64 << 10;
/// Longest attribute; the kernel has the same bound.
const VALUE_MAX: usize = 64 << 10;
/// What overlayfs calls a folder that hides what is below it.
const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// An archive that is being written.
pub(crate) struct Packer<W> {
    out: W,
    /// Files with several names, by inode, with the first of them.
    linked: HashMap<u64, Vec<u8>>,
}

/// What a header says.
struct Header<'a> {
    path: &'a [u8],
    kind: u8,
    link: &'a [u8],
    size: u64,
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, linked: HashMap::new() }
    }

    /// Writes everything below a folder.
    pub(crate) fn tree(&mut self, folder: &Path) -> io::Result<()> {
        self.below(folder, b"")
    }

    /// A file that is not on the disk, owned by root.
    pub(crate) fn bytes(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let size = content.len() as u64;
        self.begin(path, size)?;
        self.out.write_all(content)?;
        self.fill(size)
    }

    /// Header of such a file; its content and [`Self::fill`] follow.
    pub(crate) fn begin(&mut self, path: &str, size: u64) -> io::Result<()> {
        let header = Header { path: path.as_bytes(), kind: b'0', link: b"", size };
        self.header(&header, 0o644, [0, 0], 0)
    }

    /// After a content of so many bytes.
    pub(crate) fn fill(&mut self, size: u64) -> io::Result<()> {
        let length = size.next_multiple_of(BLOCK as u64) - size;
        self.out.write_all(&[0; BLOCK][..usize::try_from(length).unwrap_or(0)])
    }

    /// What is written to directly between [`Self::begin`] and [`Self::fill`].
    pub(crate) fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// The end of the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn below(&mut self, folder: &Path, name: &[u8]) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let mut path = name.to_vec();
            path.extend_from_slice(entry.file_name().as_bytes());
            self.one(&entry.path(), path)?;
        }
        Ok(())
    }

    fn one(&mut self, place: &Path, mut path: Vec<u8>) -> io::Result<()> {
        let found = fs::symlink_metadata(place)?;
        let kind = found.file_type();
        if kind.is_char_device() {
            // The store makes no other devices than whiteouts.
            let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
            path.splice(at..at, *b".wh.");
            let header = Header { path: &path, kind: b'0', link: b"", size: 0 };
            return self.header(&header, 0o600, [0, 0], 0);
        }
        if kind.is_dir() {
            path.push(b'/');
            let opaque = self.described(
                &Header { path: &path, kind: b'5', link: b"", size: 0 },
                place,
                &found,
            )?;
            if opaque {
                let mark = [&path[..], b".wh..wh..opq"].concat();
                let header = Header { path: &mark, kind: b'0', link: b"", size: 0 };
                self.header(&header, 0o600, [0, 0], 0)?;
            }
            return self.below(place, &path);
        }
        if found.nlink() > 1 {
            if let Some(first) = self.linked.get(&found.ino()).cloned() {
                let header = Header { path: &path, kind: b'1', link: &first, size: 0 };
                return self.described(&header, place, &found).map(drop);
            }
            self.linked.insert(found.ino(), path.clone());
        }
        if kind.is_symlink() {
            let target = fs::read_link(place)?;
            let link = target.as_os_str().as_bytes();
            let header = Header { path: &path, kind: b'2', link, size: 0 };
            return self.described(&header, place, &found).map(drop);
        }
        if kind.is_fifo() {
            let header = Header { path: &path, kind: b'6', link: b"", size: 0 };
            return self.described(&header, place, &found).map(drop);
        }
        let size = found.len();
        let header = Header { path: &path, kind: b'0', link: b"", size };
        self.described(&header, place, &found)?;
        let copied = io::copy(&mut File::open(place)?, &mut self.out)?;
        if copied != size {
            return Err(io::Error::other("a file of the layer changed"));
        }
        self.fill(size)
    }

    /// Header of what is on the disk, with its attributes; whether it hides what is below it.
    fn described(
        &mut self,
        header: &Header<'_>,
        place: &Path,
        found: &Metadata,
    ) -> io::Result<bool> {
        let (mut attributes, opaque) = attributes(place)?;
        if header.kind == b'1' {
            attributes.clear();
        }
        self.extended(header, found, &attributes)?;
        let ids = [found.uid(), found.gid()];
        self.header_only(header, found.mode() & 0o7777, ids, found.mtime())?;
        Ok(opaque)
    }

    fn header(
        &mut self,
        header: &Header<'_>,
        mode: u32,
        ids: [u32; 2],
        mtime: i64,
    ) -> io::Result<()> {
        self.names(header, Vec::new())?;
        self.header_only(header, mode, ids, mtime)
    }

    fn extended(
        &mut self,
        header: &Header<'_>,
        found: &Metadata,
        attributes: &[(Vec<u8>, Vec<u8>)],
    ) -> io::Result<()> {
        let mut content = Vec::new();
        for (key, id) in [("uid", found.uid()), ("gid", found.gid())] {
            if id > 0o7_777_777 {
                record(&mut content, key.as_bytes(), id.to_string().as_bytes());
            }
        }
        if found.mtime() < 0 {
            record(&mut content, b"mtime", found.mtime().to_string().as_bytes());
        }
        for (name, value) in attributes {
            record(&mut content, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        self.names(header, content)
    }

    /// The extension header, when one is needed.
    fn names(&mut self, header: &Header<'_>, mut content: Vec<u8>) -> io::Result<()> {
        if header.path.len() > 100 {
            record(&mut content, b"path", header.path);
        }
        if header.link.len() > 100 {
            record(&mut content, b"linkpath", header.link);
        }
        if header.size >= 1 << 33 {
            record(&mut content, b"size", header.size.to_string().as_bytes());
        }
        if content.is_empty() {
            return Ok(());
        }
        let size = content.len() as u64;
        let extension = Header { path: b"PaxHeader", kind: b'x', link: b"", size };
        self.header_only(&extension, 0o644, [0, 0], 0)?;
        self.out.write_all(&content)?;
        self.fill(size)
    }

    fn header_only(
        &mut self,
        header: &Header<'_>,
        mode: u32,
        ids: [u32; 2],
        mtime: i64,
    ) -> io::Result<()> {
        let mut block = [0_u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let octal = |value: u64, digits: usize| format!("{value:0digits$o}").into_bytes();
        put(0, &header.path[..header.path.len().min(100)]);
        put(100, &octal(mode.into(), 7));
        for (at, id) in [(108, ids[0]), (116, ids[1])] {
            put(at, &octal(if id > 0o7_777_777 { 0 } else { id.into() }, 7));
        }
        put(124, &octal(if header.size >= 1 << 33 { 0 } else { header.size }, 11));
        put(136, &octal(u64::try_from(mtime).unwrap_or(0).min((1 << 33) - 1), 11));
        put(148, b"        ");
        put(156, &[header.kind]);
        put(157, &header.link[..header.link.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&block)
    }
}

/// `<length> <key>=<value>\n`, the length counting itself.
fn record(content: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    content.extend_from_slice(format!("{length} ").as_bytes());
    content.extend_from_slice(key);
    content.push(b'=');
    content.extend_from_slice(value);
    content.push(b'\n');
}

/// Names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Attributes that an image may bring, and whether overlayfs' mark is among the others.
fn attributes(place: &Path) -> io::Result<(Attributes, bool)> {
    let mut names = vec![0; NAMES_MAX];
    let length = match rustix::fs::llistxattr(place, &mut names) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        found => found?,
    };
    let mut kept = Vec::new();
    let mut opaque = false;
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        opaque |= OPAQUE.contains(&name);
        let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if user || name == b"security.capability" {
            let mut value = vec![0; VALUE_MAX];
            let length = rustix::fs::lgetxattr(place, name, &mut value)?;
            value.truncate(length);
            kept.push((name.to_vec(), value));
        }
    }
    Ok((kept, opaque))
}
