//! Out of a container: a file or folder becomes an archive.

use super::{CopyError, DEPTH_MAX, NAMES_MAX};
use ingot_linux::beneath;
use ingot_linux::inside::{self, Entry, Stat};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Packs what `path` leads to below `root`. Names in the archive begin with the last name of `path`. Devices, sockets and pipes are left
/// out; so is what changes so fast that it is gone when it is read.
pub(crate) fn pack(root: &Path, path: &Path, to: impl Write) -> Result<(), CopyError> {
    let root = beneath::folder(root).map_err(CopyError::Root)?;
    let found =
        beneath::resolve(&root, path).map_err(|source| CopyError::inside("open", path, source))?;
    let name = path.file_name().map_or_else(|| PathBuf::from("root"), PathBuf::from);
    let failed = |source| CopyError::inside("look at", path, source);
    if inside::is_kernel_view(&found).map_err(failed)? {
        return Err(CopyError::Kernel { path: path.to_owned() });
    }
    let stat = inside::stat(&found).map_err(failed)?;
    if stat.entry == Entry::Special {
        return Err(CopyError::Path { path: path.to_owned() });
    }
    let mut archive = Builder::new(to);
    add(&mut archive, &found, &stat, &name, 0)?;
    let mut to = archive.into_inner().map_err(CopyError::Write)?;
    to.flush().map_err(CopyError::Write)
}

fn add(
    archive: &mut Builder<impl Write>,
    found: &OwnedFd,
    stat: &Stat,
    name: &Path,
    depth: usize,
) -> Result<(), CopyError> {
    let mut header = Header::new_gnu();
    header.set_mode(stat.mode);
    header.set_mtime(stat.modified);
    header.set_size(0);
    match &stat.entry {
        Entry::Special => Ok(()),
        Entry::Link { target } => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, name, target).map_err(CopyError::Write)
        }
        Entry::File { length } => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(*length);
            let file =
                inside::read(found).map_err(|source| CopyError::inside("read", name, source))?;
            let exactly = Exactly { file, left: *length };
            archive.append_data(&mut header, name, exactly).map_err(CopyError::Write)
        }
        Entry::Folder => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, name, io::empty()).map_err(CopyError::Write)?;
            if depth == DEPTH_MAX {
                return Err(CopyError::Deep { path: name.to_owned() });
            }
            let names = inside::names(found, NAMES_MAX)
                .map_err(|source| CopyError::inside("list", name, source))?;
            names.iter().try_for_each(|child| add_child(archive, found, child, name, depth))
        }
    }
}

fn add_child(
    archive: &mut Builder<impl Write>,
    folder: &OwnedFd,
    child: &OsStr,
    name: &Path,
    depth: usize,
) -> Result<(), CopyError> {
    let name = name.join(child);
    // Gone since the folder was listed.
    let Ok(found) = inside::at(folder, child) else { return Ok(()) };
    let failed = |source| CopyError::inside("look at", &name, source);
    if inside::is_kernel_view(&found).map_err(failed)? {
        return Ok(());
    }
    let stat = inside::stat(&found).map_err(failed)?;
    add(archive, &found, &stat, &name, depth + 1)
}

/// As many bytes as the header promised: a file that grows is cut, one that shrinks is filled with zeros.
struct Exactly {
    file: std::fs::File,
    left: u64,
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most) else { return Ok(0) };
        let mut count = (&self.file).read(buffer)?;
        if count == 0 {
            buffer.fill(0);
            count = most;
        }
        self.left -= count as u64;
        Ok(count)
    }
}
