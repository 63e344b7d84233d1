//! Makes the files of a layer below one folder, in the form overlayfs wants for a lower folder.
//!
//! No path of the archive ever reaches the kernel unless it is resolved below that folder (openat2(2)), and nothing
//! is changed by name after it was found: CVE-2021-32760 and CVE-2025-47290 were a chmod and a link in between.
//! Device nodes are not made: a container gets its devices from the runtime, and the few images that have some
//! (`/dev/null` and the like) have them below a folder that is mounted over anyway.

mod content;
mod parent;

use std::fs::File;
use std::io::{self, BufRead, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::tar::{Archive, Entry, Kind, TarError};
use super::{SPACE_EVERY, UnpackError};
use crate::config::Limits;

/// What begins the name of a file that says "not here any more".
const WHITEOUT: &[u8] = b".wh.";
/// The file that says "nothing of this folder from below".
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What else AUFS left in layers; it means nothing to us.
const AUFS: &[u8] = b".wh..wh.";
/// Folders whose times are set at the end; more would take too much memory, and times of folders matter to nobody.
const FOLDERS_MAX: usize = 100_000;
/// Longest path in bytes.
const PATH_MAX: usize = 4095;
/// Longest part of a path in bytes.
const NAME_MAX: usize = 255;

/// What a layer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Bytes on the disk, in whole blocks.
    pub(crate) bytes: u64,
    /// Files, folders and links.
    pub(crate) inodes: u64,
    /// Entries left out: devices and attributes that an image may not bring.
    pub(crate) skipped: u64,
    /// Of those, device nodes.
    #[serde(default)]
    pub(crate) devices: u64,
    /// Folders that no entry names but entries lie in.
    pub(crate) implicit: u64,
}

/// A layer's folder while it is filled.
pub(super) struct Tree {
    root: OwnedFd,
    /// The folder of the last entry: the next one is mostly in it, too.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    folders: Vec<(Vec<u8>, i64)>,
    /// Owners and attributes can be set; in tests without rights they are left out.
    privileged: bool,
    depth_max: usize,
    size_max: u64,
    reserve: u64,
    unchecked: u64,
    stats: Stats,
}

pub(super) fn open_root(folder: &Path) -> Result<OwnedFd, UnpackError> {
    rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failed("open the folder", b"", e.into()))
}

/// An operation of the kernel that failed, told with the entry it was for.
pub(super) fn failed(operation: &'static str, path: &[u8], source: io::Error) -> UnpackError {
    if matches!(Errno::from_io_error(&source), Some(Errno::NOSPC | Errno::DQUOT)) {
        return UnpackError::Full { reserve: 0 };
    }
    UnpackError::Make { operation, path: shown(path), source }
}

/// The archive cannot be read any further.
pub(super) fn damaged(error: TarError) -> UnpackError {
    match error {
        TarError::Damaged(problem) => UnpackError::Archive(problem),
        TarError::CutOff => UnpackError::Archive("the archive is cut off"),
        TarError::Read(_) => UnpackError::Stopped,
    }
}

fn refused(path: &[u8], problem: &'static str) -> UnpackError {
    UnpackError::Entry { path: shown(path), problem }
}

/// A name for people: bounded, and with everything strange escaped by whoever prints it with `{:?}`.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(256)]).into_owned()
}

/// Folder and name of a path from an archive, both without anything that leads elsewhere.
fn split(path: &[u8]) -> Result<(Vec<u8>, Vec<u8>), UnpackError> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(refused(path, "leads out of its folder")),
            _ if part.len() > NAME_MAX => return Err(refused(path, "has a name that is too long")),
            _ => parts.push(part),
        }
    }
    if path.len() > PATH_MAX {
        return Err(refused(path, "has a path that is too long"));
    }
    if path.contains(&0) {
        return Err(refused(path, "has a NUL in its name"));
    }
    let name = parts.pop().unwrap_or_default().to_vec();
    Ok((parts.join(&b'/'), name))
}

impl Tree {
    pub(super) fn new(root: OwnedFd, limits: &Limits) -> Self {
        Self {
            root,
            last: None,
            folders: Vec::new(),
            privileged: rustix::process::geteuid().is_root(),
            depth_max: limits.depth,
            size_max: limits.unpacked_bytes,
            reserve: limits.reserve_bytes,
            // The first entry looks.
            unchecked: SPACE_EVERY,
            stats: Stats::default(),
        }
    }

    /// Makes one entry, with its content.
    pub(super) fn make<R: BufRead>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        self.check_space(4096)?;
        let (folder, name) = split(&entry.path)?;
        if name.is_empty() {
            return self.top(entry);
        }
        if folder.split(|b| *b == b'/').count() >= self.depth_max {
            return Err(refused(&entry.path, "lies too deep"));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(entry, &folder, &name, hidden);
        }
        if entry.kind == Kind::Device {
            self.stats.skipped += 1;
            self.stats.devices += 1;
            return Ok(());
        }
        let parent = self.parent(&folder, &entry.path)?;
        match entry.kind {
            Kind::File => self.file(entry, parent.as_fd(), &name, archive)?,
            Kind::Folder => self.folder(entry, parent.as_fd(), &name)?,
            Kind::SymbolicLink => self.symbolic_link(entry, parent.as_fd(), &name)?,
            Kind::HardLink => self.hard_link(entry, parent.as_fd(), &name)?,
            Kind::Fifo => self.fifo(entry, parent.as_fd(), &name)?,
            Kind::Device => {}
        }
        Ok(())
    }

    /// Sets the times of folders, which every entry in them changed.
    pub(super) fn finish(mut self) -> Result<Stats, UnpackError> {
        for (path, mtime) in std::mem::take(&mut self.folders) {
            // Replaced or removed since: then it has no time to keep.
            if let Ok(folder) = self.resolve(&path) {
                let times = times(mtime);
                let _ = rustix::fs::utimensat(&folder, ".", &times, AtFlags::empty());
            }
        }
        self.stats.bytes += self.stats.inodes * 512;
        Ok(self.stats)
    }

    /// The entry for the layer's own folder.
    fn top(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Folder {
            return Err(refused(&entry.path, "has no name"));
        }
        let root = self.root.try_clone().map_err(|e| failed("open", &entry.path, e))?;
        self.describe(entry, root.as_fd())?;
        self.folders.push((Vec::new(), entry.mtime));
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        if entry.size > self.size_max {
            return Err(UnpackError::TooMuch("it has a file that is too long"));
        }
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let create = || rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let file = self.anew(parent, name, &entry.path, create)?;
        let mut file = File::from(file);
        let write = |e| failed("write", &entry.path, e);
        match &entry.sparse {
            None => self.content(entry, &mut file, u64::MAX, archive)?,
            Some(map) => {
                for (offset, length) in map {
                    file.seek(SeekFrom::Start(*offset)).map_err(write)?;
                    self.content(entry, &mut file, *length, archive)?;
                }
                file.set_len(entry.size).map_err(write)?;
            }
        }
        self.describe(entry, file.as_fd())?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(|e| write(e.into()))?;
        self.stats.inodes += 1;
        Ok(())
    }

    fn folder(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let make = || rustix::fs::mkdirat(parent, name, Mode::RWXU);
        let mut opaque = false;
        match make() {
            Ok(()) => self.stats.inodes += 1,
            Err(Errno::EXIST) if is(parent, name, FileType::Directory) => {}
            Err(Errno::EXIST) => {
                // "Not here any more", and then here again: a new folder that hides the old one's content.
                opaque = is_whiteout(parent, name);
                self.anew(parent, name, &entry.path, make)?;
                self.stats.inodes += 1;
            }
            Err(error) => return Err(failed("make folder", &entry.path, error.into())),
        }
        let folder = open_folder(parent, name).map_err(|e| failed("open", &entry.path, e))?;
        if opaque {
            self.set_opaque(folder.as_fd(), &entry.path)?;
        }
        self.describe(entry, folder.as_fd())?;
        self.stats.bytes += 4096;
        if self.folders.len() < FOLDERS_MAX {
            self.folders.push((entry.path.clone(), entry.mtime));
        }
        Ok(())
    }

    fn symbolic_link(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        // The target is the container's affair: it is resolved in its root, not here.
        if entry.link.is_empty() || entry.link.len() > PATH_MAX {
            return Err(refused(&entry.path, "is a link to an impossible name"));
        }
        let make = || rustix::fs::symlinkat(&entry.link[..], parent, name);
        self.anew(parent, name, &entry.path, make)?;
        let set = |e: Errno| failed("describe", &entry.path, e.into());
        if self.privileged {
            let (uid, gid) = owner(entry);
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(set)?;
        }
        rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(set)?;
        self.stats.inodes += 1;
        Ok(())
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let (folder, target) = split(&entry.link)?;
        let refuse = || refused(&entry.path, "is a hard link to what is not in the layer");
        if target.is_empty() {
            return Err(refuse());
        }
        let from = self.resolve(&folder).map_err(|_| refuse())?;
        // A folder cannot be linked to, and linking to a whiteout would make another one.
        let kind = stat(from.as_fd(), &target).map_err(|_| refuse())?;
        if matches!(kind, FileType::Directory | FileType::CharacterDevice) {
            return Err(refuse());
        }
        if parent::same(from.as_fd(), &target, parent, name) {
            return Ok(());
        }
        // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is one to the link itself.
        let make = || rustix::fs::linkat(&from, &target[..], parent, name, AtFlags::empty());
        self.anew(parent, name, &entry.path, make)
    }

    fn fifo(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let make = || rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
        self.anew(parent, name, &entry.path, make)?;
        let set = |e: Errno| failed("describe", &entry.path, e.into());
        if self.privileged {
            let (uid, gid) = owner(entry);
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(set)?;
        }
        // It was made a moment ago in a folder only this thread knows, so it is no symbolic link.
        let mode = Mode::from_raw_mode(entry.mode);
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).map_err(set)?;
        self.stats.inodes += 1;
        Ok(())
    }

    fn whiteout(
        &mut self,
        entry: &Entry,
        folder: &[u8],
        name: &[u8],
        hidden: &[u8],
    ) -> Result<(), UnpackError> {
        if name == OPAQUE {
            let parent = self.parent(folder, &entry.path)?;
            let parent =
                open_folder(parent.as_fd(), b".").map_err(|e| failed("open", &entry.path, e))?;
            return self.set_opaque(parent.as_fd(), &entry.path);
        }
        if name.starts_with(AUFS) {
            self.stats.skipped += 1;
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(&entry.path, "hides an impossible name"));
        }
        let parent = self.parent(folder, &entry.path)?;
        let parent = parent.as_fd();
        match rustix::fs::mknodat(
            parent,
            hidden,
            FileType::CharacterDevice,
            Mode::empty(),
            makedev(0, 0),
        ) {
            Ok(()) => {
                self.stats.inodes += 1;
                Ok(())
            }
            // It is about what lies below, so a folder of this layer stays, without what lies below.
            Err(Errno::EXIST) if is(parent, hidden, FileType::Directory) => {
                let folder =
                    open_folder(parent, hidden).map_err(|e| failed("open", &entry.path, e))?;
                self.set_opaque(folder.as_fd(), &entry.path)
            }
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(failed("make whiteout", &entry.path, error.into())),
        }
    }

    fn set_opaque(&self, folder: BorrowedFd<'_>, path: &[u8]) -> Result<(), UnpackError> {
        // "trusted" needs rights that tests may not have; there nothing is mounted either.
        let name = if self.privileged { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
        rustix::fs::fsetxattr(folder, name, b"y", XattrFlags::empty())
            .map_err(|e| failed("hide what is below", path, e.into()))
    }

    /// Owner, mode and attributes, in the order in which the kernel does not take one back for another.
    fn describe(&mut self, entry: &Entry, file: BorrowedFd<'_>) -> Result<(), UnpackError> {
        let set = |e: Errno| failed("describe", &entry.path, e.into());
        if self.privileged {
            let (uid, gid) = owner(entry);
            rustix::fs::fchown(file, uid, gid).map_err(set)?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(set)?;
        for (name, value) in &entry.xattrs {
            // The store's own marks (`trusted.overlay.*`, `user.overlay.*`) and labels of security modules are not
            // an image's to set.
            let capability = &name[..] == b"security.capability";
            let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            let allowed = user || (capability && self.privileged);
            if !allowed {
                self.stats.skipped += 1;
                continue;
            }
            match rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOTSUP | Errno::PERM) if user => self.stats.skipped += 1,
                Err(error) => return Err(set(error)),
            }
        }
        Ok(())
    }

    /// Makes something; what has its name goes away first.
    fn anew<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        match make() {
            Err(Errno::EXIST) => {}
            made => return made.map_err(|e| failed("make", path, e.into())),
        }
        // Any folder known by name may now be another one.
        self.last = None;
        parent::remove(parent, name).map_err(|e| failed("replace", path, e))?;
        make().map_err(|e| failed("make", path, e.into()))
    }

    /// Looks at the free space from time to time: others write to this file system, too.
    fn check_space(&mut self, more: u64) -> Result<(), UnpackError> {
        self.unchecked += more;
        if self.unchecked < SPACE_EVERY {
            return Ok(());
        }
        self.unchecked = 0;
        let free = rustix::fs::fstatvfs(&self.root)
            .map_err(|e| failed("look at the free space for", b"", e.into()))?;
        if free.f_bavail.saturating_mul(free.f_frsize) < self.reserve {
            return Err(UnpackError::Full { reserve: self.reserve });
        }
        Ok(())
    }
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn stat(parent: BorrowedFd<'_>, name: &[u8]) -> Result<FileType, Errno> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn is(parent: BorrowedFd<'_>, name: &[u8], kind: FileType) -> bool {
    stat(parent, name).is_ok_and(|found| found == kind)
}

/// Devices are never made here except as whiteouts.
fn is_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    is(parent, name, FileType::CharacterDevice)
}

fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}
