//! Archives made of files here, and files here made of archives. Blocking; the other end is a bounded channel of pieces.
//!
//! What a node sends was chosen by a container: nothing of it may lead out of the folder it is unpacked in.

use crate::failure::{Exit, Failure};
use ingot_api::machine::v1::CopyInResponse;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, EntryType};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Size of a piece that is sent.
const PIECE: usize = 64 * 1024;

/// Pieces on their way.
const AHEAD: usize = 4;

/// Where pieces of an archive go to be unpacked; `None` is its end.
pub(super) type Pieces = mpsc::Sender<Option<Vec<u8>>>;

/// The work of packing, and the archive in pieces. The channel's end without an error of the work is the archive's.
pub(super) type Packing = (JoinHandle<Result<(), Failure>>, mpsc::Receiver<Vec<u8>>);

/// Begins to pack a file or folder.
pub(super) fn pack(from: &Path) -> Result<Packing, Failure> {
    let failed = |error: io::Error| {
        Failure::usage(format!("cannot read {}", from.display())).because(&error)
    };
    let is_folder = std::fs::metadata(from).map_err(failed)?.is_dir();
    // "." and ".." have a name too.
    let name = match from.file_name() {
        Some(name) => name.to_owned(),
        None => {
            let whole = from.canonicalize().map_err(failed)?;
            whole.file_name().map_or_else(|| OsString::from("root"), ToOwned::to_owned)
        }
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let from = from.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        let mut archive = Builder::new(Writer { to: sender, piece: Vec::new() });
        archive.follow_symlinks(false);
        let packed = if is_folder {
            archive.append_dir_all(&name, &from)
        } else {
            std::fs::File::open(&from).and_then(|mut file| archive.append_file(&name, &mut file))
        };
        let packed = packed.and_then(|()| archive.into_inner()).and_then(|mut to| to.flush());
        packed.map_err(|error| match error.kind() {
            // The node took no more, and says why.
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Quiet, ""),
            _ => Failure::new(Exit::Failed, format!("cannot pack {}", from.display()))
                .because(&error),
        })
    });
    Ok((task, receiver))
}

struct Writer {
    to: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.to.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// An archive that arrives in pieces.
pub(super) struct Reader {
    from: mpsc::Receiver<Option<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
}

/// Both ends.
pub(super) fn reader() -> (Pieces, Reader) {
    let (pieces, from) = mpsc::channel(AHEAD);
    (pieces, Reader { from, piece: io::Cursor::default() })
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.from.blocking_recv() {
                Some(Some(piece)) => self.piece = io::Cursor::new(piece),
                Some(None) => return Ok(0),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

/// Unpacks below `to` when it is a folder, else under the name `to`, whose folder must exist.
pub(super) fn unpack(from: impl Read, to: &Path) -> Result<CopyInResponse, Failure> {
    let failed = |error: io::Error| {
        Failure::new(Exit::Failed, format!("cannot write to {}", to.display())).because(&error)
    };
    if to.is_dir() {
        return extract(from, to).map(|done| done.0).map_err(failed);
    }
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Beside its place, so that it can be put there in one step and only when it is whole.
    let arriving = folder.join(format!(".ingot-copy-{}", std::process::id()));
    std::fs::create_dir(&arriving).map_err(failed)?;
    let unpacked = extract(from, &arriving).and_then(|(done, first)| {
        let first = first.ok_or(io::ErrorKind::UnexpectedEof)?;
        std::fs::rename(arriving.join(first), to)?;
        Ok(done)
    });
    // Empty now, unless something went wrong, which says more.
    let _left = std::fs::remove_dir_all(&arriving);
    unpacked.map_err(failed)
}

/// Unpacks into a folder; also gives the first name in the archive.
fn extract(from: impl Read, folder: &Path) -> io::Result<(CopyInResponse, Option<PathBuf>)> {
    let mut archive = Archive::new(from);
    let mut done = CopyInResponse::default();
    let mut first = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let path = entry.path()?.into_owned();
        let wanted = matches!(
            kind,
            EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link
        );
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !wanted || !inside || !entry.unpack_in(folder)? {
            let text = format!("the archive has {}, which is not taken", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        done.entries += 1;
        done.bytes += if kind == EntryType::Regular { entry.size() } else { 0 };
        first = first.or_else(|| path.components().next().map(|name| name.as_os_str().into()));
    }
    Ok((done, first))
}

#[cfg(test)]
mod tests;
