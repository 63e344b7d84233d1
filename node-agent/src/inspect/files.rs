//! Files for inspection: listing and reading, with the paths that hold secrets refused. What is refused is decided on the
//! path the kernel really opened, so no link leads around it.

use ingot_linux::inspect::{Found, InspectError};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Bytes of one piece of a file.
const PIECE: usize = 64 * 1024;
/// Entries of one listing at most.
const ENTRIES_MAX: usize = 500_000;
/// Levels of one listing at most.
const DEPTH_MAX: usize = 64;

/// Trees that hold secrets of the node or of pods, and files whose reading does something.
const SECRET_TREES: &[&str] = &[
    "/dev",
    "/state/ingot",
    // Specs of containers hold the values of their environment.
    "/run/ingot/bundles",
    "/var/lib/ingot/containers",
    "/run/ingot/drive",
    "/usr/share/ingot/config.yaml",
    "/proc/kcore",
    "/proc/kmsg",
    "/proc/keys",
    "/proc/vmcore",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
    "/sys/firmware/efi/efivars",
    "/sys/fs/pstore",
];
/// Files below `/proc/PID` (and `/proc/PID/task/TID`) that hold what a process keeps to itself.
const SECRET_PROCESS_FILES: &[&str] =
    &["environ", "mem", "auxv", "pagemap", "clear_refs", "syscall", "stack", "personality"];
/// Endings of files that hold private keys.
const SECRET_ENDINGS: &[&str] = &["key", "p12", "pfx", "jks"];

/// Why a file is not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It holds secrets.
    #[error("{path} holds secrets of the node")]
    Secret { path: PathBuf },
    /// It could not be opened.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// It could not be read.
    #[error("read {path}")]
    Read { path: PathBuf, source: std::io::Error },
}

/// An entry of a listing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) modified_seconds: i64,
    pub(crate) link_target: Option<PathBuf>,
    pub(crate) error: Option<String>,
}

/// Whether a path, free of links, holds secrets.
pub(crate) fn is_secret(path: &Path) -> bool {
    if SECRET_TREES.iter().any(|tree| path.starts_with(tree)) {
        return true;
    }
    if let Ok(rest) = path.strip_prefix("/proc") {
        let parts: Vec<&str> = rest.iter().filter_map(OsStr::to_str).collect();
        let of_process = parts.first().is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
        let file = match parts.as_slice() {
            [_, "task", _, file, ..] | [_, file, ..] if of_process => *file,
            _ => return false,
        };
        return SECRET_PROCESS_FILES.contains(&file);
    }
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    SECRET_ENDINGS.contains(&ending)
}

fn resolve(path: &Path) -> Result<Found, FileError> {
    let found = Found::resolve(path)?;
    if is_secret(found.path()) {
        return Err(FileError::Secret { path: found.path().into() });
    }
    Ok(found)
}

/// Reads a regular file in pieces until its end, `limit` (0 for none) or until `each` says that it has enough.
pub(crate) fn read(
    path: &Path,
    offset: u64,
    limit: u64,
    each: &mut dyn FnMut(Result<Vec<u8>, FileError>) -> bool,
) {
    let opened = resolve(path).and_then(|found| Ok(found.read()?));
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            each(Err(error));
            return;
        }
    };
    let mut left = if limit == 0 { u64::MAX } else { limit };
    let mut at = offset;
    while left > 0 {
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        // Files of procfs and sysfs are generated for each reader, and some only from the beginning.
        let result = if at == 0 { (&file).read(&mut piece) } else { file.read_at(&mut piece, at) };
        match result {
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                at += length as u64;
                left -= length as u64;
                if !each(Ok(piece)) {
                    return;
                }
            }
            Err(source) => {
                each(Err(FileError::Read { path: path.into(), source }));
                return;
            }
        }
    }
}

/// Lists what is below a directory (or the file itself), depth first by name, until `each` has enough. What cannot be
/// shown below it is an entry with an error, and the listing goes on.
pub(crate) fn list(
    path: &Path,
    recursive: bool,
    one_file_system: bool,
    each: &mut dyn FnMut(Result<Listed, FileError>) -> bool,
) {
    let start = resolve(path).and_then(|found| Ok((found.stat()?, found)));
    let (stat, found) = match start {
        Ok(start) => start,
        Err(error) => {
            each(Err(error));
            return;
        }
    };
    if !is_folder(&stat) {
        each(Ok(entry(found.path().into(), &stat)));
        return;
    }
    let device = one_file_system.then_some(stat.st_dev);
    let mut walk = Walk { recursive, device, left: ENTRIES_MAX, each };
    walk.folder(found.path(), 0);
}

struct Walk<'a> {
    recursive: bool,
    device: Option<u64>,
    left: usize,
    each: &'a mut dyn FnMut(Result<Listed, FileError>) -> bool,
}

impl Walk<'_> {
    /// Says whether to go on.
    fn folder(&mut self, path: &Path, depth: usize) -> bool {
        let listing = match std::fs::read_dir(path) {
            Ok(listing) => listing,
            Err(error) => return self.problem(path, error.to_string()),
        };
        let mut paths: Vec<PathBuf> = listing.flatten().map(|item| item.path()).collect();
        paths.sort();
        paths.iter().all(|path| self.one(path, depth))
    }

    fn one(&mut self, path: &Path, depth: usize) -> bool {
        if self.left == 0 {
            self.problem(path, format!("more than {ENTRIES_MAX} entries; list a part of the tree"));
            return false;
        }
        self.left -= 1;
        // That something is there, how large it is and whose, is no secret.
        let found = Found::resolve_no_follow(path).and_then(|found| Ok((found.stat()?, found)));
        let (stat, found) = match found {
            Ok(found) => found,
            // It went away since it was listed.
            Err(InspectError::Open { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return true;
            }
            Err(error) => return self.problem(path, crate::report::chain(&error)),
        };
        let mut listed = entry(path.into(), &stat);
        let inside = self.device.is_none_or(|device| device == stat.st_dev);
        let enter = self.recursive && is_folder(&stat) && inside && depth < DEPTH_MAX;
        let secret = is_secret(found.path());
        if enter && secret {
            let error = FileError::Secret { path: found.path().into() };
            listed.error = Some(error.to_string());
        }
        if stat.st_mode & 0o170_000 == 0o120_000 {
            listed.link_target = std::fs::read_link(path).ok();
        }
        if !(self.each)(Ok(listed)) {
            return false;
        }
        if enter && !secret {
            return self.folder(path, depth + 1);
        }
        true
    }

    fn problem(&mut self, path: &Path, error: String) -> bool {
        (self.each)(Ok(Listed { path: path.into(), error: Some(error), ..Listed::default() }))
    }
}

fn is_folder(stat: &rustix::fs::Stat) -> bool {
    stat.st_mode & 0o170_000 == 0o040_000
}

fn entry(path: PathBuf, stat: &rustix::fs::Stat) -> Listed {
    Listed {
        path,
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size.try_into().unwrap_or(0),
        modified_seconds: stat.st_mtime,
        link_target: None,
        error: None,
    }
}

#[cfg(test)]
mod tests;
