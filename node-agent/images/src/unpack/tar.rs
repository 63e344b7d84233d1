//! Reads the tar formats found in images: v7, ustar, PAX and GNU, with long names and sparse files.
//!
//! Our own, because readers at hand either keep extension headers of any size in memory or disagree with Go's reader
//! on where an entry ends (RUSTSEC-2026-0068, RUSTSEC-2025-0111): an archive must not look different to us than to
//! the tools that scanned it. It touches no file system. Global PAX headers are read over, as Go does.

mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead, Read as _};

use self::header::{BLOCK, Header};
use self::pax::Pax;

/// An extension header in bytes; Go's reader has the same bound. Names and attributes are far shorter.
const EXTENSION_MAX: u64 = 1 << 20;
/// Extension headers in a row; real archives have at most two.
const EXTENSIONS_MAX: usize = 8;

/// The archive is not one, or it cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    /// The stream below failed.
    #[error("read the archive")]
    Read(#[source] io::Error),
    /// It ends where it must not.
    #[error("the archive is cut off")]
    CutOff,
    /// It breaks a rule.
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    SymbolicLink,
    Folder,
    Fifo,
    /// A character or block device.
    Device,
}

/// One entry, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Name as written, any bytes but NUL.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permissions with set-id and sticky bits; nothing else.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    /// Target of a link as written.
    pub(crate) link: Vec<u8>,
    /// Length of the file, holes included.
    pub(crate) size: u64,
    /// Extended attributes.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the content belongs, as offsets and lengths in rising order; `None`: all of it, from the start.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

/// An archive that is read from its beginning to its end.
pub(crate) struct Archive<R> {
    reader: R,
    /// Content of the current entry that was not read yet.
    content: u64,
    /// Bytes between the content and the next header.
    padding: u64,
    ended: bool,
}

impl<R: BufRead> Archive<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, content: 0, padding: 0, ended: false }
    }

    /// The next entry; what was not read of the last one is read over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut pax = Pax::default();
        let (mut long_name, mut long_link) = (None, None);
        for _ in 0..EXTENSIONS_MAX {
            self.skip()?;
            let Some(block) = self.header_block()? else {
                self.ended = true;
                return Ok(None);
            };
            let header = Header::new(&block)?;
            match header.kind() {
                b'x' => pax = Pax::read(&self.extension(&header)?)?,
                b'g' => drop(self.extension(&header)?),
                b'L' => long_name = Some(until_nul(self.extension(&header)?)),
                b'K' => long_link = Some(until_nul(self.extension(&header)?)),
                // The label of a volume.
                b'V' => self.begin(header.size()?)?,
                _ => return self.entry(&header, pax, long_name, long_link).map(Some),
            }
        }
        Err(TarError::Damaged("too many extension headers in a row"))
    }

    /// The next piece of the current entry's content; empty at its end.
    pub(crate) fn piece(&mut self) -> Result<&[u8], TarError> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let buffer = self.reader.fill_buf().map_err(TarError::Read)?;
        if buffer.is_empty() {
            return Err(TarError::CutOff);
        }
        let length = usize::try_from(self.content).map_or(buffer.len(), |c| c.min(buffer.len()));
        Ok(&buffer[..length])
    }

    /// So many bytes of the last [`Self::piece`] were used.
    pub(crate) fn consume(&mut self, length: usize) {
        self.reader.consume(length);
        self.content = self.content.saturating_sub(length as u64);
    }

    /// What is below.
    pub(crate) fn get_ref(&self) -> &R {
        &self.reader
    }

    /// What is below, once no entry is left.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    fn entry(
        &mut self,
        header: &Header<'_>,
        mut pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, TarError> {
        let kind = match header.kind() {
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'3' | b'4' => Kind::Device,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            _ => return Err(TarError::Damaged("an entry of unknown type")),
        };
        let path = pax.path.take().or(long_name).unwrap_or_else(|| header.path());
        // A file whose name ends in a slash is a folder in the oldest format.
        let kind = if kind == Kind::File && path.ends_with(b"/") { Kind::Folder } else { kind };
        let stored = match pax.size {
            Some(size) => size,
            None => header.size()?,
        };
        // Only files have content, whatever the header says; Go reads it so, too.
        let stored = if kind == Kind::File { stored } else { 0 };
        self.begin(stored)?;
        let (size, sparse, path) = if kind != Kind::File {
            (0, None, path)
        } else if header.kind() == b'S' {
            let (size, map) = self.old_sparse(header)?;
            (size, Some(map), path)
        } else if let Some(form) = pax.sparse.take() {
            let (size, map, name) = self.pax_sparse(form)?;
            (size, Some(map), name.unwrap_or(path))
        } else {
            (stored, None, path)
        };
        if let Some(map) = &sparse {
            sparse::check(map, size, self.content)?;
        }
        Ok(Entry {
            path,
            kind,
            mode: header.mode()?,
            uid: header.id(pax.uid, header::UID)?,
            gid: header.id(pax.gid, header::GID)?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => header.mtime()?,
            },
            link: pax.link.take().or(long_link).unwrap_or_else(|| header.link()),
            size,
            xattrs: pax.xattrs,
            sparse,
        })
    }

    fn begin(&mut self, size: u64) -> Result<(), TarError> {
        if size > 1 << 60 {
            return Err(TarError::Damaged("an entry of impossible size"));
        }
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// Reads over the rest of the current entry.
    fn skip(&mut self) -> Result<(), TarError> {
        let mut left = self.content + self.padding;
        while left > 0 {
            let buffer = self.reader.fill_buf().map_err(TarError::Read)?;
            if buffer.is_empty() {
                return Err(TarError::CutOff);
            }
            let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.reader.consume(length);
            left -= length as u64;
        }
        (self.content, self.padding) = (0, 0);
        Ok(())
    }

    /// The next header; `None` at the end, which is two blocks of zeros or, as many writers have it, just the end.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        match self.block()? {
            None | Some([0, ..]) => Ok(None),
            Some(_) => Err(TarError::Damaged("a block of zeros between entries")),
        }
    }

    /// One block, or nothing at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.reader.fill_buf().map_err(TarError::Read)?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.reader.read_exact(&mut block).map_err(cut_off)?;
        Ok(Some(block))
    }

    /// One block of the current entry's content.
    fn content_block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        if self.content < BLOCK as u64 {
            return Err(TarError::Damaged("the map of a sparse file is cut off"));
        }
        self.reader.read_exact(&mut block).map_err(cut_off)?;
        self.content -= BLOCK as u64;
        Ok(block)
    }

    /// Content of an extension header.
    fn extension(&mut self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > EXTENSION_MAX {
            return Err(TarError::Damaged("an extension header of more than 1 MiB"));
        }
        self.begin(size)?;
        let mut content = Vec::new();
        (&mut self.reader).take(size).read_to_end(&mut content).map_err(TarError::Read)?;
        if content.len() as u64 != size {
            return Err(TarError::CutOff);
        }
        self.content = 0;
        Ok(content)
    }
}

fn cut_off(error: io::Error) -> TarError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TarError::CutOff,
        _ => TarError::Read(error),
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
    bytes
}

#[cfg(test)]
mod tests;
