//! Small files that are either the old or the new version, never a mixture.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Open, write or synchronise the new version.
    #[error("write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Put the new version in place of the old one.
    #[error("replace {path}")]
    Replace {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// How long a write has to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    /// A kill of this process: the page cache is enough.
    Kill,
    /// A loss of power: the bytes are on the disk when this returns.
    PowerLoss,
}

/// Replaces `path` by `bytes` in one step. One writer per path at a time.
pub(crate) fn replace(path: &Path, bytes: &[u8], survives: Survives) -> Result<(), WriteError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let failed = |source| WriteError::Write { path: new.clone(), source };
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    if survives == Survives::PowerLoss {
        file.sync_all().map_err(failed)?;
    }
    let failed = |source| WriteError::Replace { path: path.to_owned(), source };
    std::fs::rename(&new, path).map_err(failed)?;
    if survives == Survives::PowerLoss
        && let Some(folder) = path.parent()
    {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// Has what is at `path` survive a loss of power. True when it is what the caller means, or when there is nothing any more;
/// false when something older is there.
pub(crate) fn sync_if(path: &Path, meant: impl FnOnce(&[u8]) -> bool) -> Result<bool, WriteError> {
    let failed = |source| WriteError::Write { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(source) => return Err(failed(source)),
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &file, &mut bytes).map_err(failed)?;
    if !meant(&bytes) {
        return Ok(false);
    }
    file.sync_all().map_err(failed)?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(true)
}
