//! The files that the lines of one run go to: which one it is now, when it is full, and how far it has come when a former
//! agent was killed.
//!
//! Two kinds: files that we rotate ourselves, and one file whose path somebody else chose and who rotates it by renaming it
//! and asking us to open the path again. It knows nothing of spools.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::writer::index;
use super::{LogLimits, format};

/// Where the log of one run goes.
#[derive(Clone, Debug)]
pub(crate) enum LogTarget {
    /// Files of our own, rotated by us.
    Rotated(LogPaths, LogLimits),
    /// One file. Whoever chose its path renames it and then has us reopen it.
    File {
        /// Absolute; the folder is made when it is absent.
        path: PathBuf,
        /// Folder of spools and checkpoint, on tmpfs.
        scratch: PathBuf,
    },
    /// No log is kept.
    Nowhere {
        /// Folder of the spools, on tmpfs.
        scratch: PathBuf,
    },
}

impl LogTarget {
    /// Folder of spools and checkpoint.
    pub(super) fn scratch(&self) -> &Path {
        match self {
            Self::Rotated(paths, _) => &paths.scratch,
            Self::File { scratch, .. } | Self::Nowhere { scratch } => scratch,
        }
    }
}

/// Where the files of one run are that we rotate.
#[derive(Clone, Debug)]
pub(crate) struct LogPaths {
    /// Folder of the log files, on VAR.
    pub(crate) logs: PathBuf,
    /// Folder of spools and checkpoint, on tmpfs.
    pub(crate) scratch: PathBuf,
    /// Number of the run.
    pub(crate) attempt: u32,
}

impl LogPaths {
    /// The file being written.
    pub(crate) fn current(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.attempt))
    }

    /// A file that is full.
    pub(crate) fn rotated(&self, segment: u32) -> PathBuf {
        self.logs.join(format!("{}.log.{segment}", self.attempt))
    }
}

/// At `length` bytes of segment `segment`, so many bytes of each stream were in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) segment: u32,
    pub(super) length: u64,
    /// Standard output, standard error.
    pub(super) formatted: [u64; 2],
    /// Device and inode of a file that others rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<(u64, u64)>,
}

/// The file being written.
pub(super) enum Place {
    Rotated {
        paths: LogPaths,
        limits: LogLimits,
        file: File,
    },
    /// `None`: it could not be opened when a former agent's run was taken over, which must not end the run.
    Given {
        path: PathBuf,
        file: Option<File>,
    },
    Nowhere,
}

impl Place {
    /// Opens what `saved` speaks of. `begins`: nothing of this run was ever written. Says where the log stands.
    pub(super) fn open(
        target: LogTarget,
        saved: Checkpoint,
        begins: bool,
    ) -> io::Result<(Self, Checkpoint)> {
        match target {
            LogTarget::Rotated(paths, limits) => {
                super::prune::earlier(&paths.logs, paths.attempt, limits);
                if begins {
                    // Whatever carries our number was written by a run of an earlier life of this pod, and would be counted
                    // as bytes of this one.
                    super::prune::from(&paths.logs, paths.attempt);
                }
                finish_rotation(&paths, saved.segment)?;
                let file = open_own(&paths.current())?;
                let now = recount(&file, saved)?;
                Ok((Self::Rotated { paths, limits, file }, now))
            }
            LogTarget::File { path, .. } => open_given(path, saved, begins),
            LogTarget::Nowhere { .. } => Ok((Self::Nowhere, saved)),
        }
    }

    fn file(&self) -> io::Result<Option<&File>> {
        match self {
            Self::Rotated { file, .. } => Ok(Some(file)),
            Self::Given { file: Some(file), .. } => Ok(Some(file)),
            Self::Given { file: None, .. } => Err(io::ErrorKind::NotFound.into()),
            Self::Nowhere => Ok(None),
        }
    }

    /// Writes at `offset`, which is the end.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file()?.map_or(Ok(()), |file| file.write_all_at(bytes, offset))
    }

    /// Cuts what is behind `length`.
    pub(super) fn cut(&self, length: u64) -> io::Result<()> {
        self.file()?.map_or(Ok(()), |file| file.set_len(length))
    }

    /// Whether the file is to be rotated at this length.
    pub(super) fn is_full(&self, length: u64) -> bool {
        matches!(self, Self::Rotated { limits, .. } if length >= limits.file_bytes)
    }

    /// Goes on with the next segment; the checkpoint that says so is on disk already.
    pub(super) fn rotate(&mut self, next: u32) -> io::Result<()> {
        let Self::Rotated { paths, limits, file } = self else { return Ok(()) };
        finish_rotation(paths, next)?;
        *file = open_own(&paths.current())?;
        let kept = limits.files.max(2) - 1;
        if let Some(oldest) = next.checked_sub(kept + 1) {
            // Gone already when an older limit was smaller.
            let _ = std::fs::remove_file(paths.rotated(oldest));
        }
        Ok(())
    }

    /// Whether the file being written has another name by now.
    pub(super) fn is_renamed(&self) -> bool {
        let Self::Given { path, file } = self else { return false };
        let ours = file.as_ref().and_then(|file| identity(file).ok());
        let there = std::fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()));
        ours.is_none() || ours != there.ok()
    }

    /// Opens the path again; `None` when the file there is the one being written. The new file counts only once
    /// [`Place::go_on_with`] is called.
    pub(super) fn reopen(&self) -> io::Result<Option<Reopened>> {
        let Self::Given { path, .. } = self else { return Ok(None) };
        if !self.is_renamed() {
            return Ok(None);
        }
        let new = !path.try_exists()?;
        let file = open_at(path)?;
        let (length, id) = (file.metadata()?.len(), identity(&file)?);
        Ok(Some(Reopened { file, length, id, new }))
    }

    /// Writes to the file that was opened again.
    pub(super) fn go_on_with(&mut self, reopened: Reopened) {
        if let Self::Given { file, .. } = self {
            *file = Some(reopened.file);
        }
    }

    /// Removes a file that [`Place::reopen`] made: the caller is told of a failure and puts the old file back.
    pub(super) fn give_up(&self, reopened: &Reopened) {
        if let (Self::Given { path, .. }, true) = (self, reopened.new) {
            // One that stays is empty, and is replaced by the rename.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file that was opened again.
pub(super) struct Reopened {
    file: File,
    /// Bytes in it already.
    pub(super) length: u64,
    /// Device and inode.
    pub(super) id: (u64, u64),
    new: bool,
}

fn open_given(path: PathBuf, saved: Checkpoint, begins: bool) -> io::Result<(Place, Checkpoint)> {
    let fresh = |file: File| -> io::Result<(File, Checkpoint)> {
        let (length, id) = (file.metadata()?.len(), identity(&file)?);
        Ok((file, Checkpoint { segment: 0, length, formatted: saved.formatted, file: Some(id) }))
    };
    if begins {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let (file, now) = fresh(open_at(&path)?)?;
        return Ok((Place::Given { path, file: Some(file) }, now));
    }
    let found = find(&path, saved.file).and_then(|file| {
        let now = recount(&file, saved)?;
        Ok((file, now))
    });
    match found.or_else(|_| fresh(open_at(&path)?)) {
        Ok((file, now)) => Ok((Place::Given { path, file: Some(file) }, now)),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "open the log of a running container");
            Ok((Place::Given { path, file: None }, Checkpoint { file: None, ..saved }))
        }
    }
}

/// The file that was being written, under its path or, when it was renamed meanwhile, under a name that begins the same.
fn find(path: &Path, id: Option<(u64, u64)>) -> io::Result<File> {
    let absent = || io::Error::from(io::ErrorKind::NotFound);
    let (folder, name) = path.parent().zip(path.file_name()).ok_or_else(absent)?;
    let is_it = |entry: &std::fs::DirEntry| {
        entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes())
            && entry.metadata().is_ok_and(|m| m.is_file() && Some((m.dev(), m.ino())) == id)
    };
    let entry = std::fs::read_dir(folder)?.flatten().find(is_it).ok_or_else(absent)?;
    open_with(&entry.path(), false)
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Renames the file of the segment before `segment`, unless that was done.
pub(super) fn finish_rotation(paths: &LogPaths, segment: u32) -> io::Result<()> {
    let Some(full) = segment.checked_sub(1) else { return Ok(()) };
    let rotated = paths.rotated(full);
    if rotated.try_exists()? {
        return Ok(());
    }
    match std::fs::rename(paths.current(), rotated) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn open_at(path: &Path) -> io::Result<File> {
    open_with(path, true)
}

/// Not through a link (the folder may be mounted into a pod that collects logs), and never something that blocks.
fn open_with(path: &Path, create: bool) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false).mode(0o640);
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Counts what the log holds beyond a checkpoint, and cuts a torn last line.
fn recount(file: &File, from: Checkpoint) -> io::Result<Checkpoint> {
    let mut now = from;
    let end = file.metadata()?.len();
    if end < from.length {
        // Somebody emptied it; what was in it is not our affair any more.
        now.length = end;
        return Ok(now);
    }
    // A run's bytes beyond the checkpoint are few; see CHECKPOINT_EVERY.
    let length = usize::try_from(end.saturating_sub(from.length)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, from.length)?;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        if let Some((stream, length)) = format::stream_length(line)
            && let Some(formatted) = now.formatted.get_mut(index(stream))
        {
            *formatted += length;
        }
        now.length += u64::try_from(line.len()).unwrap_or(0) + 1;
    }
    if now.length < end {
        file.set_len(now.length)?;
    }
    Ok(now)
}
