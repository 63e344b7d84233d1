//! Into a container: an archive becomes files.

use super::{CopyError, DEPTH_MAX};
use ingot_linux::beneath::{self, Kind};
use ingot_linux::inside;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// Name of a file while it arrives.
const ARRIVING: &str = ".ingot-copy";

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Files, folders and links.
    pub(crate) entries: u64,
    /// In files.
    pub(crate) bytes: u64,
}

/// Where an archive goes.
struct Place {
    root: OwnedFd,
    /// Path of the folder, in the container.
    folder: PathBuf,
    /// New first name of everything.
    name: Option<OsString>,
    /// User and group of what is made.
    owner: (u32, u32),
}

/// Unpacks an archive at `path` below `root`: below it when it is a folder, else in place of the archive's first name. What is made belongs
/// to `owner`. A file that is there is replaced in one step, a folder that is there is added to.
pub(crate) fn unpack(
    root: &Path,
    path: &Path,
    owner: (u32, u32),
    from: impl Read,
) -> Result<Unpacked, CopyError> {
    let place = place(root, path, owner)?;
    let mut done = Unpacked::default();
    let mut archive = Archive::new(from);
    for entry in archive.entries().map_err(CopyError::Archive)? {
        let mut entry = entry.map_err(CopyError::Archive)?;
        let name = entry.path().map_err(CopyError::Archive)?.into_owned();
        let (folder, last) = place.of(&name)?;
        let Some(last) = last else { continue };
        done.bytes += place.make(&mut entry, &name, &folder, &last)?;
        done.entries += 1;
    }
    Ok(done)
}

fn place(root: &Path, path: &Path, owner: (u32, u32)) -> Result<Place, CopyError> {
    let root = beneath::folder(root).map_err(CopyError::Root)?;
    let is_folder = |path: &Path| {
        let found = beneath::resolve(&root, path)?;
        Ok::<_, io::Error>(beneath::kind(&found)? == Kind::Folder)
    };
    if is_folder(path).unwrap_or(false) {
        return Ok(Place { root, folder: path.to_owned(), name: None, owner });
    }
    let wrong = || CopyError::Path { path: path.to_owned() };
    let name = path.file_name().ok_or_else(wrong)?.to_owned();
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    match is_folder(&folder) {
        Ok(true) => Ok(Place { root, folder, name: Some(name), owner }),
        Ok(false) => Err(wrong()),
        Err(source) => Err(CopyError::inside("open", folder, source)),
    }
}

impl Place {
    /// Folder and name of an entry, in the container. No name: the place itself.
    fn of(&self, entry: &Path) -> Result<(PathBuf, Option<OsString>), CopyError> {
        let refuse = |why| CopyError::Entry { path: entry.to_owned(), why };
        let mut names = Vec::new();
        for component in entry.components() {
            match component {
                Component::Normal(name) => names.push(name.to_owned()),
                Component::CurDir => {}
                _ => return Err(refuse("a path that leads elsewhere")),
            }
        }
        if names.len() > DEPTH_MAX {
            return Err(CopyError::Deep { path: entry.to_owned() });
        }
        if let (Some(first), Some(name)) = (names.first_mut(), &self.name) {
            first.clone_from(name);
        }
        let last = names.pop();
        Ok((names.iter().fold(self.folder.clone(), |path, name| path.join(name)), last))
    }

    /// Makes one entry; returns the bytes of a file.
    fn make(
        &self,
        entry: &mut Entry<'_, impl Read>,
        name: &Path,
        folder: &Path,
        last: &OsStr,
    ) -> Result<u64, CopyError> {
        let path = folder.join(last);
        let inside = |what| move |source| CopyError::inside(what, path.clone(), source);
        let parent =
            self.folder(folder).map_err(|source| CopyError::inside("open", folder, source))?;
        if inside::is_kernel_view(&parent).map_err(inside("look at"))? {
            return Err(CopyError::Kernel { path: folder.to_owned() });
        }
        let path = folder.join(last);
        let inside = |what| move |source| CopyError::inside(what, path.clone(), source);
        match entry.header().entry_type() {
            EntryType::Directory => {
                let mode = entry.header().mode().unwrap_or(0o755);
                self.make_folder(&parent, last, mode).map_err(inside("make"))?;
                Ok(0)
            }
            EntryType::Regular | EntryType::Continuous => {
                self.make_file(&parent, last, entry).map_err(inside("write"))
            }
            EntryType::Symlink => {
                let target = entry.link_name().map_err(CopyError::Archive)?.unwrap_or_default();
                self.swap(&parent, last, |temporary| {
                    inside::make_link(&parent, temporary, target.as_os_str())
                })
                .map_err(inside("make"))?;
                Ok(0)
            }
            EntryType::Link => {
                let target = entry.link_name().map_err(CopyError::Archive)?.unwrap_or_default();
                let (target_folder, target) = self.of(&target)?;
                let target = target_folder.join(target.unwrap_or_default());
                let found = beneath::resolve(&self.root, &target).map_err(inside("open"))?;
                inside::remove(&parent, last)
                    .map_err(|e| CopyError::inside("replace", folder, e))?;
                inside::make_name(found, &parent, last)
                    .map_err(|e| CopyError::inside("link", folder, e))?;
                Ok(0)
            }
            EntryType::XGlobalHeader => Ok(0),
            _ => {
                let why = "which is neither file, folder nor link";
                Err(CopyError::Entry { path: name.to_owned(), why })
            }
        }
    }

    /// Opens a folder, making those that are missing.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        match beneath::resolve(&self.root, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(error);
                };
                // Bounded: entries have few names, and the place itself is there.
                let parent = self.folder(parent)?;
                self.make_folder(&parent, name, 0o755)?;
                beneath::resolve(&self.root, path)
            }
            found => found,
        }
    }

    fn make_folder(&self, parent: &OwnedFd, name: &OsStr, mode: u32) -> io::Result<()> {
        match inside::make_folder(parent, name, mode) {
            Ok(()) => inside::own(parent, name, self.owner),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = inside::at(parent, name)?;
                // A link to a folder is a folder to whoever unpacks, as it is for cp and tar.
                match beneath::kind(&found)? {
                    Kind::Folder => Ok(()),
                    _ if matches!(inside::stat(&found)?.entry, inside::Entry::Link { .. }) => {
                        Ok(())
                    }
                    _ => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn make_file(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &mut Entry<'_, impl Read>,
    ) -> io::Result<u64> {
        let (mode, modified) =
            (entry.header().mode().unwrap_or(0o644), entry.header().mtime().ok());
        let mut bytes = 0;
        self.swap(parent, name, |temporary| {
            let mut file = inside::make_file(parent, temporary)?;
            bytes = io::copy(entry, &mut file)?;
            if bytes != entry.size() {
                // The archive was cut; half a file is put nowhere.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            inside::own(parent, temporary, self.owner)?;
            inside::finish(&file, mode, modified)
        })?;
        Ok(bytes)
    }

    /// Makes something under another name and puts it in place in one step.
    fn swap(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        make: impl FnOnce(&OsStr) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut bytes = [0; 8];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
            .map_err(|_| io::Error::other("no random numbers"))?;
        let temporary = OsString::from(format!("{ARRIVING}-{:016x}", u64::from_ne_bytes(bytes)));
        let made = make(&temporary).and_then(|()| inside::replace(parent, name, &temporary));
        if made.is_err() {
            // The first error says more.
            let _also = inside::remove(parent, &temporary);
        }
        made
    }
}
