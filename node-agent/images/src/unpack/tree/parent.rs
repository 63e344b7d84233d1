//! Finding and making the folder of an entry, and removing what an entry replaces, all below the layer's folder.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Tree, UnpackError, failed, is_whiteout, open_folder, refused};

/// Names removed from one folder before its list is read again.
const NAMES_MAX: usize = 1024;

impl Tree {
    /// The folder with this path, made with everything above it when it is not there.
    pub(super) fn parent(&mut self, path: &[u8], entry: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(folder.clone());
        }
        let folder = match self.resolve(path) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.make_parents(path, entry)?;
                self.resolve(path).map_err(|e| failed("find the folder of", entry, e.into()))?
            }
            Err(error) => return Err(failed("find the folder of", entry, error.into())),
        };
        let folder = Rc::new(folder);
        self.last = Some((path.to_vec(), folder.clone()));
        Ok(folder)
    }

    /// Opens a folder of the layer. Symbolic links are resolved as if the layer were the whole file system; few
    /// images need that, and it must not be a way to folders deeper than anybody could remove.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let open = |resolve| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = resolve | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
            rustix::fs::openat2(&self.root, relative(path), flags, Mode::empty(), resolve)
        };
        match open(ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => {}
            found => return found,
        }
        let folder = open(ResolveFlags::IN_ROOT)?;
        let depth = |folder: BorrowedFd<'_>| {
            use std::os::fd::AsRawFd as _;
            let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
            let target = rustix::fs::readlink(link, Vec::new())?;
            Ok::<_, Errno>(target.as_bytes().iter().filter(|b| **b == b'/').count())
        };
        let below = depth(folder.as_fd())?.saturating_sub(depth(self.root.as_fd())?);
        if below < self.depth_max { Ok(folder) } else { Err(Errno::NAMETOOLONG) }
    }

    fn make_parents(&mut self, path: &[u8], entry: &[u8]) -> Result<(), UnpackError> {
        let ends = (0..=path.len()).filter(|at| path.get(*at).is_none_or(|b| *b == b'/'));
        let mut above = self.resolve(b"").map_err(|e| failed("open", entry, e.into()))?;
        let mut start = 0;
        for end in ends {
            let name = &path[start..end];
            start = end + 1;
            match self.resolve(&path[..end]) {
                Ok(folder) => {
                    above = folder;
                    continue;
                }
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR) if is_whiteout(above.as_fd(), name) => {}
                Err(Errno::NOTDIR) => {
                    return Err(refused(entry, "lies in a file that is no folder"));
                }
                Err(error) => return Err(failed("find the folder of", entry, error.into())),
            }
            above = self.make_parent(above.as_fd(), name, entry)?;
        }
        Ok(())
    }

    /// A folder that no entry describes: owned by root, readable by all.
    fn make_parent(
        &mut self,
        above: BorrowedFd<'_>,
        name: &[u8],
        entry: &[u8],
    ) -> Result<OwnedFd, UnpackError> {
        let failed = |e: io::Error| failed("make the folder of", entry, e);
        let opaque = is_whiteout(above, name);
        if opaque {
            rustix::fs::unlinkat(above, name, AtFlags::empty()).map_err(|e| failed(e.into()))?;
        }
        match rustix::fs::mkdirat(above, name, Mode::RWXU) {
            Ok(()) => {}
            // Something is there and yet it was not found: a link to nothing.
            Err(Errno::EXIST) => {
                return Err(refused(entry, "lies behind a symbolic link that leads nowhere"));
            }
            Err(error) => return Err(failed(error.into())),
        }
        let folder = open_folder(above, name).map_err(failed)?;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755)).map_err(|e| failed(e.into()))?;
        if opaque {
            self.set_opaque(folder.as_fd(), entry)?;
        }
        self.stats.inodes += 1;
        self.stats.bytes += 4096;
        self.stats.implicit += 1;
        Ok(folder)
    }
}

/// Below a folder an absolute path has no meaning; the archive's were made relative before.
fn relative(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
    if start == path.len() { b"." } else { &path[start..] }
}

/// Removes a file, or a folder with everything in it. Links are removed, never followed.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return Ok(done?),
    }
    // The depth is bounded, so one descriptor for each level is, too.
    let folder = open_folder(parent, name)?;
    loop {
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push((name.to_vec(), entry.file_type()));
            }
            if names.len() == NAMES_MAX {
                break;
            }
        }
        if names.is_empty() {
            break;
        }
        for (name, kind) in names {
            match kind {
                FileType::Directory | FileType::Unknown => remove(folder.as_fd(), &name)?,
                _ => rustix::fs::unlinkat(&folder, &name[..], AtFlags::empty())?,
            }
        }
    }
    drop(folder);
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Both names are the same file.
pub(super) fn same(a: BorrowedFd<'_>, a_name: &[u8], b: BorrowedFd<'_>, b_name: &[u8]) -> bool {
    let stat = |folder, name| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    match (stat(a, a_name), stat(b, b_name)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}
