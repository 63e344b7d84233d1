//! Writing a volume of files, with the layout that the kubelet has: the files are in a hidden folder, `..data` leads to it,
//! and each name leads through `..data`. Exchanging `..data` exchanges all files at once.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Files;

/// The link that all others go through.
const DATA: &str = "..data";

/// Name of a link before it takes the place of [`DATA`].
const DATA_NEW: &str = "..data_new";

/// Whom the files belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    /// User and group that are root in the pod.
    pub(crate) root: u32,
    /// Group that may read them besides, as it is on the node.
    pub(crate) group: Option<u32>,
}

/// A volume could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write {path}")]
pub(crate) struct WriteError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Makes `folder` show `files` and nothing else. False when it does already. Blocks.
pub(crate) fn write(folder: &Path, files: &Files, owner: Owner) -> Result<bool, WriteError> {
    make_folder(folder, owner)?;
    let old = std::fs::read_link(folder.join(DATA)).ok();
    if let Some(old) = &old
        && is_the_same(&folder.join(old), files)
    {
        return Ok(false);
    }
    let name = fresh_name(folder);
    let new = folder.join(&name);
    make_folder(&new, owner)?;
    for (path, file) in files {
        let path = new.join(path);
        make_parents(&new, &path, owner)?;
        write_file(&path, &file.bytes, file.mode, owner)?;
    }
    let link = folder.join(DATA_NEW);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError { path, source }
    };
    remove(&link)?;
    std::os::unix::fs::symlink(&name, &link).map_err(failed(&link))?;
    std::fs::rename(&link, folder.join(DATA)).map_err(failed(&link))?;
    show(folder, files, &name)?;
    Ok(true)
}

/// Makes the names that lead through `..data`, and removes those and the folders that nothing leads to any more.
fn show(folder: &Path, files: &Files, current: &str) -> Result<(), WriteError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError { path, source }
    };
    let tops: BTreeSet<&str> =
        files.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
    for top in &tops {
        let link = folder.join(top);
        if std::fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(Path::new(DATA).join(top), &link).map_err(failed(&link))?;
        }
    }
    for entry in std::fs::read_dir(folder).map_err(failed(folder))?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name != DATA && name != current && !tops.contains(name) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether a hidden folder holds exactly these files.
fn is_the_same(folder: &Path, files: &Files) -> bool {
    let same = |(path, file): (&String, &super::File)| {
        let path = folder.join(path);
        let mode = std::fs::symlink_metadata(&path).map(|m| m.permissions().mode() & 0o777);
        // A group adds to the mode, and does not change without the whole pod.
        mode.is_ok_and(|mode| mode & file.mode == file.mode)
            && std::fs::read(&path).is_ok_and(|bytes| bytes == file.bytes)
    };
    count(folder) == files.len() && files.iter().all(same)
}

fn count(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count(&entry.path()),
            _ => 1,
        })
        .sum()
}

fn fresh_name(folder: &Path) -> String {
    let mut number = 1_u64;
    loop {
        let name = format!("..{number}");
        if std::fs::symlink_metadata(folder.join(&name)).is_err() {
            return name;
        }
        number += 1;
    }
}

fn make_parents(root: &Path, path: &Path, owner: Owner) -> Result<(), WriteError> {
    let mut missing: Vec<&Path> = Vec::new();
    let mut parent = path.parent();
    while let Some(folder) = parent.filter(|folder| *folder != root && !folder.exists()) {
        missing.push(folder);
        parent = folder.parent();
    }
    missing.into_iter().rev().try_for_each(|folder| make_folder(folder, owner))
}

fn make_folder(path: &Path, owner: Owner) -> Result<(), WriteError> {
    let failed = |source| WriteError { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed)?;
    give(path, 0o755, owner)
}

fn write_file(path: &Path, bytes: &[u8], mode: u32, owner: Owner) -> Result<(), WriteError> {
    let failed = |source| WriteError { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    // The kubelet's rule: a group that owns a volume may read all of it.
    give(path, if owner.group.is_some() { mode | 0o440 } else { mode }, owner)
}

fn give(path: &Path, mode: u32, owner: Owner) -> Result<(), WriteError> {
    let failed = |source| WriteError { path: path.to_owned(), source };
    let group = owner.group.unwrap_or(owner.root);
    if (owner.root, group) != (0, 0) {
        std::os::unix::fs::lchown(path, Some(owner.root), Some(group)).map_err(failed)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
}

fn remove(path: &Path) -> Result<(), WriteError> {
    let failed = |source| WriteError { path: path.to_owned(), source };
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let removed =
        if kind.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.map_err(failed)
}
